"""Our pictures against the published code's rule: one long trajectory from the origin, first running sum of p."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import fdsl
from fdsl import Catalog, Dataset, RenderSpec

SIZE, POINTS, PAD = 512, 100_000, 6


def table(catalog: Catalog, category: int) -> NDArray[np.float64]:
    params, maps = catalog.params, catalog.params["maps"][category]
    return np.column_stack([params["affine"][category], params["probability"][category]])[:maps]


@pytest.fixture(scope="module")
def from_attractor(published_catalog: Catalog) -> NDArray[np.int64]:
    """Categories whose published picture is not stretched by the origin, which need not lie on the attractor."""
    boxes = published_catalog.boxes[:, 2].astype(float)
    low, high = np.minimum(boxes[:, ::2], 0), np.maximum(boxes[:, 1::2], 0)
    area = (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])
    return np.flatnonzero(area > 0.98 * (high - low).prod(1))


def test_filling_rates_agree(published_catalog: Catalog, from_attractor: NDArray[np.int64]) -> None:
    assert len(from_attractor) >= 95
    spec = RenderSpec(size=SIZE, points=POINTS, pad=PAD, draw="point")
    ours = Dataset(published_catalog, range(80, 120, 4), spec)  # ten seeds each
    rates = np.stack([(ours.batch(range(c * 10, c * 10 + 10))[0] > 0).mean((1, 2, 3)) for c in from_attractor])
    published = np.array(
        [(fdsl.published.render_point(table(published_catalog, c), np.ones(6)) > 0).mean() for c in from_attractor]
    )
    ratio = rates / published[:, None]
    assert abs(np.median(ratio) - 1) < 0.01
    # A published picture has no box to stay in: with some seeds one far point shrinks the rest by a fifth.
    assert (abs(ratio - 1) < 0.20).mean() > 0.97
    ours_quantiles, published_quantiles = (np.quantile(x, [0.1, 0.25, 0.5, 0.75, 0.9]) for x in (rates, published))
    assert np.allclose(ours_quantiles, published_quantiles, rtol=0.03)


def published_hits(rows: NDArray[np.float64], seeds: int, points: int, box: NDArray[np.float64], bins: int):
    """Which cells of `box` are hit, bool (seeds, bins, bins), each seed by the published rule."""
    random = np.stack([np.random.RandomState(seed).random(points) for seed in range(seeds)], 1)
    sums = np.cumsum(rows[:, 6])
    position, hit = np.zeros((seeds, 2)), np.zeros((seeds, bins, bins), bool)
    lanes = np.arange(seeds)
    for step in range(points - 1):
        a, b, c, d, e, f, _ = rows[np.minimum((random[step][:, None] > sums).sum(1), len(rows) - 1)].T
        x, y = position.T
        position = np.stack([x * a + y * b + e, x * c + y * d + f], 1)
        cell = np.floor((position - box[::2]) / (box[1::2] - box[::2]) * (bins - 1)).astype(int)
        inside = ((cell >= 0) & (cell < bins)).all(1)
        hit[lanes[inside], cell[inside, 1], cell[inside, 0]] = True
    return hit


@pytest.mark.parametrize("category", [0, 1, 3, 7, 12])
def test_pixels_are_as_often_hit_over_many_seeds(category: int, published_catalog: Catalog) -> None:
    bins, seeds, points = 16, 64, 3000
    box = published_catalog.boxes[category, 2].astype(float)
    expected = published_hits(table(published_catalog, category), seeds, points, box, bins)
    spec = RenderSpec(size=bins, points=points, draw="point", pad=0, fit="stored")
    numbers = 81 + 4 * np.arange(10)  # flip 1: rows rise with y
    ours = []
    for seed in range(7):
        dataset = Dataset(published_catalog, numbers, spec, seed=seed)
        ours.append(dataset.batch(range(category * 10, category * 10 + 10))[0][:, 0])
    occupied = np.stack(ours).reshape(-1, bins, bins) > 0
    difference = occupied.mean(0) - expected.mean(0)
    spread = np.sqrt(2 * 0.25 / seeds)  # of a difference of two shares, at most
    assert abs(difference).mean() < spread
    assert abs(difference).max() < 5 * spread
