"""PerlinNoiseDB: gradient noise of two frequencies (Kataoka et al., Pre-training without Natural Images, ACCV 2020).

A category is a frequency in x and one in y: 100 categories are the 10 x 10 grid of 1 to 10 lattice cells along each
side of the picture, 1,296 the one of 36 x 36. An instance draws the gradients, and where the lattice starts.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fdsl.families.category_grid import CategoryGrid
from fdsl.families.independent import Column
from fdsl.families.protocol import Settings
from fdsl.primitives import GradientNoise, Instances
from fdsl.rendering import RenderSpec

if TYPE_CHECKING:
    from fdsl.catalogs import Catalog


class Perlin(CategoryGrid):
    """The family `perlin`: a value per pixel, at the pixel's centre, over the unit square: the whole picture."""

    name = "perlin"
    largest_side = 256
    columns = MappingProxyType({"frequencies": Column("int32", (2,), 1, largest_side)})

    def sample(self, seed: int, candidates: NDArray[np.int64], settings: Settings) -> dict[str, NDArray[Any]]:
        """Cells of the grid: frequencies int32 (N, 2), x and y, one more than the column and the row."""
        rows, columns = self.places(candidates, settings)
        return {"frequencies": np.stack([columns, rows], 1) + np.int32(1)}

    def complete(self, spec: RenderSpec) -> RenderSpec:
        """The spec in gray where it says None; "color" goes once round the hues from the least value to the largest."""
        return spec.completed(self.name, {}, colors=("gray", "color"), color="gray")

    def palette(self, spec: RenderSpec) -> NDArray[np.uint8]:
        """What a pixel can hold, uint8 (N, channels): every gray, or black, which nothing is, and the hues."""
        if spec.color == "color":
            return spec.palette
        return np.repeat(np.arange(256, dtype=np.uint8)[:, None], spec.image_channels, axis=1)

    def drawing(self, catalog: Catalog, instances: Instances, spec: RenderSpec) -> GradientNoise:
        """Noise of numbered instances."""
        return GradientNoise(catalog.params, instances.records(GradientNoise.RECORD))
