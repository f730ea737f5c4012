from __future__ import annotations

from functools import cache
from math import comb

import numpy as np
import pytest
import views
from PIL import Image, ImageDraw

import fdsl
from fdsl import Catalog, Crop, Dataset, RandomView, RenderSpec

SEED = 5


@cache
def catalog(categories: int = 144) -> Catalog:
    return fdsl.search("bezier", categories=categories)


def dataset(spec: RenderSpec, instances: int = 8, categories: int = 144) -> Dataset:
    return Dataset(catalog(categories), instances, spec, SEED)


def control_points(category: int, number: int, params: dict[str, np.ndarray], epoch: int = 0) -> np.ndarray:
    """(curves, control points, 2), in the unit square: two of them from each counter."""
    shape = int(params["curves"][category]), int(params["control_points"][category]), 2
    counters = range((shape[0] * shape[1] + 1) // 2)
    drawn = [views.words(SEED, category, number, epoch, views.INSTANCE, 0, k) for k in counters]
    return (np.concatenate(drawn)[: np.prod(shape)] >> 8).reshape(shape) / 2.0**24


def curve(points: np.ndarray, t: np.ndarray) -> np.ndarray:
    """A Bezier curve by its Bernstein polynomials: (len(t), 2)."""
    n = len(points) - 1
    weights = np.stack([comb(n, i) * t**i * (1 - t) ** (n - i) for i in range(n + 1)], 1)
    return weights @ points


def pixels(points: np.ndarray, place: np.ndarray) -> np.ndarray:
    return points @ place[:2, :2].T + place[:2, 2]


def reference(
    spec: RenderSpec, category: int, number: int, params: dict[str, np.ndarray], epoch: int = 0
) -> np.ndarray:
    """Which pixels are hit: sixteen Pillow lines a degree, with room around the picture for what it does not show."""
    place, margin = views.matrix(spec, SEED, category, number, epoch), 4000
    picture = Image.new("L", (spec.size + 2 * margin,) * 2)
    draw = ImageDraw.Draw(picture)
    for points in control_points(category, number, params, epoch):
        pieces = 16 * (len(points) - 1)
        ends = np.floor(pixels(curve(points, np.arange(pieces + 1) / pieces), place)).astype(int) + margin
        for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
            draw.line([*start, *end], fill=1)
    return np.asarray(picture)[margin:-margin, margin:-margin] > 0


@pytest.mark.parametrize("view", [None, Crop(of=150), RandomView(), RandomView((0.05, 1.0), rotation=180, flip=0.0)])
def test_a_picture_is_the_curves_polylines_in_every_view(view: Crop | RandomView | None) -> None:
    spec = RenderSpec(size=97, view=view)
    drawn = dataset(spec)
    wrong = hit = 0
    for index in (0, 3, 11 * 8 + 1, 40 * 8 + 5, 66 * 8 + 2, 132 * 8 + 4, 143 * 8 + 7):
        image, category = drawn[index]
        expected = reference(spec, category, index % 8, catalog().params)
        wrong += int((expected != (image[0] > 0)).sum())
        hit += int(expected.sum())
    # Which end of a line is first decides a tie, and a mirrored line is drawn before it is mirrored.
    mirrored = isinstance(view, RandomView) and view.flip > 0
    assert hit > 500
    assert wrong <= (0.01 if mirrored else 0.001) * hit


@pytest.mark.parametrize("category", [0, 35, 31 * 32, 1023])
def test_a_picture_covers_the_curves_and_nothing_else(category: int) -> None:
    size = 224
    drawn = dataset(RenderSpec(size=size), 2, 1024)
    image = drawn[2 * category][0][0] > 0
    exact = np.zeros_like(image)
    for points in control_points(category, 0, catalog(1024).params):
        x, y = (size * curve(points, np.linspace(0, 1, 20_001))).astype(int).T
        exact[y, x] = True
    assert not (exact & ~grown(image)).any()
    assert not (image & ~grown(exact)).any()


def grown(hit: np.ndarray) -> np.ndarray:
    """Those hit, and their eight neighbours."""
    padded = np.pad(hit, 1)
    return np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).any((2, 3))


@pytest.mark.parametrize("categories", [144, 1024])
def test_categories_are_a_grid_of_control_points_and_curves(categories: int) -> None:
    params, side = catalog(categories).params, round(categories**0.5)
    expected = [(control, curves) for control in range(2, side + 2) for curves in range(1, side + 1)]
    assert list(zip(params["control_points"].tolist(), params["curves"].tolist(), strict=True)) == expected


def test_control_points_are_uniform_in_the_picture() -> None:
    images = dataset(RenderSpec(size=128), 3000).batch(range(3000))[0][:, 0] > 0  # one straight line each
    for axis in (1, 2):
        seen = images.any(3 - axis)
        first, last = seen.argmax(1) / 128, 1 - seen[:, ::-1].argmax(1) / 128
        # Of two uniform numbers, the distance is 1/3 in the mean and the smaller one 1/3 too; standard deviation 0.236.
        assert abs((last - first).mean() - 1 / 3 - 1 / 128) < 0.015
        assert abs(first.mean() - 1 / 3) < 0.015
        assert abs((first < 0.1).mean() - 0.19) < 0.03


def test_a_curve_has_one_hue_and_later_curves_lie_on_top() -> None:
    drawn = dataset(RenderSpec(size=64, color="color"))
    category = 5 * 12 + 3  # four curves
    image = drawn[category * 8 + 1][0].transpose(1, 2, 0)
    hues = np.stack([drawn.palette[1 + 32 * k] for k in range(4)])
    assert {tuple(pixel) for pixel in image.reshape(-1, 3).tolist()} <= {(0, 0, 0), *map(tuple, hues.tolist())}
    last = control_points(category, 1, catalog().params)[-1]
    x, y = (64 * curve(last, np.array([0.0, 0.25, 0.5, 1.0]))).astype(int).T
    assert (image[y, x] == hues[-1]).all()


def test_gray_white_and_three_channels_are_one_drawing() -> None:
    gray = dataset(RenderSpec(size=40)).batch(range(40))[0]
    assert set(np.unique(gray)) == {0, 127}
    white = dataset(RenderSpec(size=40, color="white", channels=3)).batch(range(40))[0]
    assert np.array_equal(white, np.where(gray > 0, 255, 0).repeat(3, axis=1))


def test_instances_differ_and_fresh_ones_in_each_epoch() -> None:
    images, _ = dataset(RenderSpec(size=64)).batch(range(1152))
    assert len(np.unique(images.reshape(1152, -1), axis=0)) == 1152
    spec = RenderSpec(size=64)
    fresh = Dataset(catalog(), 8, spec, SEED, fresh=True)
    expected = reference(spec, 70, 3, catalog().params, epoch=2)
    assert ((fresh.batch([563], epoch=2)[0][0, 0] > 0) != expected).sum() <= 2
    assert ((fresh.batch([563], epoch=1)[0][0, 0] > 0) != expected).sum() > 100


def test_an_extreme_view_is_drawn_all_the_same() -> None:
    spec = RenderSpec(size=16, view=RandomView(scale=(1e-300, 1e-300), rotation=180))
    images, _ = dataset(spec).batch(range(50))
    assert images.shape == (50, 1, 16, 16)


def test_the_largest_grid_is_drawn() -> None:
    drawn = dataset(RenderSpec(size=64), 1, 4096)
    image = drawn[4095][0][0] > 0
    expected = reference(RenderSpec(size=64), 4095, 0, catalog(4096).params)
    assert (image != expected).sum() <= 0.01 * expected.sum()


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        (1000, r"categories is 1000; expected a square number up to 4096 for bezier, such as 1024 \(32 x 32\)"),
        (3, r"such as 4 \(2 x 2\)"),
        (4225, r"such as 4096 \(64 x 64\)"),
    ],
)
def test_a_search_for_what_is_no_grid_is_refused(categories: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fdsl.search("bezier", categories=categories)


@pytest.mark.parametrize(
    "options", [{"color": "density"}, {"points": 100}, {"draw": "patch"}, {"pad": 2}, {"fit": "stored"}]
)
def test_what_curves_do_not_have_is_refused_by_name(options: dict[str, object]) -> None:
    name, value = next(iter(options.items()))
    with pytest.raises(
        ValueError, match=f"{name} is {value!r}, but bezier has no {name if name != 'color' else value}"
    ):
        dataset(RenderSpec(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("control", "curves", "message"),
    [
        ([2, 1], [1, 1], "category 1: control_points is 1; expected 2 to 65"),
        ([66], [1], "category 0: control_points is 66; expected 2 to 65"),
        ([2], [0], "category 0: curves is 0; expected 1 to 64"),
        ([2, 3], [1], r"curves is int32 \(1,\); expected int32 \(2,\)"),
    ],
)
def test_parameters_that_make_no_curves_are_refused(control: list[int], curves: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Catalog("bezier", {"control_points": np.array(control, np.int32), "curves": np.array(curves, np.int32)})
