"""What a family hands to an engine: the records of a fused kernel, or points, polylines and fields as arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fdsl import _core, keyed
from fdsl.keyed import Purpose

# 3x3 patches of a category.
PATTERNS = 10
# Which picture: the head of every record; kernels/shared/picture.h says what each field keys.
KEY = [
    (name, np.uint32)
    for name in ("category", "number", "epoch", "instance", "view_epoch", "repeat", "neighbours", "flip")
]
assert np.dtype(KEY).itemsize == _core.KEY_BYTES


@dataclass(frozen=True)
class Instances:
    """Which pictures are asked for.

    Args:
        categories: int64 (N,).
        numbers: int64 (N,), instance numbers.
        epochs: int64, one or (N,): of the view, and where `fresh` of the instance.
        repeats: int64, one or (N,): of the view.
        seed: of the dataset.
        fresh: draw the instances anew each epoch.
    """

    categories: NDArray[np.int64]
    numbers: NDArray[np.int64]
    epochs: NDArray[np.int64]
    repeats: NDArray[np.int64]
    seed: int
    fresh: bool = False

    @property
    def drawn_epochs(self) -> NDArray[np.int64] | int:
        """What keys the instance's own draws beside its number: the epoch where `fresh`, else 0."""
        return self.epochs if self.fresh else 0

    def neighbours(self, pictures: NDArray[np.int64]) -> NDArray[np.uint32]:
        """The pixels set about the middle of each picture's 3x3 patch, one bit each: one of ten patches a category.

        Args:
            pictures: int64 (N,), their numbers; those that differ by ten have the same patch.
        """
        patches = keyed.words(self.seed, Purpose.PATCH, self.categories, pictures % PATTERNS)
        return patches[:, 0] & np.uint32(255)

    def records(self, dtype: np.dtype[Any]) -> NDArray[np.void]:
        """Zeroed records, (N,), whose keys are filled in; `number` is the instance's own."""
        records = np.zeros(len(self.categories), dtype)
        records["category"], records["number"], records["epoch"] = self.categories, self.numbers, self.drawn_epochs
        records["instance"], records["view_epoch"], records["repeat"] = self.numbers, self.epochs, self.repeats
        return records


@dataclass(frozen=True)
class AffineSystems:
    """2D iterated function systems, whose points random iteration finds (kernels/shared/affine_ifs.h).

    Args:
        params: maps int32 (C,), affine float64 (C, M, 6), probability float64 (C, M).
        records: RECORD (N,): the factors of a…f, and the box that bounds every fit.
    """

    RECORD: ClassVar = np.dtype([*KEY, ("factor", np.float64, 6), ("box", np.float32, 4)])

    params: Mapping[str, NDArray[Any]]
    records: NDArray[np.void]


assert AffineSystems.RECORD.itemsize == _core.AFFINE_INSTANCE_BYTES


@dataclass(frozen=True)
class SpatialSystems:
    """Iterated function systems in space, whose points a camera sees (kernels/shared/camera.h).

    Args:
        params: maps int32 (C,), affine float64 (C, M, 12), probability float64 (C, M).
        records: RECORD (N,): the factors of a…l; the least and largest coordinate, which bound every fit, and the
            centre of mass; turn and elevation of the camera's direction of sight in 2^-32 turns.
    """

    RECORD: ClassVar = np.dtype(
        [
            *KEY,
            ("factor", np.float64, 12),
            ("extent", np.float32, 5),
            *((name, np.uint32) for name in ("turn", "elevation", "unused")),
        ]
    )

    params: Mapping[str, NDArray[Any]]
    records: NDArray[np.void]


assert SpatialSystems.RECORD.itemsize == _core.SPATIAL_INSTANCE_BYTES


@dataclass(frozen=True)
class Clouds:
    """Point clouds of two systems in space each, seen by a camera (kernels/shared/clouds.h).

    Args:
        params: maps int32 (C,), affine float64 (C, M, 12), probability float64 (C, M).
        records: RECORD (N,): the turn of the camera's direction of sight about the vertical, in 2^-32 turns.
        mix: share of the points that are the partner's.
    """

    RECORD: ClassVar = np.dtype([*KEY, ("turn", np.uint32), ("unused", np.uint32)])

    params: Mapping[str, NDArray[Any]]
    records: NDArray[np.void]
    mix: float

    @staticmethod
    def own_points(points: int, mix: float) -> int:
        """Points of the category itself, at least one.

        >>> Clouds.own_points(2048, 0.2)
        1638
        """
        return max(1, points - round(points * mix))


assert Clouds.RECORD.itemsize == _core.CLOUD_PICTURE_BYTES


@dataclass(frozen=True)
class Contours:
    """Radial contours: closed polylines whose vertices noise moves before each line (kernels/shared/contours.h).

    Args:
        records: RECORD (N,): the axes and the centre of the ellipse that the vertices start on, in a plane of 512
            units; gain and shift, which make a vertex's step gain * pnoise1 + shift, less half the sines of both waves;
            how many vertices and lines; a line's shades, from the palette's row first_shade on; and how many breaks.
    """

    RECORD: ClassVar = np.dtype(
        [
            *KEY,
            ("axis", np.float64, 2),
            ("centre", np.float64, 2),
            ("gain", np.float64),
            ("shift", np.float64),
            ("vertices", np.int32),
            ("lines", np.int32),
            ("frequency", np.int32, 2),
            ("shades", np.int32),
            ("first_shade", np.int32),
            ("breaks", np.int32),
            ("", "V4"),
        ]
    )

    records: NDArray[np.void]


assert Contours.RECORD.itemsize == _core.CONTOUR_INSTANCE_BYTES


@dataclass(frozen=True)
class BezierCurves:
    """Bezier curves whose control points the instance draws (kernels/shared/bezier.h).

    Args:
        params: control_points int32 (C,), curves int32 (C,).
        weights: float32, Bernstein polynomials of curves of 2, 3, ... control points, (control points, points of the
            polyline) each, one after the other.
        records: RECORD (N,).
    """

    RECORD: ClassVar = np.dtype(KEY)

    params: Mapping[str, NDArray[Any]]
    weights: NDArray[np.float32]
    records: NDArray[np.void]


assert BezierCurves.RECORD.itemsize == _core.BEZIER_INSTANCE_BYTES


@dataclass(frozen=True)
class GradientNoise:
    """Gradient noise at the pixels' centres (kernels/shared/perlin.h).

    Args:
        params: frequencies int32 (C, 2): lattice cells along the picture's width and height.
        records: RECORD (N,).
    """

    RECORD: ClassVar = np.dtype(KEY)
    opaque: ClassVar = True  # a value at each pixel, and no ground

    params: Mapping[str, NDArray[Any]]
    records: NDArray[np.void]


assert GradientNoise.RECORD.itemsize == _core.PERLIN_INSTANCE_BYTES


@dataclass(frozen=True)
class Points:
    """Points that were worked out already, in the plane or in space (kernels/shared/given.h).

    Args:
        coordinates: float32 (numbers of all pictures,), finite, point by point.
        records: RECORD (N,): where a picture's numbers begin, how many points of 2 or 3 they are, at least one, and
            the camera's angle about the vertical, in turns of 2^-32.
    """

    RECORD: ClassVar = np.dtype(
        [
            *KEY,
            ("first", np.int64),
            ("points", np.int32),
            ("dimensions", np.int32),
            ("turn", np.uint32),
            ("unused", np.uint32),
        ]
    )

    coordinates: NDArray[np.float32]
    records: NDArray[np.void]


@dataclass(frozen=True)
class Polylines:
    """Polylines that were worked out already (kernels/shared/given.h).

    Args:
        vertices: float32 (vertices of all lines, 2), finite.
        ends: int64 (L + 1,): line i has the vertices ends[i] to ends[i + 1], at least one.
        records: RECORD (N,): a picture's first line, and how many it has, at least one.
    """

    RECORD: ClassVar = np.dtype([*KEY, ("first", np.int64), ("lines", np.int64)])

    vertices: NDArray[np.float32]
    ends: NDArray[np.int64]
    records: NDArray[np.void]


assert Points.RECORD.itemsize == _core.POINTS_BYTES
assert Polylines.RECORD.itemsize == _core.POLYLINES_BYTES


@dataclass(frozen=True)
class Fields:
    """A value per pixel, worked out when an engine has placed the view.

    Args:
        levels: called with a picture's position in the batch and the coordinates of its pixels' centres in the plane
            [0, 1) x [0, 1), float64 (size, size) each, y up; gives rows of the palette, uint8 (size, size).
        records: RECORD (N,).
    """

    RECORD: ClassVar = np.dtype(KEY)
    opaque: ClassVar = True  # a value at each pixel, and no ground

    levels: Callable[[int, NDArray[np.float64], NDArray[np.float64]], NDArray[np.uint8]]
    records: NDArray[np.void]


# All that an engine draws.
Drawing = (
    AffineSystems | SpatialSystems | Clouds | BezierCurves | Contours | GradientNoise | Points | Polylines | Fields
)
