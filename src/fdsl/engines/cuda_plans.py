"""How each drawing becomes launches of kernels: the task that they read, and the memory that they work in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, assert_never

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fdsl import _core
from fdsl.engines.cpu import SPEC, Engine
from fdsl.engines.cuda_gpu import THREADS
from fdsl.primitives import (
    AffineSystems,
    BezierCurves,
    Clouds,
    Contours,
    Drawing,
    Fields,
    GradientNoise,
    Points,
    Polylines,
    SpatialSystems,
)
from fdsl.rendering import RenderSpec

SHARED_BYTES = 48 * 1024  # of a block: what every GPU gives without being asked
# Of a block's shared memory, at most, before its plane.
_HEADER_BYTES = 1024
CLOUD_HEADER_BYTES = 2048
_MARGIN = 2  # cells around a strip; kernels/cuda/planes.h
# Strips of numbers beyond so many would walk a picture too often: they then lie in the GPU's memory. Of bits the
# largest picture has 46, which take less long than to write its pixels.
_MOST_STRIPS = 24
_LARGEST_MEASURED = 604  # pixels, whose bits are one strip
# Of a picture: what a cell's number of four bytes can say.
_MOST_POINTS, _MOST_LINES = 2**30, 2**32 - 2

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
MEASURE_TASK = np.dtype([*SYSTEMS_TASK.descr, ("enough", _POINTER), ("least", np.float32), ("unused_too", np.int32)])
JUDGED_CLOUD_BYTES = 7136
# What a kernel that places a picture leaves to the one that draws it, and the shared memory that it works in.
PLACED_BYTES = {"affine": 320, "spatial": 512, "cloud": 1072}
PLACING_BYTES = {"affine": 928, "spatial": 5680, "cloud": 1040}
# Drawings that no system makes.
_UNUSED: Any = ("unused_too", np.int32)
PERLIN_TASK = np.dtype([*_TASK, ("frequencies", _POINTER)])
CONTOURS_TASK = np.dtype([*_TASK, ("most", np.int32), _UNUSED])
BEZIER_TASK = np.dtype(
    [*_TASK, *((name, _POINTER) for name in ("control_points", "curves", "weights")), ("most", np.int32), _UNUSED]
)
GIVEN_TASK = np.dtype([*_TASK, ("coordinates", _POINTER), ("ends", _POINTER)])
FIELDS_TASK = np.dtype([*_TASK, ("levels", _POINTER)])
COMPOSE_TASK = np.dtype(
    [
        *_TASK,
        *((name, _POINTER) for name in ("pixels", "objects", "first", "masks")),
        ("ground", np.uint32),
        ("opaque", np.int32),
    ]
)
PLACED_GIVEN_BYTES = 192
COMPOSE_BYTES = 40 * _core.MAX_OBJECTS  # of shared memory
# Of a block's shared memory, before its canvas; with no vertex and no point of a curve.
CONTOURS_HEADER_BYTES, BEZIER_HEADER_BYTES = 1432, 600
_VERTEX_BYTES = 8  # of shared memory
# Strips beyond so many would step the vertices of a picture too often: its canvas then lies in the GPU's memory.
_MOST_CANVAS_STRIPS = 8
# Enough for a block, where a pixel costs what its neighbours cost.
_STRIP_PIXELS = 1 << 14


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
    numbers: Mapping[str, float] = field(default_factory=dict)
    resident: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    placed_bytes: int = 0


def plan(drawing: Drawing, spec: RenderSpec, seed: int, entries: int) -> Plan:
    """How to draw a batch.

    Args:
        drawing: what to draw.
        spec: how.
        seed: of the dataset.
        entries: rows of the palette.

    Raises:
        ValueError: what is given does not fit together.
    """
    match drawing:
        case AffineSystems(params=params):
            return _systems("affine", params, spec)
        case SpatialSystems(params=params):
            return _systems("spatial", params, spec)
        case Clouds():
            return _cloud_pictures(drawing, spec)
        case GradientNoise(params=params):
            return _pixels("perlin", PERLIN_TASK, spec, resident={"frequencies": params["frequencies"]})
        case Contours(records=records):
            return _contours(records, spec)
        case BezierCurves(params=params):
            return _bezier(params, drawing.weights, spec)
        case Points():
            return _points(drawing, spec)
        case Polylines():
            return _polylines(drawing, spec)
        case Fields():
            levels = np.empty((len(drawing.records), 1, spec.size, spec.size), np.uint8)
            Engine().draw(drawing, spec, np.arange(entries, dtype=np.uint8)[:, None], seed, levels)
            return _pixels("fields", FIELDS_TASK, spec, arrays={"levels": levels})
    assert_never(drawing)


def _systems(name: str, params: Mapping[str, NDArray[Any]], spec: RenderSpec) -> Plan:
    kernel, strips = _walked(name, spec)
    return Plan(
        name,
        SYSTEMS_TASK,
        [(f"place_{name}", 1, PLACING_BYTES[name]), (kernel, strips.count, strips.shared_bytes)],
        strips,
        numbers=_shape(params),
        resident=_arrays(params),
        placed_bytes=PLACED_BYTES[name],
    )


def _cloud_pictures(drawing: Clouds, spec: RenderSpec) -> Plan:
    kernel, strips = _walked("cloud_pictures", spec, CLOUD_HEADER_BYTES)
    return Plan(
        "cloud_pictures",
        CLOUDS_TASK,
        [("place_cloud_pictures", 1, PLACING_BYTES["cloud"]), (kernel, strips.count, strips.shared_bytes)],
        strips,
        numbers={"own": Clouds.own_points(spec.points or 1, drawing.mix), **_shape(drawing.params)},
        resident=_arrays(drawing.params),
        placed_bytes=PLACED_BYTES["cloud"],
    )


def clouds(params: Mapping[str, NDArray[Any]], own: int) -> Plan:
    """How to draw clouds as they are."""
    return Plan(
        "clouds",
        CLOUDS_TASK,
        [("place_clouds", 1, PLACING_BYTES["cloud"]), ("draw_clouds", 1, _HEADER_BYTES)],
        Strips(),
        numbers={"own": own, **_shape(params)},
        resident=_arrays(params),
        placed_bytes=PLACED_BYTES["cloud"],
    )


def _walked(name: str, spec: RenderSpec, header_bytes: int = _HEADER_BYTES) -> tuple[str, Strips]:
    """The kernel that draws points, and its strips."""
    bits = spec.color in ("gray", "white") and spec.draw != "patch_per_point"
    strips = strips_of(spec.size, bits, header_bytes)
    return f"draw_{name}_{'bits' if bits else 'numbers'}{'_outside' if strips.outside_bytes else ''}", strips


def measuring(drawing: AffineSystems, spec: RenderSpec, enough: ArrayLike) -> Plan:
    """How to measure pictures."""
    strips = strips_of(spec.size, bits=True)
    if strips.count > 1:
        raise ValueError(f"size is {spec.size}; expected at most {_LARGEST_MEASURED}: a GPU measures whole pictures")
    return Plan(
        "measure",
        MEASURE_TASK,
        [("measure_affine", 1, strips.shared_bytes)],
        strips,
        numbers=_shape(drawing.params),
        resident=_arrays(drawing.params),
        arrays={"enough": np.broadcast_to(np.asarray(enough, np.int32), len(drawing.records))},
    )


def measuring_space(drawing: SpatialSystems, least: float) -> Plan:
    """How to measure clouds."""
    return Plan(
        "measure",
        MEASURE_TASK,
        [("measure_spatial", 1, JUDGED_CLOUD_BYTES)],
        Strips(),
        numbers={"least": least, **_shape(drawing.params)},
        resident=_arrays(drawing.params),
    )


def _shape(params: Mapping[str, NDArray[Any]]) -> dict[str, int]:
    return dict(zip(("categories", "width"), params["affine"].shape[:2], strict=True))


def _arrays(params: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {field: params[field] for field in ("affine", "probability", "maps")}


def _pixels(
    name: str,
    task: np.dtype[Any],
    spec: RenderSpec,
    resident: Mapping[str, NDArray[Any]] = MappingProxyType({}),
    arrays: Mapping[str, NDArray[Any]] = MappingProxyType({}),
) -> Plan:
    """Of drawings whose pixels do not know each other."""
    strips = pixel_strips(spec.size)
    kernel = f"draw_{name}", strips.count, strips.shared_bytes
    return Plan(name, task, [kernel], strips, resident=resident, arrays=arrays)


def _contours(records: NDArray[np.void], spec: RenderSpec) -> Plan:
    most = int(records["vertices"].clip(1, _core.MAX_VERTICES).max(initial=1))
    strips = canvas_strips(spec.size, CONTOURS_HEADER_BYTES + most * _VERTEX_BYTES)
    of_a_thread = next(count for count in (4, 16) if most <= count * THREADS)
    kernel = f"draw_contours_{of_a_thread}", strips.count, strips.shared_bytes
    return Plan("contours", CONTOURS_TASK, [kernel], strips, numbers={"most": most})


def _bezier(params: Mapping[str, NDArray[Any]], weights: NDArray[np.float32], spec: RenderSpec) -> Plan:
    counts = np.arange(2, _core.MAX_CONTROL_POINTS + 1)
    most = 1 + int(np.searchsorted(np.cumsum(_core.PIECES * counts**2), len(weights), side="right"))
    strips = canvas_strips(spec.size, BEZIER_HEADER_BYTES + most * _core.PIECES * _VERTEX_BYTES)
    return Plan(
        "bezier",
        BEZIER_TASK,
        [("draw_bezier", strips.count, strips.shared_bytes)],
        strips,
        numbers={"most": most},
        resident={"control_points": params["control_points"], "curves": params["curves"], "weights": weights},
    )


def _points(drawing: Points, spec: RenderSpec) -> Plan:
    records = drawing.records
    last = records["first"] + records["dimensions"].astype(np.int64) * records["points"]
    good = np.isin(records["dimensions"], (2, 3)) & (records["points"] >= 1) & (records["points"] <= _MOST_POINTS)
    if not (good & (records["first"] >= 0) & (last <= len(drawing.coordinates))).all():
        raise ValueError("an instance's points are not among those given")
    return _given("points", spec, {"coordinates": drawing.coordinates})


def _polylines(drawing: Polylines, spec: RenderSpec) -> Plan:
    ends, first, lines = drawing.ends, drawing.records["first"], drawing.records["lines"]
    if len(ends) == 0 or ends[0] < 0 or ends[-1] > len(drawing.vertices) or (np.diff(ends) < 1).any():
        raise ValueError("the ends do not fit the vertices, or a line has none")
    good = (lines >= 1) & (lines <= _MOST_LINES) & (first >= 0) & (first <= len(ends) - 1 - lines)
    if not good.all():
        raise ValueError("an instance's lines are not among those given, or too many")
    return _given("polylines", spec, {"coordinates": drawing.vertices, "ends": ends})


def _given(name: str, spec: RenderSpec, arrays: Mapping[str, NDArray[Any]]) -> Plan:
    strips = strips_of(spec.size, bits=False)
    return Plan(
        "given",
        GIVEN_TASK,
        [(f"place_{name}", 1, _HEADER_BYTES), (f"draw_{name}", strips.count, strips.shared_bytes)],
        strips,
        arrays=arrays,
        placed_bytes=PLACED_GIVEN_BYTES,
    )


def pixel_strips(size: int, shared_bytes: int = _HEADER_BYTES) -> Strips:
    """Strips of a picture whose pixels need nothing of each other."""
    rows = min(size, -(-_STRIP_PIXELS // size))
    return Strips(-(-size // rows), rows, shared_bytes)


def canvas_strips(size: int, header_bytes: int) -> Strips:
    """Strips of a picture of which a byte is kept for each pixel, after so much else.

    >>> canvas_strips(224, 10_000).count, canvas_strips(512, 10_000).count
    (2, 7)
    """
    row_bytes = -(-size // 4) * 4
    rows = (SHARED_BYTES - header_bytes) // row_bytes
    count = -(-size // rows) if rows > 0 else size
    if count > _MOST_CANVAS_STRIPS:
        return Strips(1, size, header_bytes, size * row_bytes)
    rows = -(-size // count)
    return Strips(-(-size // rows), rows, header_bytes + rows * row_bytes)


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
