"""The cuda engine: whole batches drawn into torch tensors on a GPU, by kernels/cuda; the cpu engine's bytes."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fdsl.engines import cuda_plans
from fdsl.engines.cpu import spec_record
from fdsl.engines.cuda_gpu import Gpu
from fdsl.engines.pixel_format import PixelFormat
from fdsl.primitives import Drawing
from fdsl.rendering import RenderSpec

# isort: split
import torch

_OUTSIDE_BYTES = 256 << 20  # of cells that lie in the GPU's memory, at once
_ALIGNED = 256


class Blocks(Protocol):
    """What runs blocks of kernels: a GPU, or in the tests the host."""

    def kernel(self, source: str, name: str) -> Any:
        """A kernel of kernels/cuda/SOURCE.cu."""

    def launch(self, kernel: Any, blocks: int, shared_bytes: int, task: int, out: int) -> None:
        """Runs it; `task` and `out` are addresses."""

    def empty(self, count: int) -> torch.Tensor:
        """Bytes, uint8 (count,), at an address that is a multiple of 256."""

    def upload(self, data: NDArray[np.uint8], to: torch.Tensor) -> None:
        """Copies bytes there."""


@dataclass(frozen=True)
class Launch:
    """Blocks of one kernel, which read a task and write from a byte of the output on."""

    kernel: Any
    blocks: int
    shared_bytes: int
    task: int
    first_byte: int


@dataclass(frozen=True)
class Prepared:
    """A batch whose parameters are on the GPU: `draw` only launches kernels, so that a graph captures it."""

    launches: list[Launch]
    memory: list[torch.Tensor]  # what the launches read and write, beside the output
    blocks: Blocks

    def draw(self, out: torch.Tensor) -> None:
        """Draws into `out`, as `Engine.empty` makes it, on the current stream."""
        for launch in self.launches:
            address = out.data_ptr() + launch.first_byte
            self.blocks.launch(launch.kernel, launch.blocks, launch.shared_bytes, launch.task, address)


class Engine:
    """Draws batches on a GPU, on torch's current stream, without waiting for it.

    Args:
        device: "cuda" (the current one), "cuda:1", ...
        pixels: how they are written; None is plain bytes.
        blocks: what runs blocks, instead of that GPU.

    Raises:
        ImportError: torch, cuda-core or CCCL is not installed.
        RuntimeError: there is no such GPU, or it is too old.

    >>> engine = Engine("cuda", PixelFormat("bfloat16", mean=0.5, std=0.5))
    >>> images, labels = dataset.batch(range(256), engine=engine)
    >>> images.dtype
    torch.bfloat16
    """

    def __init__(self, device: str = "cuda", pixels: PixelFormat | None = None, blocks: Blocks | None = None) -> None:
        self.pixels = pixels or PixelFormat()
        self._blocks = blocks or Gpu(device)
        self._resident: dict[int, tuple[weakref.ref[NDArray[Any]], torch.Tensor]] = {}

    def empty(self, shape: tuple[int, ...], dtype: str | None = None) -> torch.Tensor:
        """Uninitialised memory of that shape: of pixels, a batch (B, channels, size, size) or flat; or of a dtype."""
        kind: torch.dtype = getattr(torch, dtype or self.pixels.dtype)
        memory = self._blocks.empty(prod(shape) * kind.itemsize).view(kind)
        if dtype or len(shape) != 4 or not self.pixels.channels_last:
            return memory.view(shape)
        pictures, channels, rows, columns = shape
        return memory.view(pictures, rows, columns, channels).permute(0, 3, 1, 2)

    def put(self, out: torch.Tensor, rows: NDArray[np.int64], pictures: torch.Tensor) -> None:
        """Copies pictures (N, ...) to the rows (N,) of a batch, on the current stream."""
        there = self._blocks.empty(rows.nbytes)
        self._blocks.upload(np.ascontiguousarray(rows).view(np.uint8), there)
        out.index_copy_(0, there.view(torch.int64), pictures)

    def draw(
        self, drawing: Drawing, spec: RenderSpec, palette: NDArray[np.uint8], seed: int, out: torch.Tensor
    ) -> None:
        """Draws a batch into `out`, (B, channels, size, size), of this engine's PixelFormat, on the current stream.

        Args:
            drawing: what to draw, of a family.
            spec: how, as the family completed it.
            palette: what a pixel can hold, uint8 (N, channels), the ground first.
            seed: of the dataset.
            out: where to; as `empty` makes it.
        """
        self.prepare(drawing, spec, palette, seed).draw(out)

    def prepare(self, drawing: Drawing, spec: RenderSpec, palette: NDArray[np.uint8], seed: int) -> Prepared:
        """Uploads what a batch needs; its `draw` may then be captured in a CUDA graph, and draws it again each time.

        >>> prepared = engine.prepare(drawing, spec, palette, seed)
        >>> with torch.cuda.graph(graph):
        ...     prepared.draw(images)
        """
        plan = cuda_plans.plan(drawing, spec)
        kernels = [self._blocks.kernel(plan.source, name) for name, _, _ in plan.kernels]
        task = np.zeros((), plan.task)
        task["spec"] = spec_record(spec, seed)
        task["strips"], task["strip_rows"] = plan.strips.count, plan.strips.rows
        task["channels"], task["channels_last"] = palette.shape[1], self.pixels.channels_last
        task["element_bytes"] = self.pixels.element_bytes
        for name, number in plan.numbers.items():
            task[name] = number
        resident = {name: self._on_gpu(array) for name, array in plan.resident.items()}
        for name, there in resident.items():
            task[name] = there.data_ptr()
        picture_bytes = spec.size**2 * palette.shape[1] * self.pixels.element_bytes
        outside = plan.strips.outside_bytes
        at_once = max(1, _OUTSIDE_BYTES // outside if outside else len(drawing.records))
        launches, memory = [], [*resident.values()]
        for first in range(0, len(drawing.records), at_once):
            records = drawing.records[first : first + at_once]
            arrays = {"values": self.pixels.values(palette).astype(np.uint32), "records": records, **plan.arrays}
            working = {"places": len(records) * plan.placed_bytes, "scratch": len(records) * outside}
            lengths = [task.nbytes, *(array.nbytes for array in arrays.values()), *working.values()]
            starts = [0, *accumulate(-(-length // _ALIGNED) * _ALIGNED for length in lengths)]
            there = self._blocks.empty(starts[-1])
            for name, start in zip([*arrays, *working], starts[1:-1], strict=True):
                task[name] = there.data_ptr() + start
            packed = np.zeros(starts[1 + len(arrays)], np.uint8)
            for array, start in zip([task, *arrays.values()], starts, strict=False):
                packed[start : start + array.nbytes] = np.frombuffer(array.tobytes(), np.uint8)
            self._blocks.upload(packed, there[: len(packed)])
            memory.append(there)
            launches += [
                Launch(kernel, len(records) * blocks, shared_bytes, there.data_ptr(), first * picture_bytes)
                for kernel, (_, blocks, shared_bytes) in zip(kernels, plan.kernels, strict=True)
            ]
        return Prepared(launches, memory, self._blocks)

    def _on_gpu(self, array: NDArray[Any]) -> torch.Tensor:
        """A catalog's array on the GPU: uploaded when it is first asked for; freed by a later upload once it is gone.

        A search has other arrays for each 2,048 candidates.
        """
        of, there = self._resident.get(id(array), (None, None))
        if of is None or there is None or of() is not array:
            self._resident = {key: found for key, found in self._resident.items() if found[0]() is not None}
            data = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
            there = self._blocks.empty(len(data))
            self._blocks.upload(data, there)
            self._resident[id(array)] = weakref.ref(array), there
        return there
