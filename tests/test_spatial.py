"""Systems in space: points, cameras, search and the published rules, against float64 NumPy written from the papers."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from references import attractor_points, philox, trajectories

import fdsl
from fdsl import Catalog, Crop, Dataset, RandomView, RenderSpec
from fdsl.engines import cpu
from fdsl.families.exfractaldb import ExFractalDB, published_weights
from fdsl.primitives import Instances

FAMILY = ExFractalDB()
SEED = 9


@pytest.fixture(scope="module")
def spatial() -> Catalog:
    return fdsl.search("exfractaldb", categories=5, seed=4)


def pixels_seen(cloud: NDArray[np.float64], degrees: float, size: int) -> NDArray[np.bool_]:
    """What glm.lookAt and glm.perspective(45 degrees, 1, 1, 100) show of a cloud, row 0 at the top."""
    angle = math.radians(degrees)
    turn = np.array([[math.cos(angle), 0, math.sin(angle)], [0, 1, 0], [-math.sin(angle), 0, math.cos(angle)]])
    ahead, upward = turn @ [1, 0, 0], np.array([0, 1, 0])
    eye = -4 * ahead
    side = np.cross(ahead, upward)
    x, y, depth = (cloud - eye) @ side, (cloud - eye) @ np.cross(side, ahead), (cloud - eye) @ ahead
    focus = 1 / math.tan(math.radians(45) / 2)
    visible = (depth >= 1) & (depth <= 100)
    column = np.floor((focus * x[visible] / depth[visible] + 1) / 2 * size).astype(int)
    row = size - 1 - np.floor((focus * y[visible] / depth[visible] + 1) / 2 * size).astype(int)
    inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
    picture = np.zeros((size, size), bool)
    picture[row[inside], column[inside]] = True
    return picture


def degrees_of(seed: int, category: int, number: int) -> float:
    jitter = philox(seed, np.array([[category, number, 0, 3 << 28]], np.uint64))[0, 2] / 2**32
    return number % 12 * 30 + 30 + (2 * float(jitter) - 1) * math.pi  # pi degrees, as published


def grown(picture: NDArray[np.bool_]) -> NDArray[np.bool_]:
    padded = np.pad(picture, 1)
    return np.any([np.roll(padded, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)], 0)[1:-1, 1:-1]


@pytest.mark.parametrize("magnified", [1, 6])
@pytest.mark.parametrize("fit", ["own", "stored"])
@pytest.mark.parametrize("number", [6 * 12 + 0, 6 * 12 + 5, 30 * 12 + 8])
def test_every_pixel_is_where_the_camera_sees_a_point(number: int, fit: str, magnified: int, spatial: Catalog) -> None:
    """Magnified, most of a cloud lies out of the picture, or before the camera's near plane and behind it."""
    boxes = spatial.boxes.copy()
    middle, half = boxes[..., :2].mean(-1), np.diff(boxes[..., :2])[..., 0] / 2 / magnified
    boxes[..., 0], boxes[..., 1] = middle - half, middle + half
    catalog = Catalog("exfractaldb", spatial.params, None, spatial.shrink, boxes)
    size, count = 96, 10_011
    dataset = Dataset(catalog, range(number, number + 1), RenderSpec(size=size, points=count, fit=fit), SEED)
    for category in range(len(catalog)):
        image = dataset[category][0][0] > 0
        row, maps = number // 12, catalog.params["maps"][category]
        affine = catalog.params["affine"][category, :maps] * FAMILY.factors(None)[row, catalog.shrink[category, row]]
        probability = catalog.params["probability"][category, :maps]
        points = attractor_points(affine, probability, count, trajectories(SEED, category, row))
        low, high, *centre = boxes[category, row].astype(float)
        if fit == "own":
            inside = points[((points >= low) & (points <= high)).all(1)]
            if len(inside):
                low, high, centre = inside.min(), inside.max(), inside.mean(0)
        cloud = (points - centre) * 2 / (high - low)
        expected = pixels_seen(cloud, degrees_of(SEED, category, number), size)
        # Rounding moves a point over a pixel's edge; magnified, by more.
        assert (image & ~grown(expected)).sum() <= 0.002 * expected.sum()
        assert (image != expected).sum() <= (0.01 if magnified == 1 else 0.06) * expected.sum() + 2


def test_a_crop_is_a_part_of_the_larger_picture_and_a_whole_view_all_of_it(spatial: Catalog) -> None:
    spec = RenderSpec(size=90)
    whole = Dataset(spatial, range(70, 90), spec).batch(range(100))[0]
    cropped = Dataset(spatial, range(70, 90), replace(spec, size=40, view=Crop(of=90))).batch(range(100))[0]
    windows = np.lib.stride_tricks.sliding_window_view(whole[:, 0], (40, 40), (1, 2))
    assert (windows == cropped[:, 0, None, None]).all((3, 4)).any((1, 2)).all()
    view = RandomView(scale=(1, 1), ratio=(1, 1), flip=0)
    seen = Dataset(spatial, range(70, 90), replace(spec, view=view)).batch(range(100))[0]
    assert (seen != whole).mean() < 1e-4


def test_variances_and_extents_are_those_of_numpy() -> None:
    params = FAMILY.sample(3, np.arange(60), FAMILY.settings)
    measured = cpu.Engine(2).measure_spatial(FAMILY.probes(params, np.arange(60), np.ones((60, 12))), 10_000, 0)
    compared = 0
    for i in np.flatnonzero(measured["finite"]):
        maps = params["maps"][i]
        affine, probability = params["affine"][i, :maps], params["probability"][i, :maps]
        points = attractor_points(affine, probability, 10_000, trajectories(0, i, 0))
        if np.ptp(points) > 1e3:  # diverges: float32 is elsewhere by then
            continue
        compared += 1
        width = np.ptp(points)
        assert measured["variance"][i] == pytest.approx(points.var(0) * (2 / width) ** 2, rel=2e-3)
        box = [points.min(), points.max(), *points.mean(0)]
        assert measured["box"][i] == pytest.approx(box, abs=1e-3 * width)
    assert compared > 15


def test_what_is_found_spreads_on_every_axis(spatial: Catalog) -> None:
    for variance in (0.05, 0.12):
        catalog = fdsl.search("exfractaldb", categories=4, seed=2, variance=variance)
        drawing = FAMILY.probes(catalog.params, np.arange(4), np.ones((4, 12)))
        assert cpu.Engine(2).measure_spatial(drawing, 100_000, 1)["variance"].min() > 0.4 * variance


def test_the_early_rejection_loses_none() -> None:
    params = FAMILY.sample(5, np.arange(8192), FAMILY.settings)
    drawing = FAMILY.probes(params, np.arange(8192), np.ones((8192, 12)))
    whole, early = (cpu.Engine(2).measure_spatial(drawing, 10_000, 0, least) for least in (0, 0.05))
    accepted = (whole["variance"] > 0.05).all(1)
    assert accepted.sum() > 60
    assert np.array_equal(early[accepted], whole[accepted])
    assert not (early["variance"][~accepted] > 0.05).all(1).any()


@pytest.mark.parametrize("kernel", fdsl._core.kernels())
def test_search_is_the_same_on_every_kernel_and_number_of_threads(
    kernel: str, spatial: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FDSL_CPU", kernel)
    assert fdsl.search("exfractaldb", categories=5, seed=4, threads=1).digest == spatial.digest
    assert spatial.digest[:12] == "d7fb92c0dabc"


def test_candidates_are_drawn_as_published() -> None:
    params = FAMILY.sample(1, np.arange(20_000), FAMILY.settings)
    maps, affine = params["maps"], params["affine"]
    assert np.bincount(maps, minlength=8)[2:].tolist() == pytest.approx([20_000 / 6] * 6, rel=0.08)
    used = np.arange(7) < maps[:, None]
    for column in range(12):
        values = np.sort(affine[..., column][used])
        assert abs(values - np.linspace(-1, 1, len(values))).max() < 0.015  # Kolmogorov-Smirnov
    determinant = abs(np.linalg.det(affine[..., :9].reshape(-1, 7, 3, 3)))
    assert np.allclose(params["probability"], determinant / determinant.sum(1, keepdims=True))
    assert not affine[~used].any()


def test_weights_are_the_published_ones(shared: Path) -> None:
    published = np.loadtxt(shared / "published" / "weights-3d" / "weights_ins145.csv", delimiter=",")
    assert np.array_equal(published_weights(), published)
    # Their one slip: the 1.6 of i is a second 0.6.
    ours = FAMILY.factors(None)[:, 8]
    assert np.argwhere(ours != published).tolist() == [[108, 8]]
    assert sorted(ours[:, 8])[-1] == 1.6


def test_no_row_collapses() -> None:
    catalog = fdsl.search("exfractaldb", categories=12, seed=8)
    assert 0.9 < (catalog.shrink == 8).mean() < 1
    factors = FAMILY.factors(None)
    categories, rows = np.divmod(np.arange(12 * 145), 145)
    drawing = FAMILY.probes(catalog.params, categories, factors[rows, catalog.shrink.ravel()])
    probes = cpu.Engine(2).measure_spatial(drawing, 10_000, 5)
    variance, width = probes["variance"].reshape(12, 145, 3), np.diff(probes["box"][:, :2]).reshape(12, 145)
    assert probes["finite"].all()
    # Other trajectories than the probe's: stray points may reach farther, and a picture then leaves them out.
    collapsed = (variance < 0.4 * np.maximum(0.005, 0.1 * variance[:, 6:7])).any(2)
    assert collapsed.mean() < 0.005
    assert (width < 1000 * width[:, 6:7]).all()
    pictures = Dataset(catalog, range(0, 1740, 12), RenderSpec(size=128)).batch(np.arange(12 * 145))[0]
    filled = (pictures > 0).mean((1, 2, 3)).reshape(12, 145)
    assert (filled > 0.05 * filled[:, 6:7]).all()
    assert (catalog.boxes[..., 0] < catalog.boxes[..., 1]).all()


def records(catalog: Catalog, numbers: NDArray[np.int64], fresh: bool = False, options=None) -> NDArray[np.void]:
    none = np.zeros(len(numbers), np.int64)
    instances = Instances(categories=none, numbers=numbers, epochs=none + 3, repeats=none, seed=0, fresh=fresh)
    return FAMILY.drawing(catalog, instances, RenderSpec(options=options or {})).records


@pytest.mark.parametrize("fresh", [False, True])
def test_continuous_instances_lie_between_neighbouring_rows(fresh: bool, spatial: Catalog) -> None:
    drawn = records(spatial, np.arange(0 if fresh else 1740, 6000), fresh)
    varied = drawn["factor"] != 1
    assert varied.sum(1).max() == 1
    changed = drawn["factor"].sum(1) - 11
    assert ((changed >= 0.4 - 1e-9) & (changed <= 1.6 + 1e-9)).all()
    assert np.bincount(np.argmax(varied, 1), minlength=12).min() > 200
    turns, elevations = drawn["turn"] / 2**32, drawn["elevation"].astype(np.int32) / 2**32
    assert np.histogram(turns, 8, (0, 1))[0].min() > 0.8 * len(drawn) / 8
    assert -0.125 <= elevations.min() < -0.12
    assert 0.12 < elevations.max() < 0.125
    low, high = spatial.boxes[0, :, 0].min(), spatial.boxes[0, :, 1].max()
    assert ((drawn["extent"][:, 0] >= low) & (drawn["extent"][:, 1] <= high)).all()


def test_instances_are_numbered_as_published(spatial: Catalog) -> None:
    dataset = Dataset(spatial, 1740)
    assert dataset.numbering(75) == {"row": 6, "view": 3}
    assert dataset.file_name(3, 75) == "000003_00006_003"
    assert dataset.file_name(3, 1740) == "00003_instance_1740"
    published = records(spatial, np.arange(1740), options={"instance_rule": "published"})
    assert np.array_equal(published["factor"], published_weights().repeat(12, 0))
    assert np.array_equal(published["number"], np.arange(1740) // 12)
    off = (published["turn"] / 2**32 * 360 - (np.arange(1740) % 12 * 30 + 30) + 180) % 360 - 180
    assert 0.95 * math.pi < abs(off).max() <= math.pi
    assert not published["elevation"].any()
    train, held_out = dataset.split(0.9)
    rows = [set(np.asarray(part.instances) // 12) for part in (train, held_out)]
    assert not rows[0] & rows[1]
    assert (6 in rows[0], len(rows[1])) == (True, 14)


def test_views_are_the_twelve_of_an_object(spatial: Catalog, catalog: Catalog) -> None:
    dataset = Dataset(spatial, range(5), RenderSpec(size=48, channels=3), seed=1)
    every = Dataset(spatial, 1740, RenderSpec(size=48, channels=3), seed=1)
    for category, variation, row in ((0, None, 6), (3, 140, 140)):
        first = category * 1740 + row * 12
        assert np.array_equal(dataset.views(category, variation), every.batch(range(first, first + 12))[0])
    with pytest.raises(ValueError, match="variation is 145; expected a weight row from 0 to 144"):
        dataset.views(0, 145)
    with pytest.raises(IndexError, match="category 5 is out of range"):
        dataset.views(5)
    with pytest.raises(ValueError, match="fractaldb, which has no viewpoints"):
        Dataset(catalog).views(0)
    with pytest.raises(ValueError, match="views\\(\\) of a fresh dataset"):
        Dataset(spatial, fresh=True).views(0)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (RenderSpec(pad=2), "pad is 2, but exfractaldb has no pad"),
        (RenderSpec(options={"rule": 1}), "option 'rule' is not one of exfractaldb's; expected: instance_rule"),
        (RenderSpec(fit="stored", options={"instance_rule": "published"}), "fit 'stored' needs probed instances"),
    ],
)
def test_specs_that_do_not_fit_are_named(spec: RenderSpec, message: str, spatial: Catalog) -> None:
    with pytest.raises(ValueError, match=message):
        Dataset(spatial, spec=spec)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variance": 1.5}, "variance is 1.5; expected over 0 and under 1"),
        ({"variance": True}, "variance is True"),
        ({"fill_rate": 0.2}, "'fill_rate' is not a setting of exfractaldb; expected: variance"),
        ({"variation": 0.4}, "'variation' is not a setting of exfractaldb"),
    ],
)
def test_settings_that_do_not_fit_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fdsl.search("exfractaldb", categories=1, **arguments)


def test_a_system_that_diverges_is_named(spatial: Catalog) -> None:
    params = {name: array.copy() for name, array in spatial.params.items()}
    params["affine"][1, :, :9] *= 40
    with pytest.raises(ValueError, match="category 1 diverges"):
        fdsl.candidates.make_catalog("exfractaldb", params, None, {})


def test_csv_folders_come_back_with_the_family_that_their_columns_tell(spatial: Catalog, tmp_path: Path) -> None:
    spatial.to_csv(tmp_path / "csv")
    assert sorted(file.name for file in (tmp_path / "csv").iterdir())[:2] == ["000000.csv", "000001.csv"]
    again = fdsl.catalog(tmp_path / "csv")
    assert (again.family, again.digest) == ("exfractaldb", spatial.digest)
    (tmp_path / "csv" / "000002.csv").write_text("0.1,0,0,0.1,0.5,0,1\n")
    with pytest.raises(ValueError, match=r"000002\.csv: 7 columns; expected 13"):
        Catalog.from_csv(tmp_path / "csv")


def test_the_published_search_gives_the_published_categories(shared: Path) -> None:
    found = fdsl.published.search_3d(categories=5, seed=1, variance=0.15)
    assert (found.family, found.settings["candidates"]) == ("exfractaldb", 25068)
    for category in range(5):
        published = np.loadtxt(
            shared / "published" / "3dfractal-seed1-var0.15" / f"{category:06d}.csv", delimiter=",", ndmin=2
        )
        assert found.params["maps"][category] == len(published)
        assert np.array_equal(found.params["affine"][category, : len(published)], published[:, :12])
        # Theirs is LAPACK's determinant.
        assert found.params["probability"][category, : len(published)] == pytest.approx(published[:, 12], abs=1e-15)


def published_candidates(seed: int, count: int, points: int):
    """Affine, p and variances of the first candidates, as category_search.py reads."""
    generator = np.random.RandomState(seed)
    for _ in range(count):
        affine = np.array([generator.uniform(-1.0, 1.0, 12) for _ in range(generator.randint(2, 8))])
        p = abs(np.linalg.det(affine[:, :9].reshape(-1, 3, 3)))
        p /= p.sum()
        chosen = np.argmax(generator.random_sample(points)[:, None] <= np.cumsum(p), 1)
        at, cloud = np.zeros(3), np.empty((points - 1, 3))
        for i in range(points - 1):
            cloud[i] = at = affine[chosen[i], :9].reshape(3, 3) @ at + affine[chosen[i], 9:]
        with np.errstate(all="ignore"):
            yield affine, ((cloud - cloud.min()) / (cloud.max() - cloud.min()) * 2 - 1).var(0)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_published_search_judges_by_its_rule() -> None:
    accepted = [affine for affine, variance in published_candidates(7, 200, 500) if (variance > 0.02).all()]
    assert len(accepted) > 3
    found = fdsl.published.search_3d(categories=len(accepted), seed=7, variance=0.02, points=500)
    for affine, maps, expected in zip(found.params["affine"], found.params["maps"], accepted, strict=True):
        assert np.array_equal(affine[:maps], expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"categories": 0}, "categories is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"variance": 0}, "variance is 0"),
        ({"points": 1}, "points is 1"),
    ],
)
def test_bad_arguments_of_the_published_search_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fdsl.published.search_3d(**arguments)
