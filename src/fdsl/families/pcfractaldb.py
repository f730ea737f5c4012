"""PC-FractalDB: point clouds of iterated function systems in space.

Yamada et al., Point Cloud Pre-training with Natural 3D Structures, CVPR 2022. Categories are sampled and accepted as
those of ExFractalDB. An instance is a FractalNoiseMix: four fifths of the points are the category's, one fifth another
category's. `fdsl.clouds` has the clouds themselves, and scenes of them; the pictures here show what they look like.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fdsl.families.exfractaldb import COLUMNS, VIEWS, ExFractalDB
from fdsl.families.protocol import SHRINK_STEPS
from fdsl.primitives import Clouds, Instances
from fdsl.rendering import RenderSpec

if TYPE_CHECKING:
    from fdsl.catalogs import Catalog

MIX = 0.2


class PCFractalDB(ExFractalDB):
    """The family `pcfractaldb`: its parameters do not vary, so a category is probed once."""

    name = "pcfractaldb"
    weight_rows = 1
    unvaried_row = 0

    def complete(self, spec: RenderSpec) -> RenderSpec:
        """The spec with 10,000 points, drawn as points and white where it says None.

        There is no pad, as the camera frames the picture, and no fit: a cloud is normalised by its own points.
        """
        return spec.completed(self.name, {}, points=10_000, draw="point", color="white")

    def factors(self, variation: float | None) -> NDArray[np.float64]:
        """Ones, float64 (1, 9, 12): nothing varies."""
        return np.ones((1, SHRINK_STEPS + 1, COLUMNS))

    def drawing(self, catalog: Catalog, instances: Instances, spec: RenderSpec) -> Clouds:  # type: ignore[override]
        """Clouds of numbered instances before the camera of ExFractalDB.

        An instance is numbered cloud * 12 + view. The cloud is that of `fdsl.clouds.CloudDataset`; view v is turned
        about the vertical by 30 v + 30 degrees.
        """
        cloud, view = np.divmod(instances.numbers, VIEWS)
        records = instances.records(Clouds.RECORD)
        records["number"] = cloud
        records["turn"] = (view + 1) * 2**32 // VIEWS & 0xFFFFFFFF
        records["neighbours"] = instances.neighbours(cloud)
        return Clouds(catalog.params, records, MIX)

    def numbering(self, number: int) -> dict[str, int]:
        """Cloud and view of an instance number.

        >>> PCFractalDB().numbering(25)
        {'cloud': 2, 'view': 1}
        """
        cloud, view = divmod(number, VIEWS)
        return {"cloud": cloud, "view": view}

    def file_name(self, category: str, number: int) -> str:
        """CATEGORY_NNNN_VVV, with cloud and view, and six digits of the category."""
        cloud, view = self.numbering(number).values()
        return f"{category:0>6}_{cloud:04d}_{view:03d}"

    def held_out_groups(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """What a split must not part, int64 (N,): the views of a cloud."""
        return numbers // VIEWS
