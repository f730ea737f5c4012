"""What datasets of pictures, clouds and scenes have in common: indices, keys, instance numbers, outputs and digests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from operator import index
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

# An index, or (epoch, repeat, index) where a view or a fresh instance depends on the first two.
Key = int | tuple[int, int, int]
InstanceNumbers = range | NDArray[np.int64]


def dataset_positions(indices: ArrayLike, length: int) -> NDArray[np.int64]:
    """Indices (B,) into a dataset of that length, as int64 from 0 up; an IndexError where one is out of range."""
    positions = np.asarray(indices)
    if positions.size == 0:
        positions = positions.astype(np.int64)
    if positions.ndim != 1 or positions.dtype.kind not in "iu":
        raise ValueError(f"indices are {positions.dtype} {positions.shape}; expected integers of shape (B,)")
    positions = positions.astype(np.int64, copy=False)
    outside = (positions < -length) | (positions >= length)
    if outside.any():
        bad = int(positions[np.argmax(outside)])
        raise IndexError(f"index {bad} is out of range for a dataset of {length:,}")
    return np.where(positions < 0, positions + length, positions)


def key_table(keys: Sequence[Key]) -> NDArray[np.int64]:
    """What a sampler hands over as int64 (B, 3): epoch, repeat, index."""
    # operator.index refuses 0.5, which NumPy would round.
    rows = [[index(part) for part in (key if isinstance(key, tuple) else (0, 0, key))] for key in keys]
    return np.array(rows, np.int64).reshape(-1, 3)


def numbers_at(instances: InstanceNumbers, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """The instance numbers at these places."""
    if isinstance(instances, np.ndarray):
        return instances[places]
    return instances.start + instances.step * places


def content_digest(content: Mapping[str, object]) -> str:
    """sha256 hex of what decides every item of a dataset, in terms of JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def output(out: Any, shape: tuple[int, ...], dtype: type[np.generic]) -> Any:
    """The array to draw into, new where it is None; a ValueError where it has another dtype or shape.

    Of a tensor only the shape is checked here, because what else it must be is for its engine to say.
    """
    if out is None:
        return np.empty(shape, dtype)
    array = isinstance(out, np.ndarray)
    fits = not array or (out.dtype == dtype and out.flags.c_contiguous and out.flags.writeable)
    if tuple(out.shape) != shape or not fits:
        expected = f"writable, contiguous {np.dtype(dtype)} {shape}" if array else f"{shape}"
        raise ValueError(f"out is {out.dtype} {tuple(out.shape)}; expected {expected}")
    return out


def canonical_instances(instances: InstanceNumbers) -> str | list[int]:
    """What a digest covers of the instance numbers."""
    if isinstance(instances, np.ndarray):
        return hashlib.sha256(np.ascontiguousarray(instances, "<i8").tobytes()).hexdigest()
    return [instances.start, len(instances), instances.step]


def instance_numbers(instances: Any) -> InstanceNumbers:
    """Distinct instance numbers, as a range where they are evenly spaced; a ValueError where they are not."""
    expected = "expected a number of at least 1, a range, or distinct instance numbers from 0 up"
    if isinstance(instances, (int, np.integer)) and not isinstance(instances, bool):
        instances = range(int(instances))
    if not isinstance(instances, range):
        instances = np.asarray(instances)
        if instances.ndim != 1 or instances.dtype.kind not in "iu" or len(np.unique(instances)) != len(instances):
            raise ValueError(f"instances are not distinct whole numbers; {expected}")
        instances = instances.astype(np.int64)
    if len(instances) == 0:
        raise ValueError(f"instances is empty; {expected}")
    # A range is monotonic: its ends bound it, and a million instances need no walk.
    ends = np.array([instances[0], instances[-1]]) if isinstance(instances, range) else instances
    if ends.min() < 0 or ends.max() >= 2**32:
        raise ValueError(f"instances run from {ends.min()} to {ends.max()}; {expected}, under 2**32")
    # Evenly spaced numbers are a range, however they came, so that equal datasets have equal digests.
    first, step = int(instances[0]), int(instances[1]) - int(instances[0]) if len(instances) > 1 else 1
    evenly = range(first, first + len(instances) * step, step)
    if isinstance(instances, range) or np.array_equal(instances, evenly):
        return evenly
    numbers: NDArray[np.int64] = instances
    return numbers


def counted(name: str, value: ArrayLike, count: int, limit: int) -> NDArray[np.int64]:
    """Whole numbers from 0 up to the limit, one for all or one each, as int64; a ValueError where they are not."""
    numbers = np.asarray(value)
    fits = numbers.dtype.kind in "iu" and numbers.shape in ((), (count,))
    if not fits or (numbers < 0).any() or (numbers >= limit).any():
        raise ValueError(f"{name} is {value!r}; expected whole numbers from 0 to {limit - 1}, one for all or one each")
    return numbers.astype(np.int64)
