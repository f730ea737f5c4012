"""FractalDB: 2D iterated function systems (Kataoka et al., Pre-training without Natural Images, ACCV 2020).

A category is a system of 2 to 7 affine maps x' = a x + b y + e, y' = c x + d y + f, each picked with a probability
proportional to |ad - bc|. An instance multiplies one of the six parameters of every map by a weight, flips the picture,
and draws it along other trajectories or with another 3x3 patch.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fdsl import _core, keyed
from fdsl.families.affine_maps import check_arrays, check_values, probabilities, shrunk
from fdsl.families.protocol import SHRINK_STEPS, Params, Settings
from fdsl.keyed import Purpose
from fdsl.primitives import PATTERNS, AffineSystems, Instances
from fdsl.rendering import RenderSpec

if TYPE_CHECKING:
    from fdsl.catalogs import Catalog

WEIGHT_ROWS = 25
UNVARIED_ROW = 2
FLIPS = 4
PUBLISHED_INSTANCES = WEIGHT_ROWS * PATTERNS * FLIPS
# The weight rows of each parameter by rising weight: 1-2s, 1-s, 1 (shared), 1+s, 1+2s.
_LADDER = np.array([[0, 1, 2, 3, 4], *([4 * k + 1, 4 * k + 2, 2, 4 * k + 3, 4 * k + 4] for k in range(1, 6))])
# Stands for "no box": far beyond any attractor, and its square is still finite.
_UNBOUNDED = np.array([-(2.0**60), 2.0**60, -(2.0**60), 2.0**60], np.float32)

_SAMPLERS = ("uniform", "sigma", "perturbed")


class FractalDB:
    """The family `fractaldb`.

    Settings of a search:
        fill_rate: least share of the pixels that a category's picture hits, 0.2 as published; what 100,000 points can't
            reach is refused.
        variation: setting s of the parameter variations, over 0 to 0.5; 0.4 as published.
        sampler: "uniform" as published; "sigma", contractive maps (Anderson and Farrell, Improving Fractal
            Pre-training, WACV 2022); or "perturbed" (1p-frac: Nakamura et al., Scaling Backwards: Minimal Synthetic
            Pre-training?, ECCV 2024).
        sigma_factor: of "sigma": the sum of s1 + 2 s2 over the maps' singular values; None draws it as they do.
        base: of "perturbed": a catalog of one category.
        delta: of "perturbed": each parameter of the base times U(1 - delta, 1 + delta), 0.1 as published.
    """

    name = "fractaldb"
    settings: Settings = MappingProxyType(
        {
            "fill_rate": 0.2,
            "variation": 0.4,
            "sampler": "uniform",
            "sigma_factor": None,
            "base": None,
            "delta": None,
        }
    )
    criterion: str | None = "filling"
    weight_rows = WEIGHT_ROWS
    unvaried_row: int | None = UNVARIED_ROW
    box_numbers = 4

    def check_settings(self, settings: Settings) -> None:
        """Raises a ValueError where the sampler, or what belongs to it, is out of its range."""
        sampler, sigma_factor = settings["sampler"], settings["sigma_factor"]
        if sampler not in _SAMPLERS:
            raise ValueError(f"sampler is {sampler!r}; expected one of {', '.join(_SAMPLERS)}")
        number = isinstance(sigma_factor, (int, float)) and not isinstance(sigma_factor, bool)
        if sigma_factor is not None and (sampler != "sigma" or not number or not 0 < sigma_factor < 6):
            raise ValueError(f"sigma_factor is {sigma_factor!r}; expected over 0 and under 6, and sampler 'sigma'")
        base, delta = settings["base"], settings["delta"]
        if sampler != "perturbed" and (base is not None or delta is not None):
            raise ValueError(f"base and delta belong to sampler 'perturbed'; expected that instead of {sampler!r}")
        if sampler == "perturbed":
            if getattr(base, "family", None) != self.name or len(base) != 1:
                raise ValueError(f"base is {base!r}; expected a fractaldb catalog of one category to perturb")
            if isinstance(delta, bool) or not isinstance(delta, (int, float)) or not 0 < delta <= 1:
                raise ValueError(f"delta is {delta!r}; expected a share over 0 and up to 1 (0.1 as published)")

    def check_params(self, params: Params) -> int:
        """The number of categories, if `params` has the family's arrays.

        maps int32 (C,), affine float64 (C, M, 6) as a…f, probability float64 (C, M).

        Raises:
            ValueError: an array is missing, or its dtype or shape is another.
        """
        return check_arrays(self.name, params, 6)

    def check_values(self, params: Params) -> None:
        """Raises a ValueError that names the first category whose numbers make no system."""
        check_values(params)

    def complete(self, spec: RenderSpec) -> RenderSpec:
        """The spec with 100,000 points, patches, gray, a pad of 6 pixels and the own fit where it says None."""
        if spec.options and spec.fit == "stored":
            raise ValueError("fit 'stored' needs probed instances; expected fit 'own' with instance_rule 'published'")
        options = {"instance_rule": ("published",)}
        return spec.completed(self.name, options, points=100_000, draw="patch", color="gray", pad=6, fit="own")

    def palette(self, spec: RenderSpec) -> NDArray[np.uint8]:
        """The spec's own."""
        return spec.palette

    def sample(self, seed: int, candidates: NDArray[np.int64], settings: Settings) -> dict[str, NDArray[Any]]:
        """Parameters of numbered candidates; each is a pure function of (seed, its number).

        Args:
            seed: keys the draws.
            candidates: int64 (N,), numbers from 0 up.
            settings: the sampler: "uniform" draws 2 to 7 maps with six parameters each in U(-1, 1); "sigma" draws maps
                by their singular values: two rotations with random reflections, and sum(s1 + 2 s2) equal to the
                sigma_factor, which None draws in U((5 + M) / 2, (6 + M) / 2) for M maps; "perturbed" multiplies each
                parameter of the one category of `base`.

        Returns:
            maps int32 (N,), affine float64 (N, M, 6), probability float64 (N, M), with room for M maps.
        """
        first = keyed.words(seed, Purpose.CANDIDATE, candidates)
        maps = (2 + (first[:, 0].astype(np.uint64) * 6 >> 32)).astype(np.int32)
        drawn = keyed.words(seed, Purpose.CANDIDATE, candidates[:, None], np.arange(1, 13))
        symmetric = 2.0 * keyed.unit(drawn.reshape(-1, 8, 6)) - 1.0
        if settings["sampler"] == "uniform":
            affine = symmetric[:, :7]
        elif settings["sampler"] == "perturbed":
            base = settings["base"].params
            maps = np.repeat(base["maps"], len(candidates))
            width = base["affine"].shape[1]
            affine = np.zeros((len(candidates), 8, 6))
            affine[:, :width] = base["affine"] * (1.0 + settings["delta"] * symmetric[:, :width])
        else:
            affine = self._sample_contractive(seed, candidates, maps, keyed.unit(first[:, 1]), settings["sigma_factor"])
        used = np.arange(affine.shape[1]) < maps[:, None]
        affine = np.where(used[..., None], affine, 0.0)
        weight = abs(affine[..., 0] * affine[..., 3] - affine[..., 1] * affine[..., 2])
        return {"maps": maps, "affine": affine, "probability": probabilities(weight)}

    def _sample_contractive(
        self,
        seed: int,
        candidates: NDArray[np.int64],
        maps: NDArray[np.int32],
        position: NDArray[np.float64],
        sigma_factor: float | None,
    ) -> NDArray[np.float64]:
        drawn = keyed.words(seed, Purpose.CANDIDATE, candidates[:, None, None], np.arange(1, 15).reshape(7, 2))
        left, right = _rotations(drawn[:, :, 0, 0]), _rotations(drawn[:, :, 0, 1])
        sigma = np.full(len(candidates), sigma_factor) if sigma_factor is not None else (5 + maps + position) / 2
        # Each pair is drawn so that the pairs after it can still reach what is left of the sum.
        remaining, slack = sigma.copy(), sigma - 3.0 * maps + 3.0
        singular = np.zeros((len(candidates), 7, 2))
        for i in range(7):
            low, high = np.maximum(0.0, slack / 3), np.minimum(1.0, remaining)
            major = low + (high - low) * keyed.unit(drawn[:, i, 0, 2])
            low, high = np.maximum(0.0, (slack - major) / 2), np.minimum(major, (remaining - major) / 2)
            minor = low + (high - low) * keyed.unit(drawn[:, i, 0, 3])
            low, high = np.maximum(0.0, (remaining - 1) / 2), remaining / 3
            last_minor = low + (high - low) * keyed.unit(drawn[:, i, 0, 3])
            last = i == maps - 1
            minor = np.where(last, last_minor, minor)
            major = np.where(last, remaining - 2 * last_minor, major)
            singular[:, i, 0], singular[:, i, 1] = major, minor
            remaining, slack = remaining - major - 2 * minor, slack - major - 2 * minor + 3
        # Reflections of the axes on either side; two of the four signs already make every case.
        singular *= 1.0 - 2.0 * (drawn[:, :, 1, 2:4] >> 31)
        affine = np.empty((len(candidates), 7, 6))
        for row in range(2):
            for column in range(2):
                affine[:, :, 2 * row + column] = (
                    left[:, :, row, 0] * singular[:, :, 0] * right[:, :, 0, column]
                    + left[:, :, row, 1] * singular[:, :, 1] * right[:, :, 1, column]
                )
        affine[:, :, 4:] = 2.0 * keyed.unit(drawn[:, :, 1, :2]) - 1.0
        return affine

    def probes(self, params: Params, categories: NDArray[np.int64], factors: NDArray[np.float64]) -> AffineSystems:
        """Unbounded pictures for search and probing: categories int64 (N,), factors float64 (N, 6)."""
        records = np.zeros(len(categories), AffineSystems.RECORD)
        records["category"], records["factor"], records["box"] = categories, factors, _UNBOUNDED
        return AffineSystems(params, records)

    def factors(self, variation: float | None) -> NDArray[np.float64]:
        """What each parameter is multiplied by, float64 (25, 9, 6): by weight row and by shrink factor in eighths.

        Eight eighths leave the weights as they are, none gives 1.
        """
        assert variation is not None
        return _factors(variation)

    def drawing(self, catalog: Catalog, instances: Instances, spec: RenderSpec) -> AffineSystems:
        """Systems of numbered instances.

        An instance below 1,000 is numbered as the published files are: (weight row * 10 + pattern) * 4 + flip, flips
        0 none, 1 top-bottom, 2 left-right, 3 both. From 1,000 on, and all of them where `fresh`, the factor is drawn
        continuously between neighbouring weight rows of one parameter, and the boxes of the two are joined. The option
        instance_rule "published" shrinks and bounds nothing.
        """
        published_rule = spec.options.get("instance_rule") == "published"
        shrink, boxes = catalog.shrink, catalog.boxes
        assert shrink is not None
        assert boxes is not None
        factors = self.factors(catalog.variation)
        categories, numbers, seed = instances.categories, instances.numbers, instances.seed
        picture = numbers // FLIPS  # what the four flips share
        records = instances.records(AffineSystems.RECORD)
        records["number"], records["flip"] = picture, numbers % FLIPS
        records["neighbours"] = instances.neighbours(picture)

        drawn = (numbers >= PUBLISHED_INSTANCES) | instances.fresh
        low = high = np.where(drawn, UNVARIED_ROW, numbers // (PATTERNS * FLIPS))
        if drawn.any():
            random = keyed.words(seed, Purpose.INSTANCE, categories, picture, instances.drawn_epochs)
            column = (random[:, 0].astype(np.uint64) * 6 >> 32).astype(np.int64)
            step = (random[:, 1] >> 30).astype(np.int64)
            low, high = np.where(drawn, _LADDER[column, [step, step + 1]], low)

        unshrunk = SHRINK_STEPS
        start = factors[low, unshrunk if published_rule else shrink[categories, low]]
        records["factor"] = start
        if drawn.any():
            end = factors[high, unshrunk if published_rule else shrink[categories, high]]
            position = (random[:, 1] & (2**30 - 1)) * 2.0**-30
            records["factor"] = start + position[:, None] * (end - start)
        if published_rule:
            records["box"] = _UNBOUNDED
        else:
            a, b = boxes[categories, low], boxes[categories, high]
            records["box"] = np.where([True, False, True, False], np.minimum(a, b), np.maximum(a, b))
        return AffineSystems(catalog.params, records)

    def numbering(self, number: int) -> dict[str, int]:
        """Weight row, pattern and flip of an instance number; {} from 1,000 on, where instances are drawn.

        >>> FractalDB().numbering(123)
        {'row': 3, 'pattern': 0, 'flip': 3}
        """
        if number >= PUBLISHED_INSTANCES:
            return {}
        picture, flip = divmod(number, FLIPS)
        row, pattern = divmod(picture, PATTERNS)
        return {"row": row, "pattern": pattern, "flip": flip}

    def file_name(self, category: str, number: int) -> str:
        """CATEGORY_WW_count_P_flipF, with weight row, pattern and flip."""
        row, pattern, flip = self.numbering(number).values()
        return f"{category}_{row:02d}_count_{pattern}_flip{flip}"

    def held_out_groups(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """What a split must not part, int64 (N,): the weight row, or a continuously drawn picture's four flips."""
        return np.where(numbers < PUBLISHED_INSTANCES, numbers // (PATTERNS * FLIPS), WEIGHT_ROWS + numbers // FLIPS)


def _rotations(turns: NDArray[np.uint32]) -> NDArray[np.float64]:
    pair = np.empty((turns.size, 2))
    _core.sine_cosine(np.ascontiguousarray(turns).reshape(-1), pair)
    sine, cosine = pair[:, 0].reshape(turns.shape), pair[:, 1].reshape(turns.shape)
    return np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], -2)


def published_weights(variation: float) -> NDArray[np.float64]:
    """The published variations of a setting s: float64 (25, 6), one of a…f times 1-2s, 1-s, 1+s or 1+2s.

    The weights are the decimal literals of the published files, where 0 is 0.01; row 2 varies nothing.

    >>> published_weights(0.4)[:2, 0].tolist()
    [0.2, 0.6]
    """
    setting = Decimal(repr(float(variation)))
    steps = [float(1 + k * setting) or 0.01 for k in (-2, -1, 0, 1, 2)]
    weights = np.ones((WEIGHT_ROWS, 6))
    for column, ladder in enumerate(_LADDER):
        weights[ladder, column] = steps
    return weights


@lru_cache(maxsize=8)
def _factors(variation: float) -> NDArray[np.float64]:
    return shrunk(published_weights(variation))
