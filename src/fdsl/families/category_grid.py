"""What families have in common whose categories are the cells of a square grid: BezierCurveDB and PerlinNoiseDB."""

from __future__ import annotations

from math import isqrt
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from fdsl.families.independent import Tabular
from fdsl.families.protocol import Settings


class CategoryGrid(Tabular):
    """n x n categories, none rejected.

    Attributes:
        largest_side: the largest n.
    """

    largest_side: int
    # What `fdsl.search` was asked for: the grid depends on it.
    settings: Settings = MappingProxyType({"categories": None})

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
