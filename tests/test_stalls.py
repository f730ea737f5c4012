from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakSet

import pytest

from fdsl import Catalog, Dataset, RenderSpec
from fdsl.stalls import FeedStats, HostMark, StallTimer


class Event:
    """What torch.cuda.Event is, of a simulated device."""

    def __init__(self) -> None:
        self.at: float | None = None

    def query(self) -> bool:
        return self.at is not None

    def elapsed_time(self, end_event: Event) -> float:
        assert self.at is not None, "asked for the time of an event that has not come to pass"
        assert end_event.at is not None, "asked for the time of an event that has not come to pass"
        return 1e3 * (end_event.at - self.at)


class Device:
    """Works off a queue in a thread of its own, as a GPU works off a stream."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[float | Event | threading.Event | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            if isinstance(work, Event):
                work.at = time.perf_counter()
            elif isinstance(work, threading.Event):
                work.set()
            else:
                time.sleep(work)

    def busy(self, seconds: float) -> None:
        self._work.put(seconds)

    def mark(self) -> Event:
        event = Event()
        self._work.put(event)
        return event

    def synchronize(self) -> None:
        done = threading.Event()
        self._work.put(done)
        assert done.wait(30)

    def end(self) -> None:
        self._work.put(None)
        self._thread.join(30)


@pytest.fixture
def device() -> Iterator[Device]:
    device = Device()
    yield device
    device.end()


def loop(timers: list[StallTimer], batches: int, get: Callable[[], Any], step: Callable[[], Any]) -> list[FeedStats]:
    for timer in timers:
        timer.begin()
    for _ in range(batches):
        for timer in timers:
            timer.ask(ready=0)
        get()
        for timer in timers:
            timer.receive(8, float)
        step()
    for timer in timers:
        timer.end()
    return [timer.stats() for timer in timers]


class TestTimer:
    def test_a_device_that_waits_for_its_copies_is_seen_where_the_host_sees_nothing(self, device: Device) -> None:
        def step() -> None:
            device.busy(0.03)
            device.synchronize()  # what looking at a loss does

        # The copy is only queued: the host goes on at once, and the device is at it for half of its time.
        timers = [StallTimer(HostMark), StallTimer(device.mark)]
        host = loop(timers, 10, get=lambda: device.busy(0.03), step=step)[0]
        device.synchronize()
        truth = timers[1].stats()
        assert host.waiting_share < 0.1
        assert 0.3 < truth.waiting_share < 0.7
        assert host.images == truth.images == 80

    def test_a_host_that_waits_ahead_of_a_busy_device_costs_nothing(self, device: Device) -> None:
        timers = [StallTimer(HostMark), StallTimer(device.mark)]
        host = loop(timers, 10, get=lambda: time.sleep(0.02), step=lambda: device.busy(0.06))[0]
        assert host.waiting_share > 0.8
        device.synchronize()
        truth = timers[1].stats()
        assert truth.waiting_share < 0.2
        assert truth.seconds > host.seconds
        assert truth.first_batch_s > 0.015

    def test_it_never_waits_for_the_device(self, device: Device) -> None:
        timer = StallTimer(device.mark)
        began = time.perf_counter()
        loop([timer], 5, get=lambda: None, step=lambda: device.busy(0.2))
        assert timer.stats().images < 40
        assert time.perf_counter() - began < 0.5  # of a second
        device.synchronize()
        assert timer.stats().images == 40

    def test_it_keeps_no_more_marks_than_the_device_is_behind(self) -> None:
        marks: WeakSet[HostMark] = WeakSet()

        def mark() -> HostMark:
            marks.add(new := HostMark())
            return new

        loop([StallTimer(mark)], 1000, get=lambda: None, step=lambda: None)
        assert len(marks) < 8

    def test_what_lies_between_iterations_is_not_counted(self) -> None:
        timer = StallTimer(HostMark)
        for _ in range(3):
            stats = loop([timer], 2, get=lambda: time.sleep(0.01), step=lambda: time.sleep(0.01))[0]
            time.sleep(0.3)
        assert stats.seconds < 0.3
        assert stats.images == 48
        assert stats.requests == 5

    def test_an_iteration_that_is_left_loses_its_last_step(self) -> None:
        timer = StallTimer(HostMark)
        timer.begin()
        timer.ask(0)
        timer.receive(8, float)
        time.sleep(0.2)
        stats = loop([timer], 3, get=lambda: None, step=lambda: None)[0]
        assert stats.images == 24
        assert stats.seconds < 0.2

    def test_figures_of_nothing_are_nought(self) -> None:
        stats = StallTimer(HostMark).stats()
        assert (stats.images_per_s, stats.waiting_share, stats.render_images_per_s) == (0, 0, 0)
        assert (stats.queue_depth, stats.empty_share) == (0, 0)


BATCH = 4


@pytest.fixture
def slow_feed(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A Feed of ten batches an epoch whose drawing takes so many seconds each."""
    pytest.importorskip("torch")
    from fdsl import Feed

    drawn = Feed._draw

    def feed(*delays: float, **options: Any) -> Feed:
        def draw(self: Feed, position: int, epoch: int) -> Any:
            time.sleep(delays[min(position // BATCH, len(delays) - 1)])
            return drawn(self, position, epoch)

        monkeypatch.setattr(Feed, "_draw", draw)
        return Feed(Dataset(catalog, 10, RenderSpec(size=32, points=500)), batch_size=BATCH, **options)

    return feed


class TestFeed:
    def test_a_slow_producer_is_waited_for(self, slow_feed: Callable[..., Any]) -> None:
        feed = slow_feed(0.06)
        for _ in feed:
            time.sleep(0.02)
        stats = feed.stats()
        assert 0.4 < stats.waiting_share < 0.9  # two thirds
        assert stats.images == stats.drawn == 40
        assert stats.images_per_s == pytest.approx(stats.images / stats.seconds)
        assert stats.images_per_s < BATCH / 0.04
        assert BATCH / 0.12 < stats.render_images_per_s <= BATCH / 0.06
        assert stats.empty_share > 0.7
        assert stats.queue_depth < 0.3

    def test_a_slow_consumer_waits_for_nothing(self, slow_feed: Callable[..., Any]) -> None:
        feed = slow_feed(0.01, ahead=3)
        for _ in feed:
            time.sleep(0.05)
        stats = feed.stats()
        assert stats.waiting_share < 0.3
        assert stats.empty_share < 0.3
        assert stats.queue_depth > 1.3  # of three; the last requests of an epoch find fewer
        assert stats.render_images_per_s > stats.images_per_s

    def test_the_first_batch_is_a_figure_of_its_own(self, slow_feed: Callable[..., Any]) -> None:
        feed = slow_feed(0.5, 0.0)
        for _ in feed:
            time.sleep(0.02)
        stats = feed.stats()
        assert stats.first_batch_s > 0.5
        assert stats.waiting_share < 0.3
        assert stats.requests == 9

    def test_a_part_has_figures_of_its_own(self, slow_feed: Callable[..., Any]) -> None:
        feed = slow_feed(0.0)
        list(feed)
        before = feed.stats()
        for _ in feed:
            time.sleep(0.03)
        after = feed.stats()
        assert after.images == 80
        assert after.since(before).images == 40
        assert after.since(before).seconds > 0.3
        assert after.since(before).first_batch_s == 0

    def test_a_step_under_way_is_not_counted_yet(self, slow_feed: Callable[..., Any]) -> None:
        feed = slow_feed(0.0)
        images = [feed.stats().images for _ in feed]
        assert images == [BATCH * number for number in range(10)]
        assert feed.stats().images == 40

    def test_on_a_device_that_is_behind_its_own_time_counts(
        self, slow_feed: Callable[..., Any], device: Device
    ) -> None:
        shares = []
        for producer, consumer in ((0.02, 0.05), (0.05, 0.02)):
            feed = slow_feed(producer)
            feed._timer = StallTimer(device.mark)
            for _ in feed:
                device.busy(consumer)
            device.synchronize()
            shares.append(feed.stats().waiting_share)
            assert feed.stats().images == 40
        assert shares[0] < 0.3  # a host's clock says 1 to both
        assert 0.4 < shares[1] < 0.8  # three fifths

    @pytest.mark.gpu
    def test_a_gpu_that_starves_and_one_that_is_busy(self, slow_feed: Callable[..., Any]) -> None:
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("no GPU: its events not run")
        ticks = 20_000_000
        torch.cuda._sleep(ticks)
        torch.cuda.synchronize()
        began = time.perf_counter()
        torch.cuda._sleep(ticks)
        torch.cuda.synchronize()
        ticks = int(ticks * 0.05 / (time.perf_counter() - began))  # 50 ms
        shares = []
        for producer, consumer in ((0.02, ticks), (0.05, ticks * 2 // 5)):
            feed = slow_feed(producer, device="cuda")
            for _ in feed:
                torch.cuda._sleep(consumer)
            torch.cuda.synchronize()
            shares.append(feed.stats().waiting_share)
            assert feed.stats().images == 40
        assert shares[0] < 0.3
        assert 0.4 < shares[1] < 0.8
