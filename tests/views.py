"""Where a view puts the unit square, in float64, by the definition of the views: no code of the kernels."""

from __future__ import annotations

import math

import numpy as np

from fdsl import Crop, RandomView, RenderSpec, _core

# Purposes of a counter (docs: the dataset format), as far as tests draw by hand.
VIEW, INSTANCE = 2, 3


def words(seed: int, category: int, number: int, epoch: int, purpose: int, repeat: int, trajectory: int) -> np.ndarray:
    """Four random words of a counter."""
    counter = np.array([[category, number, epoch, purpose << 28 | repeat << 16 | trajectory]], np.uint32)
    result = np.empty_like(counter)
    _core.philox(seed, counter, result)
    return result[0]


def matrix(spec: RenderSpec, seed: int, category: int, number: int, epoch: int = 0, repeat: int = 0) -> np.ndarray:
    """3 x 3: from the unit square, y down, to pixels of the output."""
    first, second = (words(seed, category, number, epoch, VIEW, repeat, k) for k in (0, 1))
    side = float(spec.whole)
    whole = np.diag([side, side, 1.0])
    if spec.view is None:
        return whole
    if isinstance(spec.view, Crop):
        left, top = (int(word) * (spec.whole - spec.size + 1) >> 32 for word in first[:2])
        return shift(-left, -top) @ whole
    assert isinstance(spec.view, RandomView)
    u, q = first / 2.0**32, second / 2.0**32
    low, high = spec.view.scale
    area = low + (high - low) * u[0]
    low, high = (math.log(end) for end in spec.view.ratio)
    root = math.exp((low + (high - low) * u[1]) / 2)
    width, height = min(1.0, math.sqrt(area) * root), min(1.0, math.sqrt(area) / root)
    centre = side * (width / 2 + (1 - width) * u[2]), side * (height / 2 + (1 - height) * u[3])
    angle = math.radians(spec.view.rotation) * (2 * q[0] - 1)
    turn = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    zoom = np.diag([1 / width, 1 / height, 1.0])
    flip = np.diag([-1.0, 1.0, 1.0]) if q[1] < spec.view.flip else np.eye(3)
    half = spec.size / 2
    result: np.ndarray = shift(half, half) @ flip @ zoom @ turn @ shift(-centre[0], -centre[1]) @ whole
    return result


def shift(x: float, y: float) -> np.ndarray:
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])
