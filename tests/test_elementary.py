from __future__ import annotations

import math

import numpy as np

from fdsl import _core


def test_sine_and_cosine_of_integer_turns() -> None:
    turns = np.concatenate([np.arange(0, 2**32, 65521), np.arange(0, 2**32, 2**29), [2**32 - 1, 2**29 - 1, 2**29 + 1]])
    ours = np.empty((len(turns), 2))
    _core.sine_cosine(turns.astype(np.uint32), ours)
    angles = turns.astype(np.uint32).astype(np.int32) * (2 * np.pi / 2**32)
    assert abs(ours[:, 0] - np.sin(angles)).max() < 1.4e-15  # the angle is rounded too, by up to 4.4e-16
    assert abs(ours[:, 1] - np.cos(angles)).max() < 1.4e-15
    assert ours[turns == 2**30].tolist() == [[1.0, 0.0]]


def test_exponential_and_logarithm() -> None:
    for x in np.linspace(-30, 30, 997).tolist():
        assert math.isclose(_core.exponential(x), math.exp(x), rel_tol=1e-14)
        assert math.isclose(_core.logarithm(math.exp(x)), x, rel_tol=1e-14, abs_tol=1e-15)
    assert _core.logarithm(1.0) == 0.0
    assert _core.exponential(0.0) == 1.0
