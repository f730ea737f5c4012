"""How each drawing becomes launches of kernels: the task that they read, and the memory that they work in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdsl.engines.cpu import SPEC
from fdsl.primitives import AffineSystems, Drawing
from fdsl.rendering import RenderSpec

SHARED_BYTES = 48 * 1024  # of a block; kernels/cuda/block.h
# Of a block's shared memory, at most, before its plane.
_HEADER_BYTES = 1024
_MARGIN = 2  # cells around a strip; kernels/cuda/planes.h
# Strips beyond so many would walk a picture too often: its plane then lies in the GPU's memory.
_MOST_STRIPS = 24

# The head of every task; kernels/cuda/task.h has the same record.
_POINTER = np.uint64
_TASK: list[Any] = [
    ("spec", SPEC),
    *((name, _POINTER) for name in ("records", "values", "places", "scratch")),
    *((name, np.int32) for name in ("strips", "strip_rows", "channels", "element_bytes", "channels_last", "unused")),
]
SYSTEMS_TASK = np.dtype(
    [
        *_TASK,
        *((name, _POINTER) for name in ("affine", "probability", "maps")),
        *((name, np.int32) for name in ("width", "unused_too")),
    ]
)
# What a kernel that places a picture leaves to the one that draws it.
PLACED_BYTES = {"affine": 352}


@dataclass(frozen=True)
class Strips:
    """How a picture's rows are shared out among blocks, and where a block keeps its cells."""

    count: int = 1
    rows: int = 0  # of each
    shared_bytes: int = SHARED_BYTES
    outside_bytes: int = 0  # of a picture whose cells lie in the GPU's memory, else 0


@dataclass(frozen=True)
class Plan:
    """The launches that draw a batch.

    Args:
        source: kernels/cuda/SOURCE.cu.
        task: dtype of the task.
        kernels: one after the other: name, blocks of a picture, bytes of shared memory.
        strips: of the kernel that draws.
        numbers: fields of the task.
        resident: fields that point to arrays of a catalog, which are uploaded once.
        arrays: fields that point to arrays of this batch.
        placed_bytes: of a picture, between kernels.
    """

    source: str
    task: np.dtype[Any]
    kernels: list[tuple[str, int, int]]
    strips: Strips
    numbers: Mapping[str, int] = field(default_factory=dict)
    resident: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    placed_bytes: int = 0


def plan(drawing: Drawing, spec: RenderSpec) -> Plan:
    """How to draw a batch."""
    match drawing:
        case AffineSystems(params=params):
            return _systems("affine", params, spec)
    raise NotImplementedError(type(drawing).__name__)


def _systems(name: str, params: Mapping[str, NDArray[Any]], spec: RenderSpec) -> Plan:
    bits = spec.color in ("gray", "white") and spec.draw != "patch_per_point"
    strips = strips_of(spec.size, bits)
    kernel = f"draw_{name}_{'bits' if bits else 'numbers'}{'_outside' if strips.outside_bytes else ''}"
    return Plan(
        name,
        SYSTEMS_TASK,
        [(f"place_{name}", 1, SHARED_BYTES), (kernel, strips.count, strips.shared_bytes)],
        strips,
        numbers={"width": params["affine"].shape[1]},
        resident={field: params[field] for field in ("affine", "probability", "maps")},
        placed_bytes=PLACED_BYTES[name],
    )


def strips_of(size: int, bits: bool) -> Strips:
    """Strips of a picture of which a bit, or a number of four bytes, is kept for each cell.

    >>> strips_of(512, bits=True).count, strips_of(512, bits=False).count
    (1, 29)
    """
    cells = size + 2 * _MARGIN
    row_bytes = -(-cells // 32) * 4 if bits else cells * 4
    rows = (SHARED_BYTES - _HEADER_BYTES) // row_bytes - 2 * _MARGIN
    count = -(-size // rows) if rows > 0 else size
    if count > _MOST_STRIPS:
        return Strips(1, size, _HEADER_BYTES, cells * row_bytes)
    rows = -(-size // count)
    return Strips(-(-size // rows), rows, _HEADER_BYTES + (rows + 2 * _MARGIN) * row_bytes)
