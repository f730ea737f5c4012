"""Augmentation of a batch by kernels: the values of train/augmentation.py's torch operations, in a few launches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdsl.train.rand_augment import OPERATIONS, WARPS, Operation, coefficients

# isort: split
import torch

from fdsl.engines import cuda
from fdsl.engines.cuda import Blocks, Launch

# Of kernels/cuda/levels.h, augment.cu and rand_augment.cu.
_STRIP = 8192
_SHARED_BYTES = 4096
_RUN = 16
_LAYOUT = np.dtype(
    [(name, np.int32) for name in ("height", "width", "strips", "channels_last", "whole_runs", "unused")]
)
_RECTANGLE = ("top", "left", "rows", "columns")
SAMPLE = np.dtype(
    [
        ("pixels", np.uint64),
        ("noise", np.int64),
        ("factor", np.float32, 3),
        ("operation", np.int32, 3),
        ("erased", np.int32, len(_RECTANGLE)),
    ]
)
AUGMENT_TASK = np.dtype(
    [
        *((name, np.uint64) for name in ("samples", "noise", "gray_sums")),
        ("layout", _LAYOUT),
        *((name, np.int32) for name in ("pictures", "channels_last")),
        *((name, np.float32, 3) for name in ("scale", "shift")),
        ("weight", np.float32),
        ("swapped", np.int32, len(_RECTANGLE)),
        ("unused", np.int32),
    ]
)
CHANGE = np.dtype(
    [
        *((name, np.uint64) for name in ("from", "to", "sums")),
        ("number", np.float32, 6),
        *((name, np.int32) for name in ("operation", "unused")),
    ]
)
LAYER_TASK = np.dtype(
    [
        ("changes", np.uint64),
        ("layout", _LAYOUT),
        ("fill", np.float32, 3),
        *((name, np.float32) for name in ("across", "down")),
        ("unused", np.int32),
    ]
)
_NUMBER_OF = {name: number for number, name in enumerate(OPERATIONS)}
_COUNTED = ("AutoContrast", "Equalize", "Contrast")
_COUNTS_BYTES = 256 * 4  # of a channel's levels
_NO_JITTER = -1
_ALIGNED = 256


@dataclass(frozen=True)
class Mixing:
    """How a batch is mixed with itself in reverse order.

    Args:
        share: of a picture's own label.
        weight: of the other picture, in mixup.
        swapped: top, left, rows and columns of what CutMix swaps.
    """

    share: float = 1.0
    weight: float = 0.0
    swapped: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass(frozen=True)
class Drawn:
    """What is drawn for a batch.

    Args:
        layers: operations on bytes, one after the other; a picture has one of each layer at most.
        jitter: the layers are colour jitter's: at most three, of Brightness, Contrast and Color, each once a picture.
        erased: top, left, rows and columns of what noise replaces, and where the noise begins: int64 (batch, 5).
        mixing: of the batch.
    """

    layers: Sequence[Sequence[Operation]]
    jitter: bool
    erased: NDArray[np.int64]
    mixing: Mixing = field(default_factory=Mixing)


@dataclass(frozen=True)
class Prepared:
    """A batch whose numbers are on the GPU: `run` only launches, so that a CUDA graph captures it."""

    launched: cuda.Prepared
    sums: torch.Tensor  # that begin at 0

    def run(self, out: torch.Tensor) -> None:
        """Writes the batch to `out`, on the current stream."""
        if len(self.sums):
            self.sums.zero_()
        self.launched.draw(out)


def prepare(
    blocks: Blocks,
    images: torch.Tensor,
    drawn: Drawn,
    constants: Mapping[str, NDArray[np.float32]],
    noise: torch.Tensor,
    out: torch.Tensor,
) -> Prepared:
    """Uploads what was drawn for a batch, in one piece and without waiting.

    Args:
        blocks: what runs the kernels.
        images: uint8 (batch, 1 or 3, height, width), contiguous or with the channels last; batch is 1 or more.
        drawn: for it.
        constants: scale and shift, of pixels 0 to 255, and fill, of what warps bring in: one number, or one a channel.
        noise: float32, of erased rectangles.
        out: float32, float16 or bfloat16 (batch, channels, height, width), likewise contiguous or channels last;
            `run` may take another one like it.
    """
    batch = _Batch(blocks, images, drawn)
    if not drawn.jitter:
        for layer in drawn.layers:
            batch.change(layer, constants["fill"])
    batch.finish(constants, noise, out)
    return batch.prepared([images, noise])


class _Batch:
    """Launches for a batch, and the records that they read; each step finds pictures where the one before left them."""

    def __init__(self, blocks: Blocks, images: torch.Tensor, drawn: Drawn) -> None:
        self.blocks, self.drawn = blocks, drawn
        self.count, self.channels, self.height, self.width = images.shape
        self.picture_bytes = images[0].numel()
        self.layout = np.zeros((), _LAYOUT)
        self.layout["height"], self.layout["width"] = self.height, self.width
        self.layout["strips"] = -(-self.height * self.width // _STRIP)
        self.layout["channels_last"] = not images.is_contiguous()
        self.layout["whole_runs"] = self.height * self.width % _RUN == 0 and images.data_ptr() % _RUN == 0
        layers = () if drawn.jitter else drawn.layers
        # Of each picture: in which memory it is, the images or a copy, of which a layer reads one and writes the other.
        copies = [blocks.empty(self.count * self.picture_bytes) for _ in layers[:2]]
        self._begins = np.array([memory.data_ptr() for memory in (images, *copies)], np.uint64)
        self._in = np.zeros(self.count, np.int64)
        counted = sum(len(members) for layer in layers for name, members, _ in layer if name in _COUNTED)
        self.sums = blocks.empty(self.count * 8 if drawn.jitter else counted * self.channels * _COUNTS_BYTES)
        self._sums_used = 0
        record_bytes = max(CHANGE.itemsize, SAMPLE.itemsize)
        most_bytes = (1 + len(layers)) * (AUGMENT_TASK.itemsize + self.count * record_bytes + 2 * _ALIGNED)
        self._records, self._packed = blocks.empty(most_bytes), np.zeros(most_bytes, np.uint8)
        self._used = 0
        self._copies, self._launches = copies, list[Launch]()

    def change(self, layer: Sequence[Operation], fill: NDArray[np.float32]) -> None:
        """Adds a layer of RandAugment: first pictures whose levels are counted, then warps, which take longest."""
        layer = sorted(layer, key=lambda operation: (operation[0] not in _COUNTED, operation[0] not in WARPS))
        if not layer:
            return
        members = np.concatenate([members for _, members, _ in layer])
        counted = sum(len(some) for name, some, _ in layer if name in _COUNTED)
        changes = np.zeros(len(members), CHANGE)
        changes["operation"] = np.repeat(
            [_NUMBER_OF[name] for name, _, _ in layer], [len(some) for _, some, _ in layer]
        )
        changes["number"] = np.concatenate(
            [coefficients(name, values, self.height, self.width) for name, _, values in layer]
        )
        changes["from"] = self._places()[members]
        self._in[members] = np.where(self._in[members] == 1, 2, 1)
        changes["to"] = self._places()[members]
        slots = self._sums_used + np.arange(counted) * self.channels * _COUNTS_BYTES
        changes["sums"][:counted] = self.sums.data_ptr() + slots
        self._sums_used += counted * self.channels * _COUNTS_BYTES
        task = np.zeros((), LAYER_TASK)
        task["changes"], task["layout"], task["fill"] = self._put(changes), self.layout, fill
        task["across"], task["down"] = 2 / self.width, 2 / self.height
        place = self._put(task)
        if counted:
            self._launch("rand_augment", "count_levels", counted, place)
        self._launch("rand_augment", "change_pictures", len(members), place)

    def finish(self, constants: Mapping[str, NDArray[np.float32]], noise: torch.Tensor, out: torch.Tensor) -> None:
        """Adds the last step, from bytes to floats."""
        drawn = self.drawn
        samples = np.zeros(self.count, SAMPLE)
        samples["pixels"], samples["operation"] = self._places(), _NO_JITTER
        samples["erased"], samples["noise"] = drawn.erased[:, :4], drawn.erased[:, 4]
        for turn, layer in enumerate(drawn.layers if drawn.jitter else ()):
            for name, members, factors in layer:
                samples["operation"][members, turn], samples["factor"][members, turn] = _NUMBER_OF[name], factors
        task = np.zeros((), AUGMENT_TASK)
        task["samples"], task["layout"], task["pictures"] = self._put(samples), self.layout, self.count
        task["noise"], task["gray_sums"] = noise.data_ptr(), self.sums.data_ptr() if drawn.jitter else 0
        task["scale"], task["shift"] = constants["scale"], constants["shift"]
        task["weight"], task["swapped"] = drawn.mixing.weight, drawn.mixing.swapped
        task["channels_last"] = not out.is_contiguous()
        place = self._put(task)
        if drawn.jitter:
            self._launch("augment", "sum_grays", self.count, place)
        self._launch("augment", "augment_" + str(out.dtype).removeprefix("torch."), (self.count + 1) // 2, place)

    def prepared(self, memory: list[torch.Tensor]) -> Prepared:
        """All of it, with the records uploaded."""
        self.blocks.upload(self._packed[: self._used], self._records[: self._used])
        kept = [*memory, *self._copies, self._records]
        return Prepared(cuda.Prepared(self._launches, kept, self.blocks), self.sums)

    def _places(self) -> NDArray[np.uint64]:
        offsets = np.arange(self.count) * self.picture_bytes
        places: NDArray[np.uint64] = self._begins[self._in] + offsets.astype(np.uint64)
        return places

    def _put(self, array: NDArray[Any]) -> int:
        place = self._used
        self._packed[place : place + array.nbytes] = np.frombuffer(array.tobytes(), np.uint8)
        self._used += -(-array.nbytes // _ALIGNED) * _ALIGNED
        address: int = self._records.data_ptr() + place
        return address

    def _launch(self, source: str, kernel: str, pictures: int, task: int) -> None:
        name = f"{kernel}_{self.channels}"
        strips = int(self.layout["strips"])
        self._launches.append(Launch(self.blocks.kernel(source, name), pictures * strips, _SHARED_BYTES, task, 0))
