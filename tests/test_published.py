"""The published search and pictures, against the published files and against the published loop in plain Python."""

import hashlib
import math
import threading

import numpy as np
import pytest
from PIL import Image

from fdsl.published import render_point, search

WEIGHTS = np.ones(6)
SIERPINSKI = np.array([[0.5, 0, 0, 0.5, e, f, 1 / 3] for e, f in ((0, 0), (0.5, 0), (0.25, 0.5))])


def published_pixels(affine, probability, draws, size, pad):
    """The (row, column) pairs that the published code hits, before any flip; one map and one point at a time."""
    sums, total = [], 0.0
    for p in probability:
        total += p
        sums.append(total)
    x = y = 0.0
    xs, ys = [x], [y]
    for draw in draws[:-1]:
        for (a, b, c, d, e, f), reach in zip(affine.tolist(), sums, strict=True):
            if draw <= reach:
                x, y = x * a + y * b + e, x * c + y * d + f
                break
        xs.append(x)
        ys.append(y)
    points = np.array([xs, ys])
    for axis in (0, 1):
        broken = np.flatnonzero(np.isnan(points[axis]))
        if len(broken):
            points = np.delete(points, np.append(np.arange(broken[0] - 100, broken[0]), broken), axis=1)
    with np.errstate(all="ignore"):
        for row in points:
            if row.min() < 0:
                row -= row.min()
        scaled = points / (points.max(1) - points.min(1))[:, None] * (size - 2.0 * pad) + pad
    return {(int(y), int(x)) for x, y in np.nan_to_num(scaled, nan=0.0).T}


def published_picture(params, weights, size, points, pad):
    draws = np.random.RandomState(100).random(points)
    picture = np.zeros((size, size), np.uint8)
    for row, column in published_pixels(params[:, :6] * weights, params[:, 6], draws, size, pad):
        picture[size - 1 - row, column] = 127
    return picture


def published_search(categories, fill_rate, points):
    generator, found, judged = np.random.RandomState(1), [], 0
    while len(found) < categories:
        affine = np.array([generator.uniform(-1, 1, 6) for _ in range(generator.randint(2, 8))])
        area = [abs(a * d - b * c) for a, b, c, d in affine[:, :4].tolist()]
        total = sum(area[1:], area[0])
        probability = [one / total for one in area]
        judged += 1
        if len(published_pixels(affine, probability, generator.random(points), 512, 6)) / 512**2 >= fill_rate:
            found.append((affine, probability))
    return found, judged


def read_csv(file):
    return np.loadtxt(file, delimiter=",", ndmin=2)


def table_of(result, category):
    maps = result["maps"][category]
    return np.column_stack([result["affine"][category, :maps], result["probability"][category, :maps]])


def test_first_hundred_descriptors_are_the_published_ones_to_the_last_bit(shared):
    files = sorted((shared / "published" / "fractaldb-1k-first100").glob("*.csv"))
    calls = []
    result = search(len(files), progress=lambda found, candidates: calls.append((found, candidates)))
    for category, file in enumerate(files):
        np.testing.assert_array_equal(table_of(result, category), read_csv(file), file.name)
    assert calls[-1] == (100, 4536)
    assert calls == sorted(calls)
    assert [result[name].dtype for name in ("maps", "affine", "probability")] == [np.int32, np.float64, np.float64]
    assert all(not result["affine"][i, maps:].any() for i, maps in enumerate(result["maps"]))


@pytest.mark.slow
def test_the_thousand_categories_take_42655_candidates():
    calls = []
    result = search(progress=lambda *call: calls.append(call))
    assert calls[-1] == (1000, 42655)
    content = b"".join(result[name].astype(result[name].dtype.newbyteorder("<")).tobytes() for name in sorted(result))
    assert hashlib.sha256(content).hexdigest() == "3a43d951921286a80fbf79c93c641c264a9805f3646d51f0bc99624f9ddd1d97"


# Enough points for systems to overflow, and rates so low that some of those are counted in full.
@pytest.mark.parametrize(
    ("categories", "fill_rate", "points"), [(5, 0.00001, 1500), (40, 0.003, 10000), (4, 0.01, 6000)]
)
def test_search_accepts_what_the_published_loop_accepts(categories, fill_rate, points):
    calls = []
    result = search(categories, fill_rate, points, lambda *call: calls.append(call))
    found, judged = published_search(categories, fill_rate, points)
    assert calls[-1] == (categories, judged)
    for category, (affine, probability) in enumerate(found):
        np.testing.assert_array_equal(table_of(result, category), np.column_stack([affine, probability]))


def test_pictures_are_the_published_ones_pixel_for_pixel(shared):
    weights = read_csv(shared / "published" / "weights" / "weights_0.4.csv")
    files = sorted((shared / "published" / "point-512-100k").glob("*.png"))
    assert len(files) == 18
    for file in files:
        category, row = file.stem.split("_")
        params = read_csv(shared / "published" / "fractaldb-1k-first100" / f"{category}.csv")
        expected = np.asarray(Image.open(file).convert("L"))
        np.testing.assert_array_equal(render_point(params, weights[int(row)]), expected, file.name)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("growth", [1.0, 1.8, 3.0])
@pytest.mark.parametrize(("size", "points", "pad"), [(64, 2000, 6), (31, 1, 1), (100, 3000, 49)])
def test_render_point_follows_the_published_loop(growth, size, points, pad):
    generator = np.random.RandomState(7)
    for maps in (1, 2, 5, 9):
        params = generator.uniform(-1, 1, (maps, 7))
        params[:, 6] = np.abs(params[:, 6]) / np.abs(params[:, 6]).sum()
        weights = generator.uniform(0.2, 1, 6) * growth
        expected = published_picture(params, weights, size, points, pad)
        np.testing.assert_array_equal(render_point(params, weights, size, points, pad), expected)


def test_a_draw_above_every_running_sum_repeats_the_point():
    params = SIERPINSKI * [1, 1, 1, 1, 1, 1, 0.9995]
    np.testing.assert_array_equal(
        render_point(params, WEIGHTS, 64, 5000), published_picture(params, WEIGHTS, 64, 5000, 6)
    )


def test_systems_without_extent_or_without_end_are_drawn_without_a_warning(recwarn):
    still, endless = SIERPINSKI.copy(), SIERPINSKI.copy()
    still[:, 4:6] = 0
    endless[:, :2] = 1e300
    assert render_point(still, WEIGHTS)[-1, 0] == 127
    assert np.count_nonzero(render_point(still, WEIGHTS)) == 1
    assert not render_point(endless, np.full(6, 1e300)).any()  # nothing precedes the first NaN by 100 points
    assert not recwarn.list


def test_flush_to_zero_changes_nothing():
    torch = pytest.importorskip("torch")
    params = SIERPINSKI * [1, 1, 1, 1, 1e-310, 1, 1]  # x is subnormal throughout
    expected = published_picture(params, WEIGHTS, 64, 2000, 6)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush to zero")
    try:
        picture = render_point(params, WEIGHTS, 64, 2000)
    finally:
        torch.set_flush_denormal(False)
    np.testing.assert_array_equal(picture, expected)
    assert len(np.unique(np.nonzero(picture)[1])) > 10


def test_an_interrupted_search_leaves_no_thread():
    def interrupt(found, candidates):
        raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        search(1000, progress=interrupt)
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"categories": 0}, "categories is 0, expected an integer from 1"),
        ({"categories": 1.5}, "categories is 1.5, expected an integer"),
        ({"points": 1}, "points is 1, expected an integer from 2 to 16777216"),
        ({"fill_rate": 0.8}, r"fill_rate is 0.8, expected above 0 and up to 0.38147 \(points / 512\^2\)"),
        ({"fill_rate": 0.0}, "fill_rate is 0.0, expected above 0"),
        ({"fill_rate": math.nan}, "fill_rate is nan"),
        ({"fill_rate": "0.2"}, "fill_rate is '0.2'"),
    ],
)
def test_search_says_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        search(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"params": SIERPINSKI[:, :6]}, r"params has shape \(3, 6\), expected \(1 to 255 maps, 7\)"),
        ({"params": np.zeros((0, 7))}, r"params has shape \(0, 7\)"),
        ({"params": SIERPINSKI * math.nan}, "not finite"),
        ({"params": SIERPINSKI * 2}, "expected probabilities with sum 1"),
        ({"weights": [1, 1]}, r"weights has shape \(2,\), expected \(6,\)"),
        ({"size": 5000}, "size is 5000, expected an integer from 3 to 4096"),
        ({"points": 0}, "points is 0"),
        ({"pad": 0}, "pad is 0, expected an integer from 1 to 255"),
        ({"pad": 256}, "pad is 256"),
    ],
)
def test_render_point_says_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        render_point(**{"params": SIERPINSKI, "weights": WEIGHTS, **arguments})
