"""Search: sample candidates, judge each, keep; then probe every variation of what was kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdsl.catalogs import Catalog, check_variation
from fdsl.criteria import CRITERIA, ProbedCriterion
from fdsl.engines import cpu, engine_for
from fdsl.engines.protocol import Engine
from fdsl.families import family_named
from fdsl.families.protocol import SHRINK_STEPS, Family, Params, ProbedFamily
from fdsl.keyed import check_seed
from fdsl.progress import Progress

# A probe this many times as large as the unvaried picture diverges, though its trajectories end too soon to overflow:
# of 2,500 probes the stationary ones stayed under 40 times, those with a positive Lyapunov exponent went over 10^8.
_FARTHEST = 1000
_BLOCK = 2048
_CATEGORIES_AT_ONCE = 512


def search(
    family: str,
    categories: int = 1000,
    seed: int = 0,
    *,
    max_candidates: int | None = None,
    threads: int | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
    **settings: Any,
) -> Catalog:
    """Finds categories: a pure function of its arguments, whatever the machine, the device and the number of threads.

    A candidate of fractaldb is kept if its point picture (512x512, padding 6, 100,000 points, fixed trajectories) fills
    at least `fill_rate` (Kataoka et al., ACCV 2020). One that hits fewer than 7,000 pixels with 12,500 points, or fewer
    than 30,000 with 50,000, is rejected then (fewer still, in proportion, for rates under 0.2).

    One of exfractaldb is kept if, scaled so that its coordinates span 2 and with 10,000 points, each axis has a
    variance over `variance` (category_search.py of Kataoka et al., CVPR 2022), and over half of that with 100,000
    points. One that has less than half of that variance on an axis after a fourth of the trajectories is rejected
    then.

    Args:
        family: its name, such as "fractaldb".
        categories: how many to find.
        seed: keys the candidates.
        max_candidates: give up after so many; None is 1,000 a category (by variance 20,000) and at least 100,000.
        threads: None uses the processors there are.
        device: that judges candidates and probes variations: "cpu"; "cuda" or "cuda:1", which find the same categories;
            or "auto", a GPU where there is one. "cpu" unless said, because a GPU needs torch, which takes seconds to
            import.
        progress: called with (what, done, total).
        settings: those of the family, which its class describes: `help(fdsl.families.family_named("fractaldb"))`. For
            bezier and perlin, `categories` is a square number.

    Raises:
        ValueError: an argument is out of its range, or a setting is not one of the family's.
        RuntimeError: `max_candidates` gave too few; the message gives the rate of acceptance. Or the GPU can't be used.

    >>> catalog = search("fractaldb", categories=2, seed=1)
    >>> len(catalog)
    2
    """
    formula = family_named(family)
    if isinstance(categories, bool) or not isinstance(categories, (int, np.integer)) or not 1 <= categories < 2**32:
        raise ValueError(f"categories is {categories!r}; expected a whole number from 1 to {2**32 - 1}")
    check_seed(seed)
    for name in settings:
        if name not in formula.settings:
            expected = ", ".join(formula.settings) or "none"
            raise ValueError(f"{name!r} is not a setting of {family}; expected: {expected}")
    settings = {**formula.settings, **settings}
    if "categories" in settings:
        settings["categories"] = int(categories)
    criterion = None if formula.criterion is None else CRITERIA[formula.criterion]
    if criterion is not None:
        criterion.check_settings(settings)
    variation = check_variation(settings["variation"]) if "variation" in settings else None
    formula.check_settings(settings)
    if max_candidates is not None and (not isinstance(max_candidates, int) or max_candidates < 1):
        raise ValueError(f"max_candidates is {max_candidates!r}; expected a whole number of at least 1, or None")
    max_candidates = max_candidates or max(100_000, (criterion.patience if criterion else 1_000) * categories)
    engine = engine_for(device, threads)

    kept: list[dict[str, NDArray[Any]]] = []
    found = tried = 0
    while found < categories and tried < max_candidates:
        # Where nearly all are kept, no more are sampled than are asked for.
        block = min(_BLOCK, categories - found) if formula.criterion in (None, "picture") else _BLOCK
        numbers = np.arange(tried, min(tried + block, max_candidates))
        tried += len(numbers)
        params = formula.sample(seed, numbers, settings)
        good = np.arange(len(next(iter(params.values()), ())))
        if criterion is not None and len(good):
            good = criterion.judge(formula, params, settings, engine)
        good = good[: categories - found]
        if len(good):
            kept.append({name: array[good] for name, array in params.items()})
        found += len(good)
        if progress:
            progress("searching", found, categories)
    if found < categories:
        raise RuntimeError(
            f"search found {found} of {categories} categories among {tried:,} candidates (acceptance rate "
            f"{found / tried:.2g}); expected more max_candidates, or a setting that asks for less"
        )
    params = _without_room(formula, {name: np.concatenate([block[name] for block in kept]) for name in kept[0]})
    made = {
        name: value.digest if isinstance(value, Catalog) else value
        for name, value in settings.items()
        if name != "variation"
    }
    how = {"made_by": "search", "seed": seed, **made, "candidates": tried}
    return make_catalog(family, params, variation, how, engine, progress)


def head(catalog: Catalog, categories: int) -> Catalog:
    """What a search of fewer categories finds: the first ones, because a search keeps the order of its candidates.

    Raises:
        ValueError: there are fewer.

    >>> head(search("fractaldb", categories=3), 2) == search("fractaldb", categories=2)
    True
    """
    if not 1 <= categories <= len(catalog):
        raise ValueError(f"categories is {categories}; expected 1 to {len(catalog)}")
    params = {name: array[:categories] for name, array in catalog.params.items()}
    return Catalog(
        family=catalog.family,
        params=_without_room(family_named(catalog.family), params),
        variation=catalog.variation,
        shrink=None if catalog.shrink is None else catalog.shrink[:categories],
        boxes=None if catalog.boxes is None else catalog.boxes[:categories],
        settings={name: value for name, value in catalog.settings.items() if name != "candidates"},
    )


def _without_room(formula: Family, params: Params) -> dict[str, NDArray[Any]]:
    """Parameters with room for the maps of the largest category: candidates have room for the most there can be."""
    if not isinstance(formula, ProbedFamily) or "maps" not in params:
        return dict(params)
    width = int(params["maps"].max())
    return {name: np.ascontiguousarray(a[:, :width] if a.ndim > 1 else a) for name, a in params.items()}


def make_catalog(
    family: str,
    params: Params,
    variation: float | None,
    settings: Mapping[str, object],
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> Catalog:
    """Probes every weight row of every category, so that nothing broken reaches training.

    A probe of fractaldb is a point picture of 512x512 and 100,000 points. Where it diverges (overflows, or spans over
    1,000 times what the unvaried picture spans), or fills less than 0.0225 or less than a tenth of what the unvaried
    one fills, the row's factors move toward 1 by eighths until it does not. The box of the probe that passed is stored.
    Likewise for exfractaldb, with 10,000 points, and variances of at least 0.005 and a tenth of the unvaried ones.

    Args:
        family: its name.
        params: arrays of the family, as its `check_params` has them.
        variation: setting s, over 0 to 0.5; None where the family has none.
        settings: how the parameters came about; kept with the catalog, not part of its digest.
        engine: that probes; None is the cpu engine.
        progress: called with (what, done, total).

    Raises:
        ValueError: the parameters make no system, or a category diverges even unvaried.
    """
    formula = family_named(family)
    categories = formula.check_params(params)
    formula.check_values(params)
    if not isinstance(formula, ProbedFamily):
        return Catalog(family, params, variation, settings=dict(settings))
    engine = cpu.Engine() if engine is None else engine
    factors = formula.factors(variation)
    rows, unvaried_row, steps = formula.weight_rows, formula.unvaried_row, SHRINK_STEPS
    assert unvaried_row is not None

    criterion = CRITERIA[formula.criterion or ""]
    assert isinstance(criterion, ProbedCriterion)

    def probe(which: NDArray[np.int64], step: int, least: NDArray[Any]) -> NDArray[np.void]:
        """Measurements of (category, row) pairs, numbered category by category."""
        results = []
        for start in range(0, len(which), _BLOCK):  # so that Ctrl-C is heard
            places, weight_rows = np.divmod(which[start : start + _BLOCK], rows)
            drawing = formula.probes(params, places, factors[weight_rows, step])
            results.append(criterion.measure(drawing, least[start : start + _BLOCK], engine))
        return np.concatenate(results)

    def stays_within(probes: NDArray[np.void], farthest: NDArray[np.float64]) -> NDArray[np.bool_]:
        return probes["finite"] & (criterion.extent(probes["box"]) <= farthest)

    shrink = np.zeros((categories, rows), np.uint8)
    boxes = np.empty((categories, rows, formula.box_numbers), np.float32)
    # So many categories at a time: the probes of 300,000 would take gigabytes, and few at a time leave a GPU idle.
    for first in range(0, categories, _CATEGORIES_AT_ONCE):
        block = np.arange(first, min(first + _CATEGORIES_AT_ONCE, categories))
        unvaried = probe(block * rows + unvaried_row, 0, criterion.all_of_it(len(block)))
        translation = abs(params["affine"][block, :, criterion.translation :]).max((1, 2))
        sound = stays_within(unvaried, _FARTHEST * _FARTHEST * translation)
        if not sound.all():
            raise ValueError(f"category {first + int(np.argmin(sound))} diverges; expected a system that stays finite")
        farthest = _FARTHEST * criterion.extent(unvaried["box"])
        least = criterion.least(unvaried)

        boxes[block] = unvaried["box"][:, None]  # what shrinks all the way is the unvaried one
        shrink[block, unvaried_row] = steps
        open_rows = np.flatnonzero(np.arange(len(block) * rows) % rows != unvaried_row)
        for step in range(steps, 0, -1):
            if not len(open_rows):
                break
            category, row = np.divmod(open_rows, rows)
            probes = probe(first * rows + open_rows, step, least[category])
            passed = stays_within(probes, farthest[category]) & criterion.reaches(probes, least[category])
            boxes[first + category[passed], row[passed]] = probes["box"][passed]
            shrink[first + category[passed], row[passed]] = step
            open_rows = open_rows[~passed]
        if progress:
            progress("probing variations", (first + len(block)) * rows, categories * rows)
    return Catalog(
        family=family,
        params=params,
        variation=variation,
        shrink=shrink,
        boxes=boxes,
        settings=dict(settings),
    )
