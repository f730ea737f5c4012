"""What drawing and feeding cost on this machine: the figures of `fdsl bench`."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fdsl.datasets import IndexedPictures
from fdsl.engines.protocol import Engine
from fdsl.order import EpochOrder
from fdsl.progress import Progress
from fdsl.stalls import FeedStats

if TYPE_CHECKING:
    from fdsl.feed import Feed

# Thread counts take turns, so that a busy neighbour slows all of them and not one.
_ROUNDS = 5
_BATCH, _BATCH_BYTES = 256, 64 << 20
# A GPU is waited for so seldom that it always has work.
_BATCHES_AT_ONCE = 16


@dataclass(frozen=True)
class RenderSpeed:
    """What the engine draws with a number of threads.

    Args:
        threads: of one call.
        images: drawn in all rounds.
        images_per_s: the median of the rounds.
    """

    threads: int
    images: int
    images_per_s: float


def render_speed(
    dataset: IndexedPictures, threads: Sequence[int], seconds: float = 5.0, progress: Progress | None = None
) -> list[RenderSpeed]:
    """Draws shuffled pictures into one piece of memory, over and over, with each number of threads.

    Args:
        dataset: what to draw.
        threads: numbers of threads, one result for each.
        seconds: of drawing with each number of threads, in five rounds.
        progress: called with (what, done, total).

    Raises:
        ValueError: `seconds` is not over 0, or a number of threads is not at least 1.

    Example:
        >>> [speed.threads for speed in render_speed(dataset, threads=[1, 2], seconds=1)]
        [1, 2]
    """
    check_seconds(seconds)
    spec, order = dataset.spec, EpochOrder(len(dataset))
    size = max(*threads, 1, min(_BATCH, _BATCH_BYTES // (spec.image_channels * spec.size**2)))
    out = np.empty((size, spec.image_channels, spec.size, spec.size), np.uint8)
    rates: dict[int, list[float]] = {count: [] for count in threads}
    images = dict.fromkeys(threads, 0)
    for round_number in range(_ROUNDS + 1):
        for turn, count in enumerate(rates):
            drawn, began, elapsed = 0, time.perf_counter(), 0.0
            # The first round warms caches and clocks up: one batch, not counted.
            while elapsed < (seconds / _ROUNDS if round_number else 1e-9):
                indices = order.at(np.arange(images[count] + drawn, images[count] + drawn + size) % len(dataset))
                dataset.batch(indices, out=out, threads=count)
                drawn += size
                elapsed = time.perf_counter() - began
            if round_number:
                rates[count].append(drawn / elapsed)
                images[count] += drawn
            if progress:
                progress("drawing", round_number * len(rates) + turn + 1, (_ROUNDS + 1) * len(rates))
    return [RenderSpeed(count, images[count], statistics.median(rates[count])) for count in rates]


def gpu_speed(
    dataset: IndexedPictures,
    engine: Engine,
    batch_size: int = 256,
    seconds: float = 5.0,
    progress: Progress | None = None,
) -> float:
    """Images/s that a GPU draws while it does nothing else; shuffled pictures, into one piece of its memory.

    Args:
        dataset: what to draw.
        engine: of `fdsl.engines.cuda`.
        batch_size: images of a call.
        seconds: of drawing, in five rounds; the median counts.
        progress: called with (what, done, total).

    Raises:
        ValueError: `seconds` is not over 0.

    Example:
        >>> gpu_speed(dataset, engine_for("cuda"), seconds=1) > 0
        True
    """
    import torch

    check_seconds(seconds)
    spec, order = dataset.spec, EpochOrder(len(dataset))
    out, drawn, rates = engine.empty((batch_size, spec.image_channels, spec.size, spec.size)), 0, []
    for round_number in range(_ROUNDS + 1):
        before, began, elapsed = drawn, time.perf_counter(), 0.0
        # The first round compiles kernels and warms clocks up, and is not counted.
        while elapsed < (seconds / _ROUNDS if round_number else 1e-9):
            for _ in range(_BATCHES_AT_ONCE):
                dataset.batch(order.at(np.arange(drawn, drawn + batch_size) % len(dataset)), out=out, engine=engine)
                drawn += batch_size
            if engine.device.type == "cuda":
                torch.cuda.synchronize(engine.device)
            elapsed = time.perf_counter() - began
        rates.append((drawn - before) / elapsed)
        if progress:
            progress("drawing on the GPU", round_number + 1, _ROUNDS + 1)
    return statistics.median(rates[1:])


def feed_speed(
    dataset: IndexedPictures,
    batch_size: int = 256,
    step_s: float = 0.0,
    seconds: float = 5.0,
    *,
    ahead: int = 2,
    threads: int | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> FeedStats:
    """Takes batches from a Feed, as a training loop would whose step takes `step_s`.

    Args:
        dataset: what to draw.
        batch_size: images of a batch.
        step_s: seconds that the consumer takes for a batch; 0 asks for the next one at once.
        seconds: to go on for, after the first batch.
        ahead, threads, device: the Feed's.
        progress: called with (what, done, total).

    Returns:
        What `feed.stats()` says at the end, over as many epochs as it took.

    Raises:
        ValueError: an argument is out of its range.
        ImportError: torch is not installed.
        RuntimeError: the device is not there.

    Example:
        >>> feed_speed(dataset, batch_size=64, step_s=0.1, seconds=1).waiting_share < 0.5
        True
    """
    from fdsl.feed import Feed

    check_seconds(seconds)
    if not 0 <= step_s < float("inf"):
        raise ValueError(f"step_s is {step_s!r}; expected seconds, 0 or more")
    feed = Feed(dataset, batch_size=batch_size, ahead=ahead, threads=threads, device=device)
    with contextlib.closing(_epochs(feed)) as batches:
        next(batches)
        began, now = time.perf_counter(), 0.0
        while now < seconds:
            time.sleep(step_s)
            next(batches)
            now = time.perf_counter() - began
            if progress:
                progress("feeding", min(round(10 * now), round(10 * seconds)), round(10 * seconds))
    return feed.stats()


def _epochs(feed: Feed) -> Generator[Any, None, None]:
    while True:
        yield from feed


def check_seconds(seconds: float) -> None:
    """Raises a ValueError for what is no time to measure in.

    >>> check_seconds(5)
    """
    if not 0 < seconds < float("inf"):
        raise ValueError(f"seconds is {seconds!r}; expected a number over 0")
