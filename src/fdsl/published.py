"""What was published, exactly: the FractalDB search and its point pictures, and the search in space.

The rules are those of the FractalDB code (``param_search/ifs_search.py``, ``param_search/ifs_simple.py`` and
``fractal_renderer/ifs_function.py`` of github.com/hirokatsukataoka16/FractalDB-Pretrained-ResNet-PyTorch, MIT licence;
Kataoka et al., "Pre-training without Natural Images", ACCV 2020 and IJCV 2022). Exact means: `search` gives the 1,000
published descriptors to the last bit, `render_point` the published pictures pixel for pixel. Both follow NumPy's legacy
generator, whose streams never change, and float64 without fused multiply-adds.

`search_3d` is ``3dfractal_render/category_search.py`` of github.com/masora1030/CVPR2022-Pretrained-ViT-PyTorch, which
ExFractalDB, MV-FractalDB and PC-FractalDB share.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from operator import index
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fdsl import _core
from fdsl.candidates import make_catalog
from fdsl.catalogs import Catalog
from fdsl.families.exfractaldb import check_variance
from fdsl.progress import Progress
from fdsl.rendering import MAX_POINTS, MAX_SIZE

_PIXELS = 512 * 512  # of the picture that the search judges


def render_point(
    params: ArrayLike, weights: ArrayLike, size: int = 512, points: int = 100_000, pad: int = 6
) -> NDArray[np.uint8]:
    """Draw a category's published point picture: ``draw_point`` of ``fractal_renderer/ifs_function.py``, its flip 0.

    Args:
        params: float64 (M, 7), a row a map as in the published CSV files: a, b, c, d, e, f, p.
        weights: six factors of a to f (one row of a published weights file; ones for the unvaried picture).
        size: height and width in pixels, up to 4,096.
        points: number of points, up to 2^24; the origin is the first.
        pad: margin in pixels, at least 1: the farthest point comes to size - pad.

    Returns:
        uint8 (size, size), 127 where a point falls and 0 elsewhere. A system that overflows is drawn up to 100 points
        before its first NaN, as published.

    Raises:
        ValueError: an argument has another shape, or a value out of range.

    Example:
        >>> params = np.loadtxt("00000.csv", delimiter=",")
        >>> render_point(params, [0.2, 1, 1, 1, 1, 1]).shape
        (512, 512)
    """
    table, factors = np.asarray(params, np.float64), np.asarray(weights, np.float64)
    if table.ndim != 2 or table.shape[1] != 7 or not 1 <= len(table) <= 255:
        raise ValueError(f"params has shape {table.shape}, expected (1 to 255 maps, 7): a, b, c, d, e, f, p")
    if factors.shape != (6,):
        raise ValueError(f"weights has shape {factors.shape}, expected (6,): factors of a, b, c, d, e, f")
    if not (np.isfinite(table).all() and np.isfinite(factors).all()):
        raise ValueError("params or weights hold a value that is not finite, expected finite ones")
    size, points = _integer("size", size, 3, MAX_SIZE), _integer("points", points, 1, MAX_POINTS)
    pad = _integer("pad", pad, 1, (size - 1) // 2)
    sums = np.cumsum(table[:, 6])
    if (table[:, 6] < 0).any() or abs(sums[-1] - 1) > 1e-3:
        raise ValueError(f"p of params is {table[:, 6].tolist()}, expected probabilities with sum 1")
    picture = np.zeros((size, size), np.uint8)
    # The product is taken natively too, where a flush-to-zero mode set by the caller does not reach it.
    chosen = _choose(np.random.RandomState(100), sums, points)
    _core.published_render_point(np.ascontiguousarray(table), np.ascontiguousarray(factors), chosen, pad, picture)
    return picture


def search(
    categories: int = 1000,
    fill_rate: float = 0.2,
    points: int = 100_000,
    progress: Callable[[int, int], object] | None = None,
) -> dict[str, NDArray[Any]]:
    """Search FractalDB categories as published: ``param_search/ifs_search.py``, seed 1.

    A candidate is 2 to 7 affine maps with a to f from U(-1, 1) and p in proportion to abs(ad - bc). It stays if its
    picture, 512x512 with a margin of 6, has at least `fill_rate` of its pixels hit. The defaults are FractalDB-1k:
    42,655 candidates, some 15 s on two cores.

    Args:
        categories: how many to find.
        fill_rate: least part of the picture that is hit; above points / 512^2 no picture reaches it.
        points: points of a picture, up to 2^24.
        progress: called with (categories found, candidates judged) after each few candidates and at the end.

    Returns:
        "maps": int32 (C,), numbers of maps; "affine": float64 (C, M, 6), a to f; "probability": float64 (C, M), with M
        the largest number of maps, and zeros after a category's own.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> search(categories=2)["maps"]
        array([5, 3], dtype=int32)
    """
    categories, points = _integer("categories", categories, 1, 2**31 - 1), _integer("points", points, 2, MAX_POINTS)
    reachable = min(1.0, points / _PIXELS)
    rate: object = fill_rate
    if not isinstance(rate, (int, float, np.floating)) or not 0 < rate <= reachable:
        raise ValueError(f"fill_rate is {fill_rate!r}, expected above 0 and up to {reachable:.6g} (points / 512^2)")
    needed = math.ceil(float(rate) * _PIXELS)
    generator = np.random.RandomState(1)
    at_once = max(1, min(16, 4_000_000 // points))
    found: list[tuple[_Doubles, _Doubles]] = []
    judged = 0
    # The random stream is sequential: this thread draws it, others judge. Three keep up with one; all release the GIL.
    pending: deque[tuple[list[_Candidate], Future[NDArray[np.uint8]]]] = deque()
    with ThreadPoolExecutor(3, "fdsl-published") as workers:
        while True:
            batch = [_candidate(generator, points) for _ in range(at_once)]
            pending.append((batch, workers.submit(_judge, batch, needed)))
            if len(pending) < 6:
                continue
            batch, accepted = pending.popleft()
            for (affine, probability, _), good in zip(batch, accepted.result(), strict=True):
                judged += 1
                if good:
                    found.append((affine, probability))
                if len(found) == categories:
                    break
            if progress is not None:
                progress(len(found), judged)
            if len(found) == categories:
                break
    maps = np.array([len(probability) for _, probability in found], np.int32)
    result = {
        "maps": maps,
        "affine": np.zeros((categories, maps.max(), 6)),
        "probability": np.zeros((categories, maps.max())),
    }
    for i, (affine, probability) in enumerate(found):
        result["affine"][i, : len(affine)] = affine
        result["probability"][i, : len(affine)] = probability
    return result


def search_3d(
    categories: int = 200,
    seed: int = 1,
    variance: float = 0.05,
    points: int = 10_000,
    progress: Progress | None = None,
) -> Catalog:
    """Search categories in space as published: ``3dfractal_render/category_search.py``.

    A candidate is 2 to 7 affine maps with a to l from U(-1, 1) and p in proportion to abs det. It stays if each axis of
    its cloud, scaled so that all coordinates together span 2, has a variance over `variance`. The generator is seeded
    once, so that more categories begin with the same ones. Their variations are probed as `fdsl.search` does it.

    Args:
        categories: how many to find.
        seed: of NumPy's legacy generator, 0 to 2^32 - 1.
        variance: 0.05 in every published script, 0.15 in the code's own default and in the text.
        points: draws of a candidate, up to 2^24; one fewer are points.
        progress: called with (what, done, total).

    Returns:
        A catalog of exfractaldb, equal to the published files but for the last bits of p, which they take from LAPACK.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> search_3d(categories=5, variance=0.15).params["maps"]
        array([2, 2, 3, 2, 2], dtype=int32)
    """
    categories, points = _integer("categories", categories, 1, 2**31 - 1), _integer("points", points, 2, MAX_POINTS)
    seed, least = _integer("seed", seed, 0, 2**32 - 1), check_variance(variance)
    generator = np.random.RandomState(seed).get_state(legacy=False)["state"]
    key, position = generator["key"], generator["pos"]
    found: list[tuple[_Doubles, _Doubles, NDArray[np.int32]]] = []
    kept = judged = 0

    def judge(drawn: _Candidates) -> NDArray[np.intp]:
        affine, _, maps, chosen = drawn
        accepted = np.empty(len(maps), np.uint8)
        _core.published_judge_spatial(affine, maps, chosen, least, accepted)
        return np.flatnonzero(accepted)

    # The random stream is sequential: this thread draws it, another judges what was drawn before.
    count = max(1, min(64, 4_000_000 // points))
    with ThreadPoolExecutor(1, "fdsl-published") as worker:
        waiting: tuple[_Candidates, Future[NDArray[np.intp]]] | None = None
        while kept < categories:
            drawn = (
                np.zeros((count, 7, 12)),
                np.zeros((count, 7)),
                np.empty(count, np.int32),
                np.empty((count, points), np.uint8),
            )
            position = _core.published_draw_spatial(key, position, *drawn)
            before, waiting = waiting, (drawn, worker.submit(judge, drawn))
            if before is None:
                continue
            (affine, probability, maps, _), result = before
            good = result.result()[: categories - kept]
            found.append((affine[good], probability[good], maps[good]))
            kept += len(good)
            judged += int(good[-1]) + 1 if kept == categories else count
            if progress is not None:
                progress("searching", kept, categories)
    affine, probability, maps = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    width = maps.max()
    params: dict[str, NDArray[Any]] = {
        "maps": maps,
        "affine": affine[:, :width].copy(),
        "probability": probability[:, :width].copy(),
    }
    how = {"made_by": "published search in space", "seed": seed, "variance": least, "points": points}
    return make_catalog("exfractaldb", params, None, {**how, "candidates": judged}, None, progress)


_Doubles = NDArray[np.float64]
# affine (N, 7, 12), probability (N, 7), maps (N,), choices (N, points)
_Candidates = tuple[_Doubles, _Doubles, NDArray[np.int32], NDArray[np.uint8]]
_Candidate = tuple[_Doubles, _Doubles, NDArray[np.uint8]]  # affine (maps, 6), probability (maps,), choices (points,)


def _candidate(generator: np.random.RandomState, points: int) -> _Candidate:
    affine = generator.uniform(-1.0, 1.0, (generator.randint(2, 8), 6))
    a, b, c, d = affine.T[:4]
    area = np.abs(a * d - b * c)
    probability = area / np.cumsum(area)[-1]  # adds one by one, as published; np.sum need not
    return affine, probability, _choose(generator, np.cumsum(probability), points)


def _choose(generator: np.random.RandomState, sums: _Doubles, points: int) -> NDArray[np.uint8]:
    """Map of each step: the first whose running sum reaches the draw, for `generator.random(points)`; advances it."""
    chosen = np.empty(points, np.uint8)
    state = generator.get_state(legacy=False)
    twister = state["state"]
    twister["pos"] = _core.published_choose(twister["key"], twister["pos"], sums, chosen)
    generator.set_state(state)
    return chosen


def _judge(batch: list[_Candidate], needed: int) -> NDArray[np.uint8]:
    accepted = np.empty(len(batch), np.uint8)
    _core.published_judge([affine for affine, _, _ in batch], [chosen for _, _, chosen in batch], needed, accepted)
    return accepted


def _integer(name: str, value: object, least: int, most: int) -> int:
    try:
        number = index(value)  # type: ignore[arg-type]
    except TypeError:
        number = least - 1
    if not least <= number <= most:
        raise ValueError(f"{name} is {value!r}, expected an integer from {least} to {most}")
    return number
