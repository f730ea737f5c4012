"""Streams: work on a device that runs ahead of the stream which uses it, and marks of what has come to pass there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from fdsl.stalls import HostMark, Mark


def marks_of(device: torch.device) -> Callable[[], Mark]:
    """What makes marks of this moment: on the host's clock, or of a CUDA device on the stream that is current."""

    def event() -> Mark:
        made: Mark = torch.cuda.Event(enable_timing=True)
        made.record(torch.cuda.current_stream(device))  # type: ignore[attr-defined]
        return made

    return event if device.type == "cuda" else HostMark


def thread_on(device: torch.device) -> tuple[Any, ...]:
    """The initializer and its arguments of a ThreadPoolExecutor whose threads work with that device."""
    # A thread begins on the first GPU, and pinning there would take up its memory for the ranks of all others.
    if device.type != "cuda":
        return ()
    return torch.cuda.set_device, (torch.cuda.current_device() if device.index is None else device.index,)


class SideStream:
    """A CUDA stream on which one thread works ahead, and whose results another stream takes over.

    Nothing here makes the taking thread wait for the GPU: its stream waits. The working thread does wait, once it is as
    far ahead of the GPU as it may be of the taking thread, because that can be hundreds of steps ahead itself, each
    with memory of its own.

    Args:
        device: of type "cuda".
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._taken: torch.cuda.Event | None = None

    @property
    def taken(self) -> torch.cuda.Event | None:
        """When the GPU comes to what was last taken over."""
        return self._taken

    @contextmanager
    def after(self, taken: torch.cuda.Event | None) -> Iterator[None]:
        """What is done inside, in the thread that works ahead, goes to the stream once the GPU has come to `taken`."""
        if taken is not None:
            taken.synchronize()
        with torch.cuda.stream(self._stream):
            yield

    def take(self, tensors: Iterable[torch.Tensor], ready: Any) -> None:
        """The current stream waits for the event `ready`, and then uses tensors that were made on this one.

        Their memory is not used again before it is done with them, whenever the caller lets go of them.
        """
        stream = torch.cuda.current_stream(self._device)
        stream.wait_event(ready)
        for tensor in tensors:
            tensor.record_stream(stream)
        self._taken = torch.cuda.Event(blocking=True)
        self._taken.record(stream)
