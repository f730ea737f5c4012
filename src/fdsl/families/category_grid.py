"""What families have in common whose categories are the cells of a square grid: BezierCurveDB and PerlinNoiseDB."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from fdsl.families.protocol import Params, Settings


class CategoryGrid:
    """n x n categories, none rejected; an instance number keys all that an instance draws.

    A family of this kind says its name and:

    Attributes:
        ranges: of each array of int32 parameters, its shape per category, and its least and largest value.
        largest_side: the largest n.
    """

    name: str
    ranges: Mapping[str, tuple[tuple[int, ...], int, int]]
    largest_side: int
    # What `fdsl.search` was asked for: the grid depends on it.
    settings: Settings = MappingProxyType({"categories": None})
    criterion: str | None = None
    weight_rows = 0
    unvaried_row: int | None = None

    def check_settings(self, settings: Settings) -> None:
        """Raises a ValueError where the number of categories is no square, or too large; it names the nearest."""
        categories = settings["categories"]
        low = isqrt(categories)
        side = min(low if categories - low**2 <= low else low + 1, self.largest_side)
        if side**2 != categories:
            raise ValueError(
                f"categories is {categories}; expected a square number up to {self.largest_side**2} for {self.name}, "
                f"such as {side**2} ({side} x {side})"
            )

    def places(self, categories: NDArray[np.int64], settings: Settings) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Row and column of categories in the grid, from 0: category = row * n + column."""
        rows, columns = np.divmod(categories, isqrt(settings["categories"]))
        return rows.astype(np.int32), columns.astype(np.int32)

    def check_params(self, params: Params) -> int:
        """The number of categories; raises a ValueError where an array is missing, or its dtype or shape is another."""
        if sorted(params) != sorted(self.ranges):
            found = ", ".join(sorted(params)) or "none"
            raise ValueError(f"{self.name} has the arrays {', '.join(self.ranges)}, not {found}")
        categories = max((len(array) for array in params.values() if array.ndim), default=0)
        for name, (shape, _, _) in self.ranges.items():
            array = params[name]
            if array.dtype != np.int32 or array.shape != (categories, *shape) or not categories:
                raise ValueError(
                    f"{name} is {array.dtype} {array.shape}; expected int32 {(max(1, categories), *shape)}"
                )
        return categories

    def check_values(self, params: Params) -> None:
        """Raises a ValueError that names the first category whose numbers are out of their range."""
        for name, (_, low, high) in self.ranges.items():
            outside = ((params[name] < low) | (params[name] > high)).reshape(len(params[name]), -1).any(1)
            if outside.any():
                category = int(np.argmax(outside))
                value = params[name][category].tolist()
                raise ValueError(f"category {category}: {name} is {value}; expected {low} to {high}")

    def numbering(self, number: int) -> dict[str, int]:
        """The number itself: it stands for nothing else."""
        return {"instance": number}

    def file_name(self, category: str, number: int) -> str:
        """CATEGORY_NNNN."""
        return f"{category}_{number:04d}"

    def held_out_groups(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """What a split must not part, int64 (N,): the instances share nothing."""
        return numbers
