"""What a training loop waits for its data, on the clock of the device that trains, and without waiting for that."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from threading import RLock
from typing import Any, Protocol


@dataclass(frozen=True)
class FeedStats:
    """What a feed has cost since it was made, over all its iterations; `since` gives that of a part.

    A step lasts from one batch to the next. On a CUDA device its times are those of the device, which runs behind the
    host: they cover the steps that it has finished, and waiting is the time in which it had nothing left to do.
    Between two iterations (an evaluation, say) no clock runs; the first batch of each later
    iteration is waiting like any other.

    Args:
        images: of the finished steps.
        seconds: that these took, waiting included.
        waited: seconds of those in which the step waited for its batch.
        first_batch_s: seconds from the beginning of the first iteration to its first batch; not in `seconds`.
        requests: batches asked for, without the first.
        ready: batches that lay ready when asked for one, summed over the requests.
        empty: requests that found none ready.
        drawn: images of all batches that were handed over; on a CUDA device, that it has come to.
        drawing_s: seconds that drawing these took, beside the steps; on a CUDA device with the copies, in its time.

    >>> FeedStats(images=1000, seconds=2.0, waited=0.5).waiting_share
    0.25
    """

    images: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    first_batch_s: float = 0.0
    requests: int = 0
    ready: int = 0
    empty: int = 0
    drawn: int = 0
    drawing_s: float = 0.0

    @property
    def images_per_s(self) -> float:
        """Images per second of the finished steps, the caller's own work included."""
        return self.images / self.seconds if self.seconds else 0.0

    @property
    def waiting_share(self) -> float:
        """The part of the steps' time that was spent waiting for data, 0 to 1; without the first batch."""
        return self.waited / self.seconds if self.seconds else 0.0

    @property
    def render_images_per_s(self) -> float:
        """Images per second that drawing alone reaches, on cores or a GPU that it may share with training."""
        return self.drawn / self.drawing_s if self.drawing_s else 0.0

    @property
    def queue_depth(self) -> float:
        """How many batches lay ready when one was asked for, on average; the feed's `ahead` at most."""
        return self.ready / self.requests if self.requests else 0.0

    @property
    def empty_share(self) -> float:
        """The part of the requests that found no batch ready, 0 to 1."""
        return self.empty / self.requests if self.requests else 0.0

    def since(self, earlier: FeedStats) -> FeedStats:
        """What came after `earlier`, an older answer of the same feed: an epoch, or the last hundred steps.

        >>> FeedStats(images=50, seconds=3.0).since(FeedStats(images=20, seconds=1.0)).images_per_s
        15.0
        """
        return FeedStats(*(getattr(self, field.name) - getattr(earlier, field.name) for field in fields(self)))


class Mark(Protocol):
    """A moment on some clock; `torch.cuda.Event` is one, which comes to pass when its stream reaches it."""

    def query(self) -> bool:
        """Whether it has come to pass; at once."""

    def elapsed_time(self, end_event: Any, /) -> float:
        """Milliseconds from this one to a later one, after both."""


class HostMark:
    """This moment on the host's clock."""

    def __init__(self) -> None:
        self.at = time.perf_counter()

    def query(self) -> bool:
        """True: it is over."""
        return True

    def elapsed_time(self, end_event: HostMark, /) -> float:
        """Milliseconds to a later one."""
        return 1e3 * (end_event.at - self.at)


class StallTimer:
    """Sums up the steps of a loop: `begin`; for each batch `ask` and `receive`; at last `end`.

    Args:
        mark: makes a mark of this moment: `HostMark`, or an event recorded on the stream that trains. The loop never
            waits for one: steps are summed up once their marks have come to pass.

    >>> timer = StallTimer(HostMark)
    >>> timer.begin()
    >>> timer.ask(ready=0)
    >>> timer.receive(images=64, drawing_s=lambda: 0.01)
    >>> timer.stats().drawn
    64
    """

    def __init__(self, mark: Callable[[], Mark]) -> None:
        self._mark = mark
        self._sums = FeedStats()
        self._asked: Mark
        self._received: Mark | None = None
        self._images = 0
        self._first = True
        # Steps that may be under way on the device: when they began (None: before the first batch), when the next
        # batch was asked for, when it was there, and their images; the next batch's images, and how long it was drawn.
        self._pending: deque[tuple[Mark | None, Mark, Mark, int, int, Callable[[], float]]] = deque()
        self._lock = RLock()  # a progress bar may ask from a thread of its own

    def begin(self) -> None:
        """An iteration begins; what an unfinished one before it left is forgotten."""
        self._asked, self._received = self._mark(), None

    def ask(self, ready: int) -> None:
        """The caller comes for a batch, and finds so many ready."""
        if self._received is not None:
            self._asked = self._mark()
        if not self._first:
            self._add(requests=1, ready=ready, empty=not ready)

    def receive(self, images: int, drawing_s: Callable[[], float]) -> None:
        """The batch is there, with so many images, which took so many seconds to draw: asked for when that is known."""
        received = self._mark()
        self._step_to(received, images, drawing_s)
        self._received, self._images, self._first = received, images, False

    def end(self) -> None:
        """The caller came back from its last step."""
        if self._received is not None:
            self._asked = self._mark()
            self._step_to(self._asked, 0, float)

    def _step_to(self, received: Mark, drawn: int, drawing_s: Callable[[], float]) -> None:
        began = None if self._first else self._received or self._asked
        images = self._images if self._received else 0
        self._pending.append((began, self._asked, received, images, drawn, drawing_s))
        self.stats()  # so that no more steps are kept than the device is behind

    def _add(self, **amounts: float) -> None:
        with self._lock:
            sums = {name: getattr(self._sums, name) + amount for name, amount in amounts.items()}
            self._sums = replace(self._sums, **sums)

    def stats(self) -> FeedStats:
        """The sums so far, of the steps that the device has finished."""
        with self._lock:
            while self._pending and self._pending[0][2].query():
                began, asked, received, images, drawn, drawing_s = self._pending.popleft()
                self._add(drawn=drawn, drawing_s=drawing_s())
                waited = asked.elapsed_time(received) / 1e3
                if began is None:
                    self._add(first_batch_s=waited)
                else:
                    self._add(images=images, seconds=began.elapsed_time(received) / 1e3, waited=waited)
            return self._sums
