"""BezierCurveDB: Bezier curves with random control points (Kataoka et al., Pre-training without Natural Images, ACCV
2020).

A category is a number of control points and a number of curves: 144 categories are the 12 x 12 grid of 2 to 13 control
points (degrees 1 to 12) and 1 to 12 curves, 1,024 the one of 32 x 32. An instance draws the control points.
"""

from __future__ import annotations

from functools import lru_cache
from math import comb
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fdsl import _core
from fdsl.families.category_grid import CategoryGrid
from fdsl.families.independent import Column
from fdsl.families.protocol import Settings
from fdsl.primitives import BezierCurves, Instances
from fdsl.rendering import RenderSpec

if TYPE_CHECKING:
    from fdsl.catalogs import Catalog


class Bezier(CategoryGrid):
    """The family `bezier`: curves one pixel wide on black, over the unit square, which is the whole picture."""

    name = "bezier"
    largest_side = _core.MAX_CONTROL_POINTS - 1
    columns = MappingProxyType(
        {
            "control_points": Column("int32", (), 2, largest_side + 1),
            "curves": Column("int32", (), 1, largest_side),
        }
    )

    def sample(self, seed: int, candidates: NDArray[np.int64], settings: Settings) -> dict[str, NDArray[Any]]:
        """Cells of the grid: control_points int32 (N,), two more than the row; curves int32 (N,), one more than the
        column."""
        rows, columns = self.places(candidates, settings)
        return {"control_points": rows + np.int32(2), "curves": columns + np.int32(1)}

    def complete(self, spec: RenderSpec) -> RenderSpec:
        """The spec in gray where it says None; "color" gives each curve a hue."""
        return spec.completed(self.name, {}, colors=("gray", "white", "color"), color="gray")

    def drawing(self, catalog: Catalog, instances: Instances, spec: RenderSpec) -> BezierCurves:
        """Curves of numbered instances; every control point is uniform in the unit square, y down."""
        most = min(int(catalog.params["control_points"].max()), self.largest_side + 1)
        return BezierCurves(catalog.params, _weights(most), instances.records(BezierCurves.RECORD))


@lru_cache(maxsize=8)
def _weights(most: int) -> NDArray[np.float32]:
    """Bernstein polynomials of curves of 2 to `most` control points, float32, one number of control points after the
    other: (control points, points of the polyline), as kernels/shared/bezier.h has them."""
    blocks = []
    for count in range(2, most + 1):
        degree = count - 1
        # The last point comes again and again, up to a whole number of registers.
        t = np.minimum(np.arange(_core.PIECES * count) / (_core.PIECES * degree), 1.0)
        # Powers as running products: NumPy's own may round otherwise on another machine.
        rising, falling = (np.ones((count, len(t))) for _ in range(2))
        for i in range(1, count):
            rising[i], falling[i] = rising[i - 1] * t, falling[i - 1] * (1.0 - t)
        choose = np.array([float(comb(degree, i)) for i in range(count)])
        blocks.append((choose[:, None] * rising * falling[::-1]).astype(np.float32).reshape(-1))
    weights = np.concatenate(blocks)
    weights.flags.writeable = False
    return weights
