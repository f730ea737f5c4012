"""The cpu engine: portable C++, AVX2, AVX-512 or NEON, picked when it is called; the same bytes from each."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fdsl import _core
from fdsl.engines.pixel_format import PixelFormat
from fdsl.engines.protocol import ALL_PIXELS
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
from fdsl.rendering import DENSITY_LEVELS, HUES, MAX_POINTS, MAX_SIZE, Crop, RandomView, RenderSpec

# What the pictures of a batch share; kernels/shared/picture.h has the same record.
SPEC = np.dtype(
    [
        ("scale", np.float64, 2),
        ("log_ratio", np.float64, 2),
        ("rotation", np.float64),
        ("flip", np.float64),
        ("seed", np.uint64),
        *((name, np.int32) for name in ("size", "of", "points", "pad", "draw", "color", "fit", "view")),
    ]
)
MEASUREMENT = np.dtype([("box", np.float32, 4), ("pixels", np.int32), ("finite", np.bool_), ("", "V3")])
# One point cloud; kernels/shared/clouds.h says what each field is.
CLOUD = np.dtype(
    [(name, np.uint32) for name in ("category", "number", "epoch", "boxed", "turn")] + [("box", np.float32, 7)]
)
assert SPEC.itemsize == _core.SPEC_BYTES
assert CLOUD.itemsize == _core.CLOUD_INSTANCE_BYTES
SPATIAL_MEASUREMENT = np.dtype([("box", np.float32, 5), ("variance", np.float32, 3), ("finite", np.bool_), ("", "V3")])
assert MEASUREMENT.itemsize == _core.MEASUREMENT_BYTES
assert SPATIAL_MEASUREMENT.itemsize == _core.SPATIAL_MEASUREMENT_BYTES
assert (HUES, DENSITY_LEVELS) == (_core.HUES, _core.DENSITY_LEVELS)
assert (MAX_SIZE, MAX_POINTS) == (_core.MAX_SIZE, _core.MAX_POINTS)

_DRAW = {"point": 0, "patch": 1, "patch_per_point": 2}
# Gray and white are one drawing of two palettes.
_COLOR = {"gray": 0, "white": 0, "color": 1, "density": 2}
_FIT = {"own": 0, "stored": 1}


def kernel_name() -> str:
    """The kernel in use: the best one that runs here, or the one that the variable FDSL_CPU names.

    >>> kernel_name() in ("avx512", "avx2", "neon", "portable")
    True
    """
    available = _core.kernels()
    name = os.environ.get("FDSL_CPU") or available[0]
    if name not in available:
        raise ValueError(f"FDSL_CPU is {name!r}; expected one of what runs on this machine: {', '.join(available)}")
    return name


def processors() -> int:
    """The processors that this process may use.

    >>> processors() >= 1
    True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_threads() -> int:
    """One thread in a DataLoader worker; else the processors that we may use, shared out among the ranks of a node."""
    torch_data = sys.modules.get("torch.utils.data")
    if torch_data is not None and torch_data.get_worker_info() is not None:
        return 1
    ranks_here = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return max(1, processors() // max(1, int(ranks_here) if ranks_here.isdecimal() else 1))


def thread_count(threads: int | None) -> int:
    """The number of threads asked for; None is `default_threads()`.

    Raises:
        ValueError: it is not a whole number of at least 1.
    """
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise ValueError(f"threads is {threads!r}; expected a whole number of at least 1, or None")
    return threads or default_threads()


def spec_record(spec: RenderSpec, seed: int) -> NDArray[np.void]:
    """What the pictures of a batch share, as kernels have it: SPEC ()."""
    record = np.zeros((), SPEC)
    record["seed"], record["size"], record["of"] = seed, spec.size, spec.whole
    # What is None, the family does not have, and no kernel of it looks at.
    record["points"], record["pad"] = spec.points or 0, spec.pad or 0
    record["draw"], record["color"] = _DRAW[spec.draw or "point"], _COLOR[spec.color or "gray"]
    record["fit"] = _FIT[spec.fit or "own"]
    if isinstance(spec.view, Crop):
        record["view"] = 1
    elif isinstance(spec.view, RandomView):
        record["view"], record["scale"], record["flip"] = 2, spec.view.scale, spec.view.flip
        record["log_ratio"] = [_core.logarithm(end) for end in spec.view.ratio]
        record["rotation"] = spec.view.rotation / 360
    return record


def spec_bytes(spec: RenderSpec, seed: int) -> NDArray[np.uint8]:
    """The same as bytes, (bytes,)."""
    return np.frombuffer(spec_record(spec, seed).tobytes(), np.uint8)


def record_bytes(records: NDArray[np.void]) -> NDArray[np.uint8]:
    """Records (N,) as their bytes, (N, bytes)."""
    return np.ascontiguousarray(records).view(np.uint8).reshape(len(records), records.dtype.itemsize)


class Engine:
    """Draws into NumPy arrays, with the GIL free meanwhile; the caller's floating-point mode comes back as it was.

    Args:
        threads: that share a batch; None asks `default_threads()` at each call.

    Raises:
        ValueError: `threads` is not a whole number of at least 1.

    >>> engine = Engine(threads=1)
    >>> engine.empty((8, 1, 224, 224)).shape
    (8, 1, 224, 224)
    """

    device: Any = None  # NumPy arrays
    pixels = PixelFormat()

    def __init__(self, threads: int | None = None) -> None:
        thread_count(threads)
        self._threads = threads

    @property
    def threads(self) -> int:
        """How many share a batch, here and now: in a DataLoader worker one, unless said."""
        return thread_count(self._threads)

    def empty(self, shape: tuple[int, ...], dtype: str | None = None) -> NDArray[Any]:
        """Uninitialised memory, C-contiguous: uint8, or of a named dtype."""
        return np.empty(shape, dtype or np.uint8)

    def put(self, out: NDArray[np.uint8], rows: NDArray[np.int64], pictures: NDArray[np.uint8]) -> None:
        """Copies pictures (N, ...) to the rows (N,) of a batch."""
        out[rows] = pictures

    def draw(
        self,
        drawing: Drawing,
        spec: RenderSpec,
        palette: NDArray[np.uint8],
        seed: int,
        out: NDArray[np.uint8],
    ) -> None:
        """Draws a batch into `out`, uint8 (B, channels, size, size), C-contiguous; see `protocol.Engine.draw`."""
        kernel = kernel_name()
        common: tuple[Any, ...] = (record_bytes(drawing.records), spec_bytes(spec, seed), palette, out, self.threads)
        match drawing:
            case AffineSystems(params=params):
                _core.draw_affine(kernel, params["affine"], params["probability"], params["maps"], *common)
            case SpatialSystems(params=params):
                _core.draw_spatial(kernel, params["affine"], params["probability"], params["maps"], *common)
            case Clouds(params=params):
                own = Clouds.own_points(spec.points or 1, drawing.mix)
                _core.draw_cloud_pictures(kernel, params["affine"], params["probability"], params["maps"], own, *common)
            case BezierCurves(params=params):
                _core.draw_bezier(kernel, params["control_points"], params["curves"], drawing.weights, *common)
            case Contours():
                _core.draw_contours(kernel, *common)
            case GradientNoise(params=params):
                _core.draw_perlin(kernel, params["frequencies"], *common)
            case Points():
                _core.draw_points(kernel, drawing.coordinates, *common)
            case Polylines():
                _core.draw_polylines(kernel, drawing.vertices, drawing.ends, *common)
            case Fields():
                _draw_fields(drawing, *common[:4])

    def compose(
        self,
        pixels: NDArray[np.uint8],
        objects: NDArray[np.void],
        ground: NDArray[np.uint8],
        opaque: bool,
        out: NDArray[np.uint8],
        masks: NDArray[np.uint8],
    ) -> None:
        """Pastes drawn objects onto canvases; see `protocol.Engine.compose`. All arrays are C-contiguous."""
        _core.compose(pixels, record_bytes(objects), ground, opaque, out, masks, self.threads)

    def draw_clouds(
        self,
        params: Mapping[str, NDArray[Any]],
        records: NDArray[np.void],
        seed: int,
        own: int,
        out: NDArray[np.float32],
    ) -> None:
        """Draws point clouds into `out`, float32 (B, points, 3): CLOUD (B,), `own` points of their own category."""
        _core.draw_clouds(
            kernel_name(),
            params["affine"],
            params["probability"],
            params["maps"],
            record_bytes(records),
            seed,
            own,
            out,
            self.threads,
        )

    def place_scenes(
        self,
        scenes: NDArray[np.int64],
        epochs: NDArray[np.int64] | int,
        seed: int,
        floor: float,
        objects: int,
        categories: int,
        instances: int,
    ) -> tuple[NDArray[np.void], NDArray[np.int64]]:
        """The objects of numbered scenes (B,), one scene after the other: CLOUD (M,), and how many each has, (B,).

        Args:
            scenes: their numbers, under 2^32.
            epochs: of each or of all.
            seed: of the dataset.
            floor: side of the square that the centres lie on.
            objects: of a scene, plus Poisson(5).
            categories: to choose from.
            instances: to choose from.
        """
        most = objects + _core.POISSON_MOST
        records = np.zeros((len(scenes), most), CLOUD)
        counts = np.zeros(len(scenes), np.int32)
        numbers, keys = scenes.astype(np.uint32), np.broadcast_to(np.asarray(epochs, np.uint32), scenes.shape).copy()
        rows = records.view(np.uint8).reshape(len(scenes), most, CLOUD.itemsize)
        _core.place_scenes(seed, floor, objects, categories, instances, numbers, keys, rows, counts, self.threads)
        return records[np.arange(most) < counts[:, None]], counts.astype(np.int64)

    def measure(
        self, drawing: AffineSystems, spec: RenderSpec, seed: int, enough: ArrayLike = ALL_PIXELS
    ) -> NDArray[np.void]:
        """Point pictures judged, not kept: MEASUREMENT records, (B,); see `protocol.Engine.measure`."""
        result = np.zeros(len(drawing.records), MEASUREMENT)
        _core.measure_affine(
            kernel_name(),
            drawing.params["affine"],
            drawing.params["probability"],
            drawing.params["maps"],
            record_bytes(drawing.records),
            spec_bytes(spec, seed),
            np.broadcast_to(np.asarray(enough, np.int32), len(result)).copy(),
            record_bytes(result),
            self.threads,
        )
        return result

    def measure_spatial(self, drawing: SpatialSystems, points: int, seed: int, least: float = 0.0) -> NDArray[np.void]:
        """Clouds judged, not kept: SPATIAL_MEASUREMENT records, (B,); see `protocol.Engine.measure_spatial`."""
        result = np.zeros(len(drawing.records), SPATIAL_MEASUREMENT)
        _core.measure_spatial(
            kernel_name(),
            drawing.params["affine"],
            drawing.params["probability"],
            drawing.params["maps"],
            record_bytes(drawing.records),
            spec_bytes(RenderSpec(points=points), seed),
            least,
            record_bytes(result),
            self.threads,
        )
        return result


def _draw_fields(
    drawing: Fields,
    keys: NDArray[np.uint8],
    spec: NDArray[np.uint8],
    palette: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> None:
    # Python's own work, picture by picture: threads would wait for each other.
    for i, picture in enumerate(out):
        x, y = np.empty((2, *picture.shape[1:]))
        _core.pixel_centres(keys[i : i + 1], spec, x, y)
        levels = drawing.levels(i, x, y)
        for plane, values in zip(picture, palette.T, strict=True):
            np.take(values, levels, out=plane, mode="clip")
