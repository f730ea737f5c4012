"""Random numbers as a pure function of (seed, what for, which one): Philox-4x32-10, as the kernels use it.

The counter layout is part of the dataset format (kernels/shared/philox.h).
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fdsl import _core


class Purpose(IntEnum):
    """What a random number is for. Trajectories, views, compositions and scenes are drawn by kernels.

    So are epoch orders, whose numbers are 0; number 1 keys the orders of the parts that nodes hold, as categories.
    Augmentation, which is no part of that format, has the last one, and a sample's number as category and number.
    """

    PATCH = 1
    INSTANCE = 3
    CANDIDATE = 4
    ORDER = 5
    SPLIT = 6
    AUGMENTATION = 15


def check_seed(seed: int) -> int:
    """The seed as an int, or a ValueError: it keys a generator, so it must lie in 0 … 2^64 - 1."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**64:
        raise ValueError(f"seed is {seed!r}; expected an integer from 0 to 2**64 - 1")
    return int(seed)


def words(
    seed: int,
    purpose: Purpose,
    category: ArrayLike,
    number: ArrayLike = 0,
    epoch: ArrayLike = 0,
    trajectory: int = 0,
) -> NDArray[np.uint32]:
    """Four random words for each (category, number, epoch), which broadcast: uint32 (..., 4); more by trajectory.

    >>> words(0, Purpose.PATCH, category=[3, 4]).shape
    (2, 4)
    """
    counters = np.empty((*np.broadcast(category, number, epoch).shape, 4), np.uint32)
    counters[..., 0], counters[..., 1], counters[..., 2] = category, number, epoch
    counters[..., 3] = purpose << 28 | trajectory
    result = np.empty_like(counters)
    _core.philox(seed, counters.reshape(-1, 4), result.reshape(-1, 4))
    return result


def unit(word: NDArray[np.uint32]) -> NDArray[np.float64]:
    """Words as float64 in [0, 1), exactly."""
    return word.astype(np.float64) * 2.0**-32
