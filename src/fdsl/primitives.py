"""What a family hands to an engine: the records of a fused kernel, or points, polylines and fields as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fdsl import _core

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

# All that an engine draws.
Drawing = AffineSystems | SpatialSystems | Clouds
