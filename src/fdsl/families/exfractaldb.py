"""ExFractalDB: iterated function systems in space, seen by a camera.

Kataoka et al., Replacing Labeled Real-image Datasets with Auto-generated Contours, CVPR 2022; the same pictures as
MV-FractalDB (Yamada et al., MV-FractalDB: Formula-driven Supervised Learning for Multi-view Image Recognition, IROS
2021). A category is a system of 2 to 7 affine maps (x, y, z)' = (a b c; d e f; g h i) (x, y, z) + (j, k, l), each
picked with a probability proportional to abs det of its matrix. An instance multiplies one of the twelve parameters of
every map by a weight, and looks at the cloud of points from a viewpoint.
"""

from __future__ import annotations

import math
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fdsl import keyed
from fdsl.families.affine_maps import check_arrays, check_values, probabilities, shrunk
from fdsl.families.protocol import SHRINK_STEPS, Params, Settings
from fdsl.keyed import Purpose
from fdsl.primitives import Instances, SpatialSystems
from fdsl.rendering import RenderSpec

if TYPE_CHECKING:
    from fdsl.catalogs import Catalog

COLUMNS = 12
WEIGHT_ROWS = 145
UNVARIED_ROW = 6
VIEWS = 12
PUBLISHED_INSTANCES = WEIGHT_ROWS * VIEWS
# The weight rows of each parameter by rising weight: 0.4 to 0.9, 1 (shared), 1.1 to 1.6.
_LADDER = np.array(
    [
        range(13),
        *([*range(12 * k + 1, 12 * k + 7), UNVARIED_ROW, *range(12 * k + 7, 12 * k + 13)] for k in range(1, 12)),
    ]
)
# Stands for "no box": far beyond any attractor, and its square is still finite.
_UNBOUNDED = np.array([-(2.0**60), 2.0**60, 0, 0, 0], np.float32)


class ExFractalDB:
    """The family `exfractaldb`.

    Settings of a search:
        variance: least variance of a cloud on each axis, over 0 and under 1, once all coordinates together span 2; 0.05
            as in every published script, 0.15 in the text.
    """

    name = "exfractaldb"
    settings: Settings = MappingProxyType({"variance": 0.05})
    criterion: str | None = "variance"
    weight_rows = WEIGHT_ROWS
    unvaried_row: int | None = UNVARIED_ROW
    box_numbers = 5
    viewpoints = VIEWS

    def check_settings(self, settings: Settings) -> None:
        """Raises a ValueError where the variance is one that no cloud reaches."""
        check_variance(settings["variance"])

    def check_params(self, params: Params) -> int:
        """The number of categories, if `params` has the family's arrays.

        maps int32 (C,), affine float64 (C, M, 12) as a…l, probability float64 (C, M).

        Raises:
            ValueError: an array is missing, or its dtype or shape is another.
        """
        return check_arrays(self.name, params, COLUMNS)

    def check_values(self, params: Params) -> None:
        """Raises a ValueError that names the first category whose numbers make no system."""
        check_values(params)

    def complete(self, spec: RenderSpec) -> RenderSpec:
        """The spec with 10,000 points, drawn as points, white and with the own fit where it says None.

        There is no pad: the camera frames the picture.
        """
        if spec.options and spec.fit == "stored":
            raise ValueError("fit 'stored' needs probed instances; expected fit 'own' with instance_rule 'published'")
        return spec.completed(
            self.name, {"instance_rule": ("published",)}, points=10_000, draw="point", color="white", fit="own"
        )

    def palette(self, spec: RenderSpec) -> NDArray[np.uint8]:
        """The spec's own."""
        return spec.palette

    def sample(self, seed: int, candidates: NDArray[np.int64], settings: Settings) -> dict[str, NDArray[Any]]:
        """Parameters of numbered candidates, 2 to 7 maps of twelve in U(-1, 1) as published.

        Args:
            seed: keys the draws.
            candidates: int64 (N,), numbers from 0 up.
            settings: none that matters here.

        Returns:
            maps int32 (N,), affine float64 (N, 7, 12), probability float64 (N, 7), in proportion to abs det.
        """
        drawn = keyed.words(seed, Purpose.CANDIDATE, candidates[:, None], np.arange(22)).reshape(len(candidates), 88)
        maps = (2 + (drawn[:, 0].astype(np.uint64) * 6 >> 32)).astype(np.int32)
        affine = 2.0 * keyed.unit(drawn[:, 4:]).reshape(-1, 7, COLUMNS) - 1.0
        affine *= (np.arange(7) < maps[:, None])[..., None]
        affine += 0.0  # no negative zeros
        return {"maps": maps, "affine": affine, "probability": probabilities(volumes(affine))}

    def probes(self, params: Params, categories: NDArray[np.int64], factors: NDArray[np.float64]) -> SpatialSystems:
        """Unbounded clouds for search and probing: categories int64 (N,), factors float64 (N, 12)."""
        records = np.zeros(len(categories), SpatialSystems.RECORD)
        records["category"], records["factor"], records["extent"] = categories, factors, _UNBOUNDED
        return SpatialSystems(params, records)

    def factors(self, variation: float | None) -> NDArray[np.float64]:
        """What each parameter is multiplied by, float64 (145, 9, 12): by weight row and by shrink factor in eighths.

        Eight eighths leave the weights as they are, none gives 1. The published weights are fixed: no setting.
        """
        return _factors()

    def drawing(self, catalog: Catalog, instances: Instances, spec: RenderSpec) -> SpatialSystems:
        """Systems and cameras of numbered instances.

        An instance below 1,740 is numbered as the published files are: weight row * 12 + view. View v looks along the
        x axis, turned about the vertical by 30 v + 30 degrees and a jitter of at most pi degrees either way (as in
        image_render/render.py, where radians(uniform(-pi, pi)) takes it for degrees). All views of a row see the same
        points. From 1,740 on, and all of them where `fresh`, the factor is drawn continuously between neighbouring
        weight rows of one parameter, the camera's turn anywhere about the vertical, and its elevation within 45 degrees
        either way. The option instance_rule "published" shrinks and bounds nothing, and takes the published weights.
        """
        published_rule = spec.options.get("instance_rule") == "published"
        shrink, boxes = catalog.shrink, catalog.boxes
        assert shrink is not None
        assert boxes is not None
        factors = self.factors(None)
        categories, numbers, seed = instances.categories, instances.numbers, instances.seed
        drawn = (numbers >= PUBLISHED_INSTANCES) | instances.fresh
        row, view = np.divmod(numbers, VIEWS)
        cloud = np.where(drawn, numbers, row)  # what the views of an object share
        records = instances.records(SpatialSystems.RECORD)
        records["number"] = cloud
        records["neighbours"] = instances.neighbours(cloud)

        random = keyed.words(seed, Purpose.INSTANCE, categories, numbers, instances.drawn_epochs).astype(np.int64)
        jitter = math.pi * (2.0 * (random[:, 2] * 2.0**-32) - 1.0)
        turn = np.floor(((view + 1) / VIEWS + jitter / 360.0) * 2.0**32).astype(np.int64)
        records["turn"] = np.where(drawn, random[:, 2], turn & 0xFFFFFFFF)
        records["elevation"] = np.where(drawn, ((random[:, 3] >> 2) - 2**29) & 0xFFFFFFFF, 0)

        column, step = random[:, 0] * COLUMNS >> 32, random[:, 1] * 12 >> 32
        low, high = (np.where(drawn, _LADDER[column, step + i], np.where(drawn, 0, row)) for i in (0, 1))
        position = np.where(drawn, (random[:, 1] * 12 & 0xFFFFFFFF) * 2.0**-32, 0.0)[:, None]
        start, end = (factors[r, SHRINK_STEPS if published_rule else shrink[categories, r]] for r in (low, high))
        records["factor"] = start + position * (end - start)
        if published_rule:
            records["factor"][~drawn] = published_weights()[row[~drawn]]
            records["extent"] = _UNBOUNDED
        else:
            a, b = boxes[categories, low].astype(np.float64), boxes[categories, high].astype(np.float64)
            records["extent"] = a + position * (b - a)
            records["extent"][:, 0] = np.minimum(a[:, 0], b[:, 0])
            records["extent"][:, 1] = np.maximum(a[:, 1], b[:, 1])
        return SpatialSystems(catalog.params, records)

    def numbering(self, number: int) -> dict[str, int]:
        """Weight row and view of an instance number; {} from 1,740 on, where instances are drawn.

        >>> ExFractalDB().numbering(75)
        {'row': 6, 'view': 3}
        """
        row, view = divmod(number, VIEWS)
        return {"row": row, "view": view} if number < PUBLISHED_INSTANCES else {}

    def file_name(self, category: str, number: int) -> str:
        """CATEGORY_RRRRR_VVV, with weight row and view, and six digits of the category."""
        row, view = self.numbering(number).values()
        return f"{category:0>6}_{row:05d}_{view:03d}"

    def held_out_groups(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """What a split must not part, int64 (N,): the weight row, or a continuously drawn instance."""
        return np.where(numbers < PUBLISHED_INSTANCES, numbers // VIEWS, WEIGHT_ROWS + numbers)


def check_variance(variance: object) -> float:
    """The least variance as a float; coordinates that span 2 have one of 1 at most.

    >>> check_variance(0.05)
    0.05
    """
    if isinstance(variance, bool) or not isinstance(variance, (int, float)) or not 0 < variance < 1:
        raise ValueError(f"variance is {variance!r}; expected over 0 and under 1 (0.05 as published)")
    return float(variance)


def volumes(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """abs det of the maps' matrices, (..., 12) -> (...): products and sums in a fixed order, the same everywhere.

    >>> volumes(np.array([2.0, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0])).item()
    24.0
    """
    a, b, c, d, e, f, g, h, i = np.moveaxis(affine[..., :9], -1, 0)
    determinant: NDArray[np.float64] = abs(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g))
    return determinant


def published_weights() -> NDArray[np.float64]:
    """The weights of weights_ins145.csv, float64 (145, 12): one of a…l times 0.4, 0.5 … 1.6; row 6 varies nothing.

    Its row 108 has 0.6 for the 1.6 of parameter i, which is row 101 once more.

    >>> published_weights()[[13, 108]][:, [1, 8]].tolist()
    [[0.4, 1.0], [1.0, 0.6]]
    """
    weights = _weights()
    weights[_LADDER[8, -1], 8] = 0.6
    return weights


def _weights() -> NDArray[np.float64]:
    weights = np.ones((WEIGHT_ROWS, COLUMNS))
    for column, ladder in enumerate(_LADDER):
        weights[ladder, column] = np.arange(4, 17) / 10
    return weights


@lru_cache(maxsize=1)
def _factors() -> NDArray[np.float64]:
    return shrunk(_weights())
