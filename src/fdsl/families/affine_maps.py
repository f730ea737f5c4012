"""Affine maps with probabilities: what families of iterated function systems have in common."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fdsl import _core
from fdsl.families.protocol import SHRINK_STEPS, Params


def check_arrays(family: str, params: Params, columns: int) -> int:
    """The number of categories, if `params` has the arrays of systems of maps with so many parameters.

    maps int32 (C,), affine float64 (C, M, columns), probability float64 (C, M).

    Raises:
        ValueError: an array is missing, or its dtype or shape is another.
    """
    expected = {"maps": ("int32", 1), "affine": ("float64", 3), "probability": ("float64", 2)}
    if sorted(params) != sorted(expected):
        found = ", ".join(sorted(params)) or "none"
        raise ValueError(f"{family} has the arrays {', '.join(expected)}, not {found}")
    for name, (dtype, dimensions) in expected.items():
        array = params[name]
        if array.dtype != dtype or array.ndim != dimensions:
            raise ValueError(f"{name} is {array.dtype} {array.shape}; expected {dtype} of {dimensions} dimensions")
    categories, width = params["probability"].shape
    if params["affine"].shape != (categories, width, columns) or params["maps"].shape != (categories,):
        raise ValueError(
            f"maps {params['maps'].shape}, affine {params['affine'].shape} and probability "
            f"{params['probability'].shape} do not fit together; expected (C,), (C, M, {columns}) and (C, M)"
        )
    if not 1 <= width <= _core.MAX_MAPS or categories < 1:
        raise ValueError(f"{categories} categories of {width} maps; expected 1 or more of up to {_core.MAX_MAPS}")
    return int(categories)


def check_values(params: Params) -> None:
    """Raises a ValueError that names the first category whose numbers make no system."""
    maps, affine, probability = (params[name] for name in ("maps", "affine", "probability"))
    used = np.arange(probability.shape[1]) < maps[:, None]
    for broken, message in (
        ((maps < 1) | (maps > probability.shape[1]), f"the number of maps is not 1 to {probability.shape[1]}"),
        (~np.isfinite(affine).all((1, 2)), "a parameter is not finite"),
        (~(np.where(used, probability, 0) >= 0).all(1), "a probability is negative or not a number"),
        (~(abs(np.where(used, probability, 0).sum(1) - 1) < 1e-6), "the probabilities do not sum to 1"),
    ):
        if broken.any():
            raise ValueError(f"category {int(np.argmax(broken))}: {message}")


def probabilities(weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights (N, M) as shares of their sum: summed map by map, because NumPy's own order depends on the machine."""
    total = weight[:, 0].copy()
    for i in range(1, weight.shape[1]):
        total += weight[:, i]
    return weight / total[:, None]


def shrunk(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights (rows, parameters) moved toward 1 by eighths: float64 (rows, 9, parameters), read-only."""
    part = np.arange(SHRINK_STEPS + 1)[:, None] / SHRINK_STEPS
    factors = np.where(part == 1.0, weights[:, None], 1.0 + part * (weights[:, None] - 1.0))
    factors.flags.writeable = False
    return factors
