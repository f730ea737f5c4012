"""The cuda engine: whole batches drawn into torch tensors on a GPU, by kernels/cuda; the cpu engine's bytes."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from math import prod
from threading import Lock
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fdsl import _core
from fdsl.compositions import OBJECT
from fdsl.engines import cuda_plans
from fdsl.engines.cpu import MEASUREMENT, SPATIAL_MEASUREMENT, spec_record
from fdsl.engines.cuda_gpu import Gpu
from fdsl.engines.pixel_format import PixelFormat
from fdsl.engines.protocol import ALL_PIXELS
from fdsl.primitives import AffineSystems, Drawing, SpatialSystems
from fdsl.rendering import MAX_POINTS, RenderSpec

# isort: split
import torch

_OUTSIDE_BYTES = 256 << 20  # of cells that lie in the GPU's memory, at once
_ALIGNED = 256


class Blocks(Protocol):
    """What runs blocks of kernels: a GPU, or in the tests the host."""

    device: torch.device

    def kernel(self, source: str, name: str) -> Any:
        """A kernel of kernels/cuda/SOURCE.cu."""

    def launch(self, kernel: Any, blocks: int, shared_bytes: int, task: int, out: int) -> None:
        """Runs it; `task` and `out` are addresses."""

    def empty(self, count: int) -> torch.Tensor:
        """Bytes, uint8 (count,), at an address that is a multiple of 256."""

    def resident(self, data: NDArray[np.uint8]) -> Callable[[], torch.Tensor]:
        """Bytes that stay there, for any stream: a call gives them to the current one."""

    def upload(self, data: NDArray[np.uint8], to: torch.Tensor) -> None:
        """Copies bytes there."""

    def download(self, data: torch.Tensor) -> NDArray[np.uint8]:
        """Bytes from there, once all that was launched is done."""


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
        torch.OutOfMemoryError: when something is drawn that it has no room for; the message says what to do.

    >>> engine = Engine("cuda", PixelFormat("bfloat16", mean=0.5, std=0.5))
    >>> images, labels = dataset.batch(range(256), engine=engine)
    >>> images.dtype
    torch.bfloat16
    """

    def __init__(self, device: str = "cuda", pixels: PixelFormat | None = None, blocks: Blocks | None = None) -> None:
        self.pixels = pixels or PixelFormat()
        self._blocks = blocks or Gpu(device)
        self._resident: dict[int, tuple[weakref.ref[NDArray[Any]], Callable[[], torch.Tensor]]] = {}
        self._lock = Lock()  # threads may share an engine, each with a stream of its own

    @property
    def device(self) -> torch.device:
        """Where batches are."""
        return self._blocks.device

    def empty(self, shape: tuple[int, ...], dtype: str | None = None) -> torch.Tensor:
        """Uninitialised memory on the device: of this engine's PixelFormat, or C-contiguous of a named dtype.

        >>> engine.empty((256, 3, 224, 224)).is_contiguous(memory_format=torch.channels_last)
        True
        """
        element: torch.dtype = getattr(torch, dtype or self.pixels.dtype)
        memory = self._blocks.empty(prod(shape) * element.itemsize).view(element)
        if dtype or not self.pixels.channels_last or len(shape) != 4:
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
        """Draws a batch into `out`, (B, channels, size, size), on the current stream.

        Args:
            drawing: what to draw, of a family.
            spec: how, as the family completed it.
            palette: what a pixel can hold, uint8 (N, channels), the ground first.
            seed: of the dataset.
            out: where to, contiguous or channels-last: pixels of this engine's dtype are normalised as it does, and
                uint8 are plain bytes.

        Raises:
            ValueError: `out` is another tensor.
        """
        shape = (len(drawing.records), palette.shape[1], spec.size, spec.size)
        self.prepare(drawing, spec, palette, seed, self._format_of(out, shape)).draw(out)

    def _format_of(self, out: torch.Tensor, shape: tuple[int, ...]) -> PixelFormat:
        """How pixels are written into that tensor."""
        if not isinstance(out, torch.Tensor):
            raise ValueError(f"out is {type(out).__name__}; expected a tensor on {self._blocks.device}")
        last = not out.is_contiguous()
        fits = out.shape == shape and not (last and not out.permute(0, 2, 3, 1).is_contiguous())
        if fits and out.device == self._blocks.device:
            if out.dtype == getattr(torch, self.pixels.dtype):
                return replace(self.pixels, channels_last=last)
            if out.dtype == torch.uint8:
                return PixelFormat(channels_last=last)
        raise ValueError(
            f"out is {out.dtype} {tuple(out.shape)} of strides {out.stride()} on {out.device}; expected {shape}, "
            f"contiguous or channels-last, torch.uint8 or {self.pixels.dtype}, on {self._blocks.device}"
        )

    def prepare(
        self,
        drawing: Drawing,
        spec: RenderSpec,
        palette: NDArray[np.uint8],
        seed: int,
        pixels: PixelFormat | None = None,
    ) -> Prepared:
        """Uploads what a batch needs; its `draw` may then be captured in a CUDA graph, and draws it again each time.

        Keep it as long as the graph, and draw on the stream that is current here, or one that waits for it.

        Args:
            drawing: what to draw, of a family.
            spec: how, as the family completed it.
            palette: what a pixel can hold, uint8 (N, channels), the ground first.
            seed: of the dataset.
            pixels: how they are written; None is the engine's own way.

        >>> prepared = engine.prepare(drawing, spec, palette, seed)
        >>> with torch.cuda.graph(graph):
        ...     prepared.draw(images)
        """
        pixels = self.pixels if pixels is None else pixels
        plan = cuda_plans.plan(drawing, spec, seed, len(palette))
        picture_bytes = spec.size**2 * palette.shape[1] * pixels.element_bytes
        return self._prepare(plan, drawing.records, spec_record(spec, seed), palette, pixels, picture_bytes)

    def _prepare(
        self,
        plan: cuda_plans.Plan,
        all_records: NDArray[np.void],
        spec: NDArray[np.void],
        palette: NDArray[np.uint8],
        pixels: PixelFormat,
        bytes_of_each: int,
    ) -> Prepared:
        """What a plan makes of records, each of which has so many bytes of the output."""
        kernels = [self._blocks.kernel(plan.source, name) for name, _, _ in plan.kernels]
        task = self._task(plan.task, spec, plan.strips, palette.shape[1], pixels)
        for name, number in plan.numbers.items():
            task[name] = number
        resident = {name: self._on_gpu(array) for name, array in plan.resident.items()}
        for name, there in resident.items():
            task[name] = there.data_ptr()
        outside = plan.strips.outside_bytes
        at_once = max(1, _OUTSIDE_BYTES // outside if outside else len(all_records))
        launches, memory = [], [*resident.values()]
        for first in range(0, len(all_records), at_once):
            records = all_records[first : first + at_once]
            arrays = {"values": pixels.values(palette).astype(np.uint32), "records": records, **plan.arrays}
            working = {"places": len(records) * plan.placed_bytes, "scratch": len(records) * outside}
            there, _ = self._upload(task, arrays, working)
            memory.append(there)
            launches += [
                Launch(kernel, len(records) * blocks, shared_bytes, there.data_ptr(), first * bytes_of_each)
                for kernel, (_, blocks, shared_bytes) in zip(kernels, plan.kernels, strict=True)
            ]
        return Prepared(launches, memory, self._blocks)

    def draw_clouds(
        self,
        params: Mapping[str, NDArray[Any]],
        records: NDArray[np.void],
        seed: int,
        own: int,
        out: torch.Tensor,
    ) -> None:
        """Draws point clouds into `out`, float32 (B, points, 3) on the device, contiguous, on the current stream.

        Args:
            params: of a catalog of systems in space.
            records: CLOUD (B,).
            seed: of the dataset.
            own: points of each cloud's own category.
            out: where to.

        Raises:
            ValueError: `out` is another tensor, or has fewer points than `own`.
        """
        fits = out.ndim == 3 and len(out) == len(records) and own <= out.shape[1] <= MAX_POINTS and out.shape[2] == 3
        if not fits or out.dtype != torch.float32 or not out.is_contiguous() or out.device != self._blocks.device:
            raise ValueError(
                f"out is {out.dtype} {tuple(out.shape)} on {out.device}; expected contiguous torch.float32 "
                f"({len(records)}, points, 3) on {self._blocks.device}, of at least {own} points"
            )
        spec, plan = spec_record(RenderSpec(points=out.shape[1]), seed), cuda_plans.clouds(params, own)
        bytes_of_each = 12 * out.shape[1]
        self._prepare(plan, records, spec, np.zeros((1, 1), np.uint8), PixelFormat(), bytes_of_each).draw(out)

    def measure(
        self, drawing: AffineSystems, spec: RenderSpec, seed: int, enough: ArrayLike = ALL_PIXELS
    ) -> NDArray[np.void]:
        """Point pictures judged, not kept: MEASUREMENT records, (B,); see `protocol.Engine.measure`.

        Waits for the device, as `measure_spatial` does: what a search asks next hangs on the answer.

        Raises:
            ValueError: the pictures are too large for a block's memory.
        """
        plan = cuda_plans.measuring(drawing, spec, enough)
        return self._measured(plan, drawing.records, spec_record(spec, seed), MEASUREMENT)

    def measure_spatial(self, drawing: SpatialSystems, points: int, seed: int, least: float = 0.0) -> NDArray[np.void]:
        """Clouds judged, not kept: SPATIAL_MEASUREMENT records, (B,); see `protocol.Engine.measure_spatial`."""
        spec = spec_record(RenderSpec(points=points), seed)
        return self._measured(cuda_plans.measuring_space(drawing, least), drawing.records, spec, SPATIAL_MEASUREMENT)

    def _measured(
        self, plan: cuda_plans.Plan, records: NDArray[np.void], spec: NDArray[np.void], measurement: np.dtype[Any]
    ) -> NDArray[np.void]:
        if not len(records):
            return np.zeros(0, measurement)
        out = self._blocks.empty(len(records) * measurement.itemsize)
        self._prepare(plan, records, spec, np.zeros((1, 1), np.uint8), PixelFormat(), measurement.itemsize).draw(out)
        return self._blocks.download(out).view(measurement)

    @staticmethod
    def _task(
        dtype: np.dtype[Any], spec: NDArray[np.void], strips: cuda_plans.Strips, channels: int, pixels: PixelFormat
    ) -> NDArray[np.void]:
        """A task whose head is filled in, but for what is uploaded with it."""
        task = np.zeros((), dtype)
        task["spec"], task["strips"], task["strip_rows"] = spec, strips.count, strips.rows
        task["channels"], task["channels_last"] = channels, pixels.channels_last
        task["element_bytes"] = pixels.element_bytes
        return task

    def _upload(
        self, task: NDArray[np.void], arrays: Mapping[str, NDArray[Any]], working: Mapping[str, int]
    ) -> tuple[torch.Tensor, dict[str, int]]:
        """A task, the arrays that its fields point to, and memory to work in, of so many bytes: where each begins."""
        lengths = [task.nbytes, *(array.nbytes for array in arrays.values()), *working.values()]
        ends = [*accumulate(-(-length // _ALIGNED) * _ALIGNED for length in lengths)]
        starts = dict(zip([*arrays, *working], ends, strict=False))
        there = self._blocks.empty(ends[-1])
        for name, start in starts.items():
            task[name] = there.data_ptr() + start if working.get(name, 1) else 0
        packed = np.zeros(ends[len(arrays)], np.uint8)
        for array, start in zip([task, *arrays.values()], [0, *ends], strict=False):
            packed[start : start + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        self._blocks.upload(packed, there[: len(packed)])
        return there, starts

    def compose(
        self,
        pixels: torch.Tensor,
        objects: NDArray[np.void],
        ground: NDArray[np.uint8],
        opaque: bool,
        out: torch.Tensor,
        masks: torch.Tensor,
    ) -> None:
        """Pastes drawn objects onto canvases; see `protocol.Engine.compose`.

        Waits for the device: where objects are seen is host data. `out` is as `draw` has it; objects are plain bytes.

        Raises:
            ValueError: an object does not fit the batch.
        """
        count, channels, size = out.shape[:3]
        there_format = self._format_of(out, (count, channels, size, size))
        sides, pictures = objects["side"].astype(np.int64), objects["picture"].astype(np.int64)
        good = (np.diff(pictures, append=count) >= 0) & (pictures < count)
        for corner in (objects["left"], objects["top"]):
            good &= (sides >= 1) & (corner >= 0) & (corner <= size - sides)
        good &= (objects["offset"] >= 0) & (objects["offset"] <= pixels.numel() - channels * sides**2)
        firsts = np.searchsorted(pictures, np.arange(count + 1)).astype(np.int32)
        if not good.all() or (np.diff(firsts) > _core.MAX_OBJECTS).any() or pixels.dtype != torch.uint8:
            raise ValueError("objects do not fit the batch; expected bytes, and objects picture by picture, inside")
        if not count:
            return
        strips = cuda_plans.pixel_strips(size, cuda_plans.COMPOSE_BYTES)
        task = self._task(
            cuda_plans.COMPOSE_TASK, spec_record(RenderSpec(size=size), 0), strips, channels, there_format
        )
        task["pixels"], task["masks"] = pixels.data_ptr(), masks.data_ptr() if len(masks) else 0
        task["ground"] = int.from_bytes(ground.tobytes(), "little")
        task["opaque"] = opaque
        values = there_format.values(np.arange(256, dtype=np.uint8)[:, None].repeat(channels, 1))
        empty = objects.copy()
        empty["box"], empty["pixels"] = (size, size, 0, 0), 0
        arrays = {"values": values.astype(np.uint32), "first": firsts, "objects": empty}
        there, starts = self._upload(task, arrays, {})
        kernel = self._blocks.kernel("compose", "compose")
        self._blocks.launch(kernel, count * strips.count, strips.shared_bytes, there.data_ptr(), out.data_ptr())
        found = self._blocks.download(there[starts["objects"] :][: objects.nbytes]).view(OBJECT)
        seen = found["pixels"] > 0
        objects["pixels"] = found["pixels"]
        objects["box"][seen] = found["box"][seen]

    def _on_gpu(self, array: NDArray[Any]) -> torch.Tensor:
        """A catalog's array on the GPU: uploaded when it is first asked for; freed by a later upload once it is gone.

        A search has other arrays for each 2,048 candidates.
        """
        with self._lock:
            of, there = self._resident.get(id(array), (None, None))
            if of is None or there is None or of() is not array:
                self._resident = {key: found for key, found in self._resident.items() if found[0]() is not None}
                there = self._blocks.resident(np.ascontiguousarray(array).view(np.uint8).reshape(-1))
                self._resident[id(array)] = weakref.ref(array), there
        return there()
