"""How each drawing becomes launches of kernels: the task that they read, and the memory that they work in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdsl.engines.cpu import SPEC
from fdsl.primitives import AffineSystems, Clouds, Drawing, SpatialSystems
from fdsl.rendering import RenderSpec

SHARED_BYTES = 48 * 1024  # of a block; kernels/cuda/block.h
# Of a block's shared memory, at most, before its plane.
_HEADER_BYTES = 1024
CLOUD_HEADER_BYTES = 2048
_MARGIN = 2  # cells around a strip; kernels/cuda/planes.h
# Strips of numbers beyond so many would walk a picture too often: they then lie in the GPU's memory. Of bits the
# largest picture has 46, which take less long than to write its pixels.
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
        *((name, np.int32) for name in ("width", "categories")),
    ]
)
CLOUDS_TASK = np.dtype([*SYSTEMS_TASK.descr, ("own", np.int32), ("unused_three", np.int32)])
# What a kernel that places a picture leaves to the one that draws it, and the shared memory that it works in.
PLACED_BYTES = {"affine": 352, "spatial": 544, "cloud": 1136}
PLACING_BYTES = {"affine": 960, "spatial": 5712, "cloud": 1072}


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
        case SpatialSystems(params=params):
            return _systems("spatial", params, spec)
        case Clouds():
            return _clouds(drawing, spec)
    raise NotImplementedError(type(drawing).__name__)


def _systems(name: str, params: Mapping[str, NDArray[Any]], spec: RenderSpec) -> Plan:
    kernel, strips = _points(name, spec)
    return Plan(
        name,
        SYSTEMS_TASK,
        [(f"place_{name}", 1, PLACING_BYTES[name]), (kernel, strips.count, strips.shared_bytes)],
        strips,
        numbers=_shape(params),
        resident=_arrays(params),
        placed_bytes=PLACED_BYTES[name],
    )


def _clouds(drawing: Clouds, spec: RenderSpec) -> Plan:
    kernel, strips = _points("clouds", spec, CLOUD_HEADER_BYTES)
    return Plan(
        "clouds",
        CLOUDS_TASK,
        [("place_cloud_pictures", 1, PLACING_BYTES["cloud"]), (kernel, strips.count, strips.shared_bytes)],
        strips,
        numbers={"own": Clouds.own_points(spec.points or 1, drawing.mix), **_shape(drawing.params)},
        resident=_arrays(drawing.params),
        placed_bytes=PLACED_BYTES["cloud"],
    )


def _points(name: str, spec: RenderSpec, header_bytes: int = _HEADER_BYTES) -> tuple[str, Strips]:
    """The kernel that draws points, and its strips."""
    bits = spec.color in ("gray", "white") and spec.draw != "patch_per_point"
    strips = strips_of(spec.size, bits, header_bytes)
    return f"draw_{name}_{'bits' if bits else 'numbers'}{'_outside' if strips.outside_bytes else ''}", strips


def _shape(params: Mapping[str, NDArray[Any]]) -> dict[str, int]:
    return dict(zip(("categories", "width"), params["affine"].shape[:2], strict=True))


def _arrays(params: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {field: params[field] for field in ("affine", "probability", "maps")}


def strips_of(size: int, bits: bool, header_bytes: int = _HEADER_BYTES) -> Strips:
    """Strips of a picture of which a bit, or a number of four bytes, is kept for each cell.

    >>> strips_of(512, bits=True).count, strips_of(512, bits=False).count
    (1, 29)
    """
    cells = size + 2 * _MARGIN
    row_bytes = -(-cells // 32) * 4 if bits else cells * 4
    rows = (SHARED_BYTES - header_bytes) // row_bytes - 2 * _MARGIN
    count = -(-size // rows) if rows > 0 else size
    if count > _MOST_STRIPS and not bits:
        return Strips(1, size, header_bytes, cells * row_bytes)
    rows = -(-size // count)
    return Strips(-(-size // rows), rows, header_bytes + (rows + 2 * _MARGIN) * row_bytes)
