"""What a candidate must have to be kept, and a parameter variation to be left as it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdsl.catalogs import Catalog
from fdsl.engines import cpu
from fdsl.engines.protocol import Engine
from fdsl.families.protocol import Family, Params, ProbedFamily, Settings
from fdsl.primitives import AffineSystems, Drawing, Instances, SpatialSystems
from fdsl.rendering import RenderSpec

_SIZE, _POINTS, _PAD, _TRAJECTORY_SEED = 512, 100_000, 6, 0
_PIXELS = _SIZE * _SIZE
_JUDGE = RenderSpec(size=_SIZE, points=_POINTS, pad=_PAD, draw="point", color="gray", fit="own")
# The first points tell most of the bad ones: (points, pixels that they hit at least). What fills a fifth of the picture
# in the end hit 9,535 and 34,130 or more (the least of 1,015 accepted ones), and a quarter of the work is left. In
# proportion for lower rates.
_EARLY = ((_POINTS // 8, 7_000), (_POINTS // 2, 30_000))
_EARLY_RATE = 0.2
_LEAST_FILLING = 0.0225
# Clouds are judged by as many points as published. What passes must keep half of the variance with ten times the
# points, on longer trajectories: where stray points reach ever farther, or all diverge slowly, it does not.
_CLOUD_POINTS, _LONGER, _KEPT = 10_000, 10, 0.5
_LEAST_VARIANCE = 0.005  # a tenth of what the published searches ask for
_PICTURES = 128


class Criterion(ABC):
    """What a candidate must have to be kept."""

    patience = 1_000  # candidates a category, before a search gives up

    def check_settings(self, settings: Settings) -> None:  # noqa: B027 - the family checks most of them
        """Raises a ValueError where a setting that it goes by is out of its range."""

    @abstractmethod
    def judge(self, formula: Family, params: Params, settings: Settings, engine: Engine) -> NDArray[np.intp]:
        """The candidates to keep."""


class ProbedCriterion(Criterion):
    """And what a parameter variation must have to be left as it is."""

    translation: int  # the first parameter of a map's shift

    @abstractmethod
    def measure(self, drawing: Drawing, least: NDArray[Any], engine: Engine) -> NDArray[np.void]:
        """Probes with the fields box and finite; other fields as far as `least` needs them."""

    @abstractmethod
    def all_of_it(self, count: int) -> NDArray[Any]:
        """A `least` for which `measure` measures everything."""

    @abstractmethod
    def least(self, unvaried: NDArray[np.void]) -> NDArray[Any]:
        """What a variation must have, by what the unvaried one has."""

    @abstractmethod
    def reaches(self, probes: NDArray[np.void], least: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether probes have it."""

    @abstractmethod
    def extent(self, boxes: NDArray[np.float32]) -> NDArray[np.float64]:
        """The longest side of each box."""


class _Filling(ProbedCriterion):
    """The share of its point picture's pixels that points hit."""

    translation = 4

    def check_settings(self, settings: Settings) -> None:
        fill_rate = settings["fill_rate"]
        if not isinstance(fill_rate, (int, float)) or not 0 < fill_rate <= 1:
            raise ValueError(f"fill_rate is {fill_rate!r}; expected a share over 0 and up to 1")
        if fill_rate > _POINTS / _PIXELS:
            raise ValueError(
                f"fill_rate {fill_rate} can't be reached: {_POINTS:,} points fill at most {_POINTS / _PIXELS:.3f} of "
                f"{_SIZE}x{_SIZE} pixels (the published maximum is 0.28)"
            )

    def judge(self, formula: Family, params: Params, settings: Settings, engine: Engine) -> NDArray[np.intp]:
        assert isinstance(formula, ProbedFamily)
        fill_rate = settings["fill_rate"]
        leniency = min(1.0, fill_rate / _EARLY_RATE)
        early = ((points, pixels * leniency) for points, pixels in _EARLY)
        good = np.arange(len(next(iter(params.values()))))
        for points, least in (*early, (_POINTS, fill_rate * _PIXELS)):
            good = good[_hit_pixels(formula, params, good, points, engine) >= least]
        return good

    def measure(self, drawing: Drawing, least: NDArray[Any], engine: Engine) -> NDArray[np.void]:
        assert isinstance(drawing, AffineSystems)
        return engine.measure(drawing, _JUDGE, _TRAJECTORY_SEED, least)

    def all_of_it(self, count: int) -> NDArray[Any]:
        return np.full(count, _PIXELS, np.int32)

    def least(self, unvaried: NDArray[np.void]) -> NDArray[Any]:
        return np.ceil(np.maximum(_LEAST_FILLING * _PIXELS, 0.1 * unvaried["pixels"])).astype(np.int32)

    def reaches(self, probes: NDArray[np.void], least: NDArray[Any]) -> NDArray[np.bool_]:
        enough: NDArray[np.bool_] = probes["pixels"] >= least
        return enough

    def extent(self, boxes: NDArray[np.float32]) -> NDArray[np.float64]:
        x0, x1, y0, y1 = boxes.astype(np.float64).T
        longest: NDArray[np.float64] = np.maximum(x1 - x0, y1 - y0)
        return longest


class _Variance(ProbedCriterion):
    """The variance of each coordinate of a cloud, once all coordinates together span 2."""

    translation = 9
    patience = 20_000  # a variance of 0.15 needs 5,000

    def judge(self, formula: Family, params: Params, settings: Settings, engine: Engine) -> NDArray[np.intp]:
        assert isinstance(formula, ProbedFamily)
        variance = float(settings["variance"])

        def measured(candidates: NDArray[np.intp], points: int, least: float) -> NDArray[np.void]:
            drawing = formula.probes(params, candidates, np.ones((len(candidates), params["affine"].shape[2])))
            assert isinstance(drawing, SpatialSystems)
            return engine.measure_spatial(drawing, points, _TRAJECTORY_SEED, least)

        clouds = measured(np.arange(len(params["maps"])), _CLOUD_POINTS, variance)
        good = np.flatnonzero((clouds["variance"] > variance).all(1))
        longer = measured(good, _LONGER * _CLOUD_POINTS, 0.0)
        return good[(longer["variance"] > _KEPT * variance).all(1)]

    def measure(self, drawing: Drawing, least: NDArray[Any], engine: Engine) -> NDArray[np.void]:
        assert isinstance(drawing, SpatialSystems)
        return engine.measure_spatial(drawing, _CLOUD_POINTS, _TRAJECTORY_SEED)

    def all_of_it(self, count: int) -> NDArray[Any]:
        return np.zeros((count, 3))

    def least(self, unvaried: NDArray[np.void]) -> NDArray[Any]:
        return np.maximum(_LEAST_VARIANCE, 0.1 * unvaried["variance"].astype(np.float64))

    def reaches(self, probes: NDArray[np.void], least: NDArray[Any]) -> NDArray[np.bool_]:
        enough: NDArray[np.bool_] = np.all(probes["variance"] >= least, axis=1)
        return enough

    def extent(self, boxes: NDArray[np.float32]) -> NDArray[np.float64]:
        widths: NDArray[np.float64] = boxes[:, 1].astype(np.float64) - boxes[:, 0]
        return widths


class _Picture(Criterion):
    """The share of a candidate's own picture (instance 0, 256x256) that is not the ground: at least `fill_rate`."""

    def judge(self, formula: Family, params: Params, settings: Settings, engine: Engine) -> NDArray[np.intp]:
        # Python works out most of it, which a GPU does not make faster.
        processor = engine if isinstance(engine, cpu.Engine) else cpu.Engine()
        filled = []
        try:
            catalog, spec = Catalog(formula.name, params), formula.complete(RenderSpec(size=256))
            palette = formula.palette(spec)
            for categories in np.split(np.arange(len(catalog)), range(_PICTURES, len(catalog), _PICTURES)):
                first = np.zeros(len(categories), np.int64)
                images = np.empty((len(categories), spec.image_channels, spec.size, spec.size), np.uint8)
                drawing = formula.drawing(catalog, Instances(categories, first, first, first, seed=0), spec)
                processor.draw(drawing, spec, palette, 0, images)
                filled.append((images != palette[0][:, None, None]).any(1).mean((1, 2)))
        except ValueError as error:
            raise ValueError(f"while search judged candidates: {error}") from error
        return np.flatnonzero(np.concatenate(filled) >= settings["fill_rate"])


def _hit_pixels(
    formula: ProbedFamily, params: Params, candidates: NDArray[np.intp], points: int, engine: Engine
) -> NDArray[np.int32]:
    drawing = formula.probes(params, candidates, np.ones((len(candidates), 6)))
    assert isinstance(drawing, AffineSystems)
    pixels: NDArray[np.int32] = engine.measure(drawing, replace(_JUDGE, points=points), _TRAJECTORY_SEED)["pixels"]
    return pixels


CRITERIA: dict[str, Criterion] = {"filling": _Filling(), "variance": _Variance(), "picture": _Picture()}
