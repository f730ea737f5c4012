"""What families have in common whose instances share nothing: an instance number keys all that an instance draws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fdsl.families.protocol import Params
from fdsl.rendering import RenderSpec


class Independent:
    """A family without parameter variations, each of whose instances is drawn by itself."""

    criterion: str | None = None
    weight_rows = 0
    unvaried_row: int | None = None

    def palette(self, spec: RenderSpec) -> NDArray[np.uint8]:
        """The spec's own."""
        return spec.palette

    def numbering(self, number: int) -> dict[str, int]:
        """The number itself: it stands for nothing else."""
        return {"instance": number}

    def file_name(self, category: str, number: int) -> str:
        """CATEGORY_NNNN, as make_rcdb.py has it."""
        return f"{category}_{number:04d}"

    def held_out_groups(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """What a split must not part, int64 (N,): each instance by itself."""
        return numbers


class Column(NamedTuple):
    """One array of parameters: its dtype, its shape for a category, and its least and largest value."""

    dtype: str
    shape: tuple[int, ...]
    low: float
    high: float


class Tabular(Independent):
    """And whose categories are the rows of a few columns.

    A family of this kind says its name and:

    Attributes:
        columns: the arrays of a catalog, by name.
    """

    name: str
    columns: Mapping[str, Column]

    def check_params(self, params: Params) -> int:
        """The number of categories; raises a ValueError where an array is missing, or its dtype or shape is another."""
        if sorted(params) != sorted(self.columns):
            found = ", ".join(sorted(params)) or "none"
            raise ValueError(f"{self.name} has the arrays {', '.join(self.columns)}, not {found}")
        first = params[next(iter(self.columns))]
        categories = max(1, first.shape[0] if first.ndim else 0)
        for name, column in self.columns.items():
            array, shape = params[name], (categories, *column.shape)
            if array.dtype != column.dtype or array.shape != shape:
                raise ValueError(f"{name} is {array.dtype} {array.shape}; expected {column.dtype} {shape}")
        return categories

    def check_values(self, params: Params) -> None:
        """Raises a ValueError that names the first category whose numbers are out of their range."""
        for name, (_, _, low, high) in self.columns.items():
            good = (params[name] >= low) & (params[name] <= high)  # false for NaN
            broken = ~good.reshape(len(good), -1).all(1)
            if broken.any():
                category = int(np.argmax(broken))
                value = params[name][category].tolist()
                raise ValueError(f"category {category}: {name} is {value}; expected {low} to {high}")
