"""Batches made ahead on a stream of their own, on a GPU that only notes what it is given to do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from fdsl import Catalog, Composition, Dataset, Feed, RenderSpec
from fdsl.engines import cpu

torch = pytest.importorskip("torch")
from fdsl.streams import SideStream, thread_on  # noqa: E402


class Tensors(cpu.Engine):
    """The cpu engine, but as one that draws into tensors."""

    device = torch.device("cpu")

    def empty(self, shape: tuple[int, ...], dtype: str | None = None) -> Any:
        return torch.empty(shape, dtype=getattr(torch, dtype or "uint8"))

    def draw(self, drawing: Any, spec: Any, palette: Any, seed: int, out: Any) -> None:
        super().draw(drawing, spec, palette, seed, out.numpy())

    def compose(self, pixels: Any, objects: Any, ground: Any, opaque: bool, out: Any, masks: Any) -> None:
        super().compose(pixels.numpy(), objects, ground, opaque, out.numpy(), masks.numpy())


class Gpu:
    """What torch.cuda is to streams: it notes who does what, in order, and comes to events at once or when told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        gpu = self
        self.notes: list[tuple[str, str, Any]] = []
        self.busy = False
        self._current = threading.local()

        class Stream:
            def __init__(self, name: str) -> None:
                self.name = name

            def wait_event(self, event: Event) -> None:
                gpu.notes.append((self.name, "waits for", event))

        class Event:
            def __init__(self, enable_timing: bool = False, blocking: bool = False) -> None:
                self.timed, self.passed = enable_timing, threading.Event()

            def record(self, stream: Stream) -> None:
                gpu.notes.append((stream.name, "comes to", self))
                if not gpu.busy:
                    self.passed.set()

            def query(self) -> bool:
                return self.passed.is_set()

            def synchronize(self) -> None:
                assert self.passed.wait(30)

            def elapsed_time(self, end: Event) -> float:
                assert self.timed
                assert end.timed
                return 250.0

        @contextmanager
        def stream(on: Stream) -> Iterator[None]:
            self._current.stream = on
            yield
            del self._current.stream

        training = Stream("training")
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream("side"))
        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "stream", stream)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda _: getattr(self._current, "stream", training))
        for change in ("pin_memory", "record_stream"):

            def noted(tensor: Any, on: Any = None, change: str = change) -> Any:
                self.note(change, tensor.data_ptr() if on is None else (tensor.data_ptr(), on.name))
                return tensor

            monkeypatch.setattr(torch.Tensor, change, noted)

    def note(self, what: str, of: Any) -> None:
        self.notes.append((torch.cuda.current_stream(None).name, what, of))

    def feed(self, dataset: Dataset, **options: Any) -> Feed:
        """A feed whose device it is; it notes what is drawn."""
        feed = Feed(dataset, engine=Tensors(1), **options)
        feed._side = SideStream(torch.device("cpu"))
        feed._mark = lambda: self.event(enable_timing=True)
        draw = feed._draw

        def noted(position: int, epoch: int) -> Any:
            self.note("draws", position // options["batch_size"])
            return draw(position, epoch)

        feed._draw = noted  # type: ignore[method-assign]
        return feed

    def event(self, **flags: bool) -> Any:
        event = torch.cuda.Event(**flags)
        event.record(torch.cuda.current_stream(None))
        return event

    def of(self, name: str, what: str) -> list[Any]:
        return [of for who, did, of in self.notes if (who, did) == (name, what)]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return Gpu(monkeypatch)


@pytest.fixture
def dataset(catalog: Catalog) -> Dataset:
    return Dataset(catalog, 10, RenderSpec(size=16, points=100))


def test_a_stream_of_its_own_draws_and_the_training_stream_waits_for_it(gpu: Gpu, dataset: Dataset) -> None:
    feed = gpu.feed(dataset, batch_size=8)
    for number, (images, labels) in enumerate(feed):
        drawn = gpu.notes.index(("side", "draws", number))
        ready = next(place for place in range(drawn, len(gpu.notes)) if gpu.notes[place][:2] == ("side", "comes to"))
        waits = gpu.notes.index(("training", "waits for", gpu.notes[ready][2]))
        assert drawn < ready < waits
        # After that wait, and before the caller has them, the allocator learns who uses them.
        for tensor in (images, labels):
            used = ("training", "record_stream", (tensor.data_ptr(), "training"))
            assert used in gpu.notes[waits:]
    assert gpu.of("side", "draws") == list(range(5))
    assert gpu.of("training", "draws") == gpu.of("training", "pin_memory") == []
    assert feed.stats().drawing_s == 5 * 0.25  # by its events, not by what the host takes to launch it


@pytest.mark.parametrize("ahead", [1, 3])
def test_it_draws_no_further_ahead_of_the_gpu_than_of_the_caller(gpu: Gpu, dataset: Dataset, ahead: int) -> None:
    gpu.busy = True
    batches = iter(gpu.feed(dataset, batch_size=4, ahead=ahead))
    taken = []
    for number in range(ahead + 1):  # the caller is this far ahead of a GPU that has come to nothing
        next(batches)
        taken.append(gpu.of("training", "comes to")[-1])
        assert len(gpu.of("side", "draws")) <= ahead + 1, number
    for place in range(10 - ahead - 1):
        waiting = threading.Thread(target=lambda: taken.append((next(batches), gpu.of("training", "comes to")[-1])[1]))
        waiting.start()
        waiting.join(0.05)
        assert waiting.is_alive()
        assert len(gpu.of("side", "draws")) == ahead + 1 + place
        taken[place].passed.set()
        waiting.join(30)
    for event in taken:
        event.passed.set()
    assert list(batches) == []


def test_dense_labels_come_in_one_copy_of_each_kind(gpu: Gpu, catalog: Catalog) -> None:
    spec, composition = RenderSpec(size=16, points=100), Composition(overlap=1)
    dataset = Dataset(catalog, 10, spec, labels=("class", "mask", "boxes"), composition=composition)
    feed = gpu.feed(dataset, batch_size=8, shuffle_seed=None)
    for number, (images, targets) in enumerate(feed):
        expected, others = dataset.batch(range(8 * number, 8 * number + 8))
        assert np.array_equal(images, expected)
        tensors = {name for _, what, name in gpu.notes if what == "record_stream"}
        for target, other in zip(targets, others, strict=True):
            assert {name: tensor.dtype for name, tensor in target.items()} == {
                "labels": torch.int64,
                "boxes": torch.float32,
                "masks": torch.uint8,
            }
            assert all(np.array_equal(target[name], other[name]) for name in other)
            assert {(tensor.data_ptr(), "training") for tensor in target.values()} <= tensors
    assert len(gpu.of("side", "pin_memory")) == 2 * 5  # masks are there already


def test_an_iteration_that_is_left_ends_its_thread(gpu: Gpu, dataset: Dataset) -> None:
    batches = iter(gpu.feed(dataset, batch_size=4))
    next(batches)
    batches.close()
    assert not any(thread.name.startswith("fdsl-feed") for thread in threading.enumerate())


def test_a_thread_works_with_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", print)
    assert thread_on(torch.device("cpu")) == ()
    assert thread_on(torch.device("cuda")) == (print, (3,))
    assert thread_on(torch.device("cuda", 1)) == (print, (1,))
