"""Point clouds and scenes, against float64 references written from the documentation and the published code."""

from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pictures
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from references import attractor_points, philox

import fdsl
from fdsl import Catalog, _core, keyed
from fdsl.clouds import CloudDataset, SceneDataset, collate
from fdsl.export.clouds import export_clouds
from fdsl.export.ply import write_ply
from fdsl.keyed import Purpose
from fdsl.scene_pictures import box_corners, scene_picture

Array = NDArray[Any]
# Made on x86-64 with AVX-512. A change raises rendering.RENDER_VERSION.
CLOUDS_DIGEST, SCENES_DIGEST = "1dcd9286fa7f9041", "6fb825fe920980f8"


def contractive_catalog(categories: int, seed: int = 0) -> Catalog:
    """Every map shrinks distances, so that float32 orbits stay beside float64 ones."""
    random = np.random.default_rng(seed)
    maps = random.integers(2, 8, categories).astype(np.int32)
    affine = random.uniform(-1, 1, (categories, 7, 12))
    matrices = affine[..., :9].reshape(-1, 3, 3)
    affine[..., :9] *= (0.8 / np.linalg.svd(matrices)[1][:, 0]).reshape(categories, 7, 1)
    affine *= (np.arange(7) < maps[:, None])[..., None]
    weight = abs(np.linalg.det(affine[..., :9].reshape(-1, 3, 3))).reshape(categories, 7)
    params = {"maps": maps, "affine": affine, "probability": weight / weight.sum(1, keepdims=True)}
    rows = np.full((categories, 1), 8, np.uint8)
    return Catalog("pcfractaldb", params, shrink=rows, boxes=np.zeros((categories, 1, 5), np.float32))


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return contractive_catalog(20)


@pytest.fixture(scope="module")
def scenes(catalog: Catalog) -> SceneDataset:
    return SceneDataset(catalog, scenes=2000, points_per_object=64, seed=4)


def reference_points(catalog: Catalog, category: int, state: NDArray[np.uint32], points: int) -> Array:
    maps = catalog.params["maps"][category]
    affine, probability = (catalog.params[name][category, :maps] for name in ("affine", "probability"))
    return attractor_points(affine, probability, points, state)


def normalised(points: Array) -> Array:
    scaled = (points - points.min()) / (points.max() - points.min()) * 2 - 1
    return scaled - scaled.mean(0)


def partner(categories: int, seed: int, category: int, number: int, epoch: int = 0) -> int:
    word = int(keyed.words(seed, Purpose.INSTANCE, category, number, epoch)[0])
    other = word * (categories - 1) >> 32
    return other + (other >= category)


def reference_cloud(catalog: Catalog, category: int, number: int, seed: int, points: int, own: int) -> Array:
    counters = np.zeros((80, 4), np.uint64)
    counters[:, 0], counters[:, 1], counters[:, 3] = category, number, np.arange(80)
    states = philox(seed, counters).astype(np.uint32).T.ravel()  # 256 trajectories, and 64 of the partner
    parts = [normalised(reference_points(catalog, category, states[:256], own))]
    if own < points:
        other = partner(len(catalog), seed, category, number)
        parts.append(normalised(reference_points(catalog, other, states[256:], points - own)))
    whole = np.concatenate(parts)
    return whole - whole.mean(0)


@pytest.mark.parametrize(
    ("points", "mix", "own"), [(2048, 0.2, 1638), (10_000, 0.2, 8000), (777, 0.0, 777), (90, 0.5, 45)]
)
def test_a_cloud_is_two_parts_normalised_and_centred_each_by_itself(
    catalog: Catalog, points: int, mix: float, own: int
) -> None:
    dataset = CloudDataset(catalog, instances=range(5, 8), points=points, mix=mix, seed=9)
    assert dataset.own_points == own
    for index in (0, 4, 31, 59):
        category, place = divmod(index, 3)
        cloud, label = dataset[index]
        assert label == category
        assert cloud.dtype == np.float32
        expected = reference_cloud(catalog, category, 5 + place, 9, points, own)
        np.testing.assert_allclose(cloud, expected, atol=2e-5)


def test_scenes_hold_the_clouds_stretched_into_their_boxes_and_turned(catalog: Catalog) -> None:
    dataset = SceneDataset(catalog, scenes=3, points_per_object=500, instances=7, seed=2)
    scene = dataset[1]
    for i, box in enumerate(scene["boxes"].astype(float)):
        cloud = reference_cloud(catalog, int(scene["classes"][i]), int(scene["instances"][i]), 2, 500, 400)
        low, high = cloud.min(0), cloud.max(0)
        x, y, z = ((cloud - (low + high) / 2) / (high - low) * box[3:6]).T
        sine, cosine = math.sin(box[6]), math.cos(box[6])
        expected = np.stack([cosine * x - sine * y, sine * x + cosine * y, z], 1) + box[:3]
        np.testing.assert_allclose(scene["points"][scene["objects"] == i], expected, atol=3e-5)


def test_a_scene_s_clouds_are_those_of_the_cloud_dataset(catalog: Catalog) -> None:
    scene = SceneDataset(catalog, points_per_object=300, instances=50, seed=6)[0]
    clouds = CloudDataset(catalog, instances=50, points=300, seed=6)
    own = clouds[int(scene["classes"][0]) * 50 + int(scene["instances"][0])][0]
    height = scene["points"][:300, 2]
    expected = (own[:, 2] - own[:, 2].min()) / np.ptp(own[:, 2]) * scene["boxes"][0, 5]
    np.testing.assert_allclose(height, expected, atol=1e-5)


def test_partners_are_others_all_alike_and_keyed_by_category_and_instance(catalog: Catalog) -> None:
    partners = np.array([[partner(20, 9, category, number) for number in range(1000)] for category in range(20)])
    assert not (partners == np.arange(20)[:, None]).any()
    counts = np.bincount(partners.ravel(), minlength=20)
    assert abs(counts - 1000).max() < 5 * math.sqrt(1000)
    assert (partners[0] == partners[1]).mean() < 0.2  # published, they are the same
    # Two instances of a category share their system, so their own parts differ by the trajectories only.
    alone = contractive_catalog(1)
    both = CloudDataset(alone, instances=2, points=20_000, mix=0.5).batch([0, 1])[0]
    assert not np.array_equal(both[0], both[1])
    np.testing.assert_allclose(both[0].std(0), both[1].std(0), rtol=0.05)


def test_degenerate_and_diverging_systems_give_finite_points(monkeypatch: pytest.MonkeyPatch) -> None:
    base = contractive_catalog(2)
    affine = base.params["affine"].copy()
    affine[0, :, :9], affine[0, :, 9:] = 0, 0.25  # one point
    affine[1, :, :9] *= 1e3  # no attractor
    params = {**base.params, "affine": affine}
    broken = Catalog("pcfractaldb", params, shrink=base.shrink, boxes=base.boxes)
    dataset = CloudDataset(broken, instances=3, points=20_000)
    clouds, _ = dataset.batch(range(6))
    assert np.isfinite(clouds).all()
    assert abs(clouds).max() <= 2
    monkeypatch.setenv("FDSL_CPU", "portable")
    assert np.array_equal(dataset.batch(range(6))[0], clouds)
    boxes = SceneDataset(broken, points_per_object=100).batch(range(20))
    assert np.isfinite(boxes["points"]).all()


def test_the_layout_has_the_published_distributions(scenes: SceneDataset) -> None:
    batch = scenes.batch(range(2000))
    counts, boxes = np.diff(batch["offsets"]), batch["boxes"].astype(float)
    poisson = np.array([math.exp(-5) * 5**k / math.factorial(k) for k in range(12)])
    found = np.bincount(counts - 15, minlength=30)
    np.testing.assert_allclose(found[:12] / 2000, poisson, atol=5 * math.sqrt(0.25 / 2000))
    assert abs(counts.mean() - 20) < 5 * math.sqrt(5 / 2000)
    centre, size, heading = boxes[:, :3], boxes[:, 3:6], boxes[:, 6]
    np.testing.assert_allclose(centre[:, 2], size[:, 2] / 2, rtol=1e-6)
    total = len(boxes)
    for values, low, high in (
        (size[:, 0], 0.75, 1.25),
        (size[:, 1] / size[:, 0], 0.9, 1.1),
        (size[:, 2] / size[:, 0], 0.9, 1.1),
        (heading, -math.pi, math.pi),
        (batch["instances"].astype(float) + 0.5, 0, 1000),
        (batch["classes"].astype(float) + 0.5, 0, 20),
    ):
        assert values.min() >= low - 1e-6
        assert values.max() <= high + 1e-6
        # Kolmogorov-Smirnov: below 2.7 / sqrt(n) but once in a million.
        ranks = np.sort((values - low) / (high - low))
        assert abs(ranks - (np.arange(total) + 0.5) / total).max() < 2.7 / math.sqrt(total) + 0.5 / 20 * (high == 20)
    first = boxes[batch["offsets"][:-1], :2]  # later ones keep away from it
    assert abs(first).max() <= 7.5
    assert np.histogram(first, 4, (-7.5, 7.5))[0].min() > 800


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**64 - 1), objects=st.integers(1, 60), floor=st.floats(0.5, 40), index=st.integers(0, 10**6)
)
def test_objects_keep_apart_and_boxes_hold_their_points(seed: int, objects: int, floor: float, index: int) -> None:
    dataset = SceneDataset(contractive_catalog(3), 2**32, objects, points_per_object=20, floor=floor, seed=seed)
    scene = dataset[index]
    boxes = scene["boxes"].astype(float)
    assert 1 <= len(boxes) <= dataset.most_objects
    assert len(scene["points"]) == 20 * len(boxes)
    radius = np.hypot(boxes[:, 3], boxes[:, 4]) / 2
    apart = np.hypot(*(boxes[:, None, :2] - boxes[None, :, :2]).transpose(2, 0, 1))
    gap = apart - radius[:, None] - radius[None] - 0.25
    assert gap[~np.eye(len(boxes), dtype=bool)].min(initial=0) > -1e-5
    assert abs(boxes[:, :2]).max() <= floor / 2 + 1e-6
    for i, box in enumerate(boxes):
        x, y, z = (scene["points"][scene["objects"] == i].astype(float) - box[:3]).T
        sine, cosine = math.sin(-box[6]), math.cos(-box[6])
        own = np.stack([cosine * x - sine * y, sine * x + cosine * y, z], 1)
        np.testing.assert_allclose(own.max(0), box[3:6] / 2, atol=2e-5 * max(1, floor / 15))
        np.testing.assert_allclose(own.min(0), -box[3:6] / 2, atol=2e-5 * max(1, floor / 15))


def test_a_scene_ends_where_an_object_finds_no_place(catalog: Catalog) -> None:
    crowded = SceneDataset(catalog, objects=100, points_per_object=1, floor=4.0).batch(range(50))
    counts = np.diff(crowded["offsets"])
    assert counts.max() < 16
    assert counts.min() >= 1


@pytest.mark.parametrize("kernel", _core.kernels())
def test_points_and_boxes_are_the_same_on_every_kernel(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FDSL_CPU", kernel)
    found = pictures.catalog("pcfractaldb")
    clouds, _ = CloudDataset(found, instances=9, points=700, seed=1).batch(range(36), threads=2)
    odd, _ = CloudDataset(found, instances=2, points=43, mix=0.5).batch(range(8), threads=2)
    scene = SceneDataset(found, points_per_object=300).batch(range(3), threads=2)
    assert pictures.digest(np.concatenate([clouds.ravel(), odd.ravel()])) == CLOUDS_DIGEST
    assert (
        pictures.digest(np.concatenate([scene[name].ravel() for name in ("points", "boxes", "classes")]))
        == SCENES_DIGEST
    )


def test_threads_splits_and_order_change_nothing(catalog: Catalog, scenes: SceneDataset) -> None:
    dataset = CloudDataset(catalog, instances=10, points=333)
    whole, labels = dataset.batch(range(200), threads=1)
    shuffled = np.random.default_rng(0).permutation(200)
    for part in np.array_split(shuffled, 7):
        out = np.full((len(part), 333, 3), np.nan, np.float32)
        drawn, found = dataset.batch(part, out=out, threads=3)
        assert drawn is out
        assert np.array_equal(drawn, whole[part])
        assert np.array_equal(found, labels[part])
    assert np.array_equal(dataset[-1][0], whole[-1])
    batch = scenes.batch(range(30), threads=1)
    room = np.full((len(batch["points"]) + 5, 64, 3), np.nan, np.float32)
    again = scenes.batch(np.arange(30), out=room, threads=3)
    assert all(np.array_equal(batch[name], again[name]) for name in batch)
    assert np.shares_memory(again["points"], room)
    for i in (29, 3, 0):
        scene, (a, b) = scenes[i], batch["offsets"][i : i + 2]
        assert np.array_equal(scene["points"].reshape(-1, 64, 3), batch["points"][a:b])
        assert np.array_equal(scene["boxes"], batch["boxes"][a:b])
        assert np.array_equal(scene["objects"], np.arange(b - a).repeat(64))


def test_fresh_datasets_draw_anew_each_epoch(catalog: Catalog) -> None:
    for fresh in (False, True):
        clouds = CloudDataset(catalog, instances=2, points=50, fresh=fresh)
        assert np.array_equal(clouds.batch([3], epoch=0)[0], clouds.batch([3], epoch=1)[0]) != fresh
        assert np.array_equal(clouds[(1, 0, 3)][0], clouds.batch([3], epoch=1)[0][0])
        scenes = SceneDataset(catalog, points_per_object=20, fresh=fresh)
        assert np.array_equal(scenes.batch([3], epoch=0)["boxes"], scenes.batch([3], epoch=1)["boxes"]) != fresh


def test_a_digest_covers_all_that_decides_a_point(catalog: Catalog) -> None:
    clouds = [
        CloudDataset(catalog, **{"points": 10, **changed})
        for changed in ({}, {"points": 11}, {"mix": 0.3}, {"seed": 1}, {"fresh": True}, {"instances": 9})
    ]
    scenes = [
        SceneDataset(catalog, **changed)
        for changed in ({}, {"objects": 9}, {"floor": 9.0}, {"instances": 9}, {"points_per_object": 9}, {"seed": 1})
    ]
    digests = {dataset.digest for dataset in (*clouds, *scenes, CloudDataset(contractive_catalog(3), points=10))}
    assert len(digests) == 13
    assert pickle.loads(pickle.dumps(scenes[0])).digest == scenes[0].digest


@pytest.mark.parametrize("workers", [0, 2])
def test_a_dataloader_serves_both(workers: int, catalog: Catalog) -> None:
    data = pytest.importorskip("torch.utils.data")
    clouds = CloudDataset(catalog, instances=3, points=40)
    batches = list(data.DataLoader(clouds, batch_size=16, num_workers=workers))
    points = np.concatenate([batch[0].numpy() for batch in batches])
    assert np.array_equal(points, clouds.batch(range(60))[0])
    assert np.concatenate([batch[1].numpy() for batch in batches]).tolist() == list(clouds.targets)
    scenes = SceneDataset(catalog, scenes=6, points_per_object=30)
    loaded = list(data.DataLoader(scenes, batch_size=4, num_workers=workers, collate_fn=collate))
    assert [len(batch["box_offsets"]) for batch in loaded] == [5, 3]
    second = loaded[1]
    a, b = second["point_offsets"][1:].tolist()
    assert np.array_equal(second["points"][a:b].numpy(), scenes[5]["points"])
    assert np.array_equal(second["objects"][a:b].numpy(), scenes[5]["objects"])
    a, b = second["box_offsets"][1:].tolist()
    assert all(np.array_equal(second[name][a:b].numpy(), scenes[5][name]) for name in ("boxes", "classes", "instances"))


def read_ply(file: Path) -> dict[str, Array]:
    """The properties of the vertices of a binary PLY file."""
    header, _, body = file.read_bytes().partition(b"end_header\n")
    lines = header.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    assert lines[2].startswith("element vertex ")
    codes = {"float": "<f4", "int": "<i4"}
    fields = [(name, codes[kind]) for _, kind, name in (line.split() for line in lines[3:])]
    vertices = np.frombuffer(body, fields)
    assert len(vertices) == int(lines[2].split()[2])
    return {name: vertices[name] for name, _ in fields}


def xyz(file: Path) -> Array:
    read = read_ply(file)
    return np.stack([read["x"], read["y"], read["z"]], 1)


def test_ply_files_hold_points_and_labels(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(17, 3)).astype(np.float32)
    write_ply(tmp_path / "plain.ply", points)
    assert np.array_equal(xyz(tmp_path / "plain.ply"), points)
    write_ply(tmp_path / "labelled.ply", points, np.arange(17))
    assert read_ply(tmp_path / "labelled.ply")["label"].tolist() == list(range(17))
    assert np.array_equal(xyz(tmp_path / "labelled.ply"), points)
    for wrong, labels in ((points[:, :2], None), (points, np.arange(3)), (points, np.zeros(17))):
        with pytest.raises(ValueError, match="expected"):
            write_ply(tmp_path / "wrong.ply", wrong, labels)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["labelled.ply", "plain.ply"]


@pytest.mark.parametrize("format", ["ply", "npz"])
def test_exports_are_named_as_published_and_read_back(format: str, tmp_path: Path, catalog: Catalog) -> None:
    done: list[tuple[str, int, int]] = []
    clouds = CloudDataset(catalog, instances=2, points=30)
    export_clouds(clouds, tmp_path / "clouds", format, progress=lambda *report: done.append(report))
    assert done[-1][1:] == (40, 40)
    file = tmp_path / "clouds" / "000007" / f"000007_0001.{format}"
    assert len(list(tmp_path.glob(f"clouds/*/*.{format}"))) == 40
    if format == "ply":
        assert np.array_equal(xyz(file), clouds[15][0])
    else:
        assert np.array_equal(np.load(file)["points"], clouds[15][0])
        assert np.load(file)["label"] == 7
    scenes = SceneDataset(catalog, scenes=9, points_per_object=20)
    export_clouds(scenes, tmp_path / "scenes", format, items=[2, 5])
    names = [f"scene_0000{i}.{suffix}" for i in (2, 5) for suffix in sorted(["json", format])]
    assert sorted(file.name for file in (tmp_path / "scenes").iterdir()) == names
    scene = scenes[5]
    objects = json.loads((tmp_path / "scenes" / "scene_00005.json").read_text())
    assert [list(entry) for entry in objects] == [["size", "c_pos", "theta", "class_name", "file_name"]] * len(objects)
    boxes = np.array([[*entry["c_pos"], *entry["size"], entry["theta"]] for entry in objects], np.float32)
    assert np.array_equal(boxes, scene["boxes"])
    category, number = scene["classes"][0], scene["instances"][0]
    assert objects[0]["class_name"] == f"{category:06d}"
    assert objects[0]["file_name"] == f"{category:06d}_{number:04d}.ply"
    exported = tmp_path / "scenes" / f"scene_00005.{format}"
    if format == "ply":
        assert np.array_equal(xyz(exported), scene["points"])
        assert np.array_equal(read_ply(exported)["label"], scene["objects"])
    else:
        assert all(np.array_equal(np.load(exported)[name], scene[name]) for name in scene)


def test_a_failed_export_leaves_nothing(tmp_path: Path, catalog: Catalog) -> None:
    clouds = CloudDataset(catalog, instances=2, points=30)

    def stop(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_clouds(clouds, tmp_path / "clouds", progress=stop)
    with pytest.raises(IndexError):
        export_clouds(clouds, tmp_path / "clouds", items=[1000])
    with pytest.raises(ValueError, match="format is 'obj'; expected 'ply' or 'npz'"):
        export_clouds(clouds, tmp_path / "clouds", "obj")
    assert not list(tmp_path.iterdir())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(FileExistsError):
        export_clouds(clouds, tmp_path / "full")


def test_corners_turn_counter_clockwise() -> None:
    (corners,) = box_corners([[1, 2, 0.5, 4, 2, 1, math.pi / 2]])
    expected = [[2, 0, 0], [2, 4, 0], [0, 4, 0], [0, 0, 0], [2, 0, 1], [2, 4, 1], [0, 4, 1], [0, 0, 1]]
    np.testing.assert_allclose(corners, expected, atol=1e-12)


def test_a_picture_shows_the_points_of_each_object(scenes: SceneDataset) -> None:
    scene = scenes[0]
    image = scene_picture(scene, size=200)
    assert image.size[0] == 200
    assert image.mode == "RGB"
    without = {**scene, "points": scene["points"][:0], "objects": scene["objects"][:0]}
    assert (np.asarray(image) != np.asarray(scene_picture(without, size=200))).any(2).mean() > 0.002


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"points": 0}, "points is 0; expected a whole number from 1"),
        ({"points": 2**20 + 1}, "points is 1048577"),
        ({"points": 2.5}, "points is 2.5"),
        ({"mix": 1.5}, "mix is 1.5; expected a share"),
        ({"mix": 1}, "mix is 1; expected a share"),
        ({"mix": float("nan")}, "mix is nan"),
        ({"seed": -1}, "seed is -1"),
        ({"instances": 0}, "instances is empty"),
    ],
)
def test_a_cloud_dataset_refuses(arguments: dict[str, Any], message: str, catalog: Catalog) -> None:
    with pytest.raises(ValueError, match=message):
        CloudDataset(catalog, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scenes": 0}, "scenes is 0"),
        ({"objects": 0}, "objects is 0"),
        ({"objects": 1001}, "objects is 1001; expected a whole number from 1 to 1,000"),
        ({"points_per_object": 0}, "points_per_object is 0"),
        ({"floor": 0}, "floor is 0; expected a side over 0"),
        ({"floor": float("inf")}, "floor is inf"),
        ({"instances": 2**32}, "instances is 4294967296"),
    ],
)
def test_a_scene_dataset_refuses(arguments: dict[str, Any], message: str, catalog: Catalog) -> None:
    with pytest.raises(ValueError, match=message):
        SceneDataset(catalog, **arguments)


def test_other_families_and_wrong_batches_are_refused(catalog: Catalog, scenes: SceneDataset) -> None:
    plane = fdsl.search("fractaldb", categories=1, seed=3)
    for kind in (CloudDataset, SceneDataset):
        with pytest.raises(ValueError, match="family fractaldb; expected exfractaldb or pcfractaldb"):
            kind(plane)
    clouds = CloudDataset(catalog, instances=2, points=10)
    for dataset in (clouds, scenes):
        with pytest.raises(IndexError, match="out of range"):
            dataset.batch([len(dataset)])
        with pytest.raises(ValueError, match="threads is 0"):
            dataset.batch([0], threads=0)
        with pytest.raises(ValueError, match="expected"):
            dataset.batch([0], out=np.zeros((1, 3), np.float32))
        with pytest.raises(ValueError, match="expected"):
            dataset.batch([0], out=np.zeros((60, dataset.points, 3)))
    with pytest.raises(ValueError, match="room for 2 objects"):
        scenes.batch([0], out=np.zeros((2, 64, 3), np.float32))
    points, labels = clouds.batch([])
    assert points.shape == (0, 10, 3)
    assert labels.shape == (0,)
    assert scenes.batch([])["offsets"].tolist() == [0]


def test_a_catalog_of_exfractaldb_serves_too() -> None:
    searched = fdsl.search("pcfractaldb", categories=2, seed=1)
    rows = np.full((2, 145), 8, np.uint8)
    other = Catalog("exfractaldb", searched.params, shrink=rows, boxes=np.repeat(searched.boxes, 145, 1))
    mine, theirs = (CloudDataset(found, instances=3, points=100).batch(range(6))[0] for found in (searched, other))
    assert np.array_equal(mine, theirs)


def test_categories_are_those_of_exfractaldb() -> None:
    pc, ex = (fdsl.search(family, categories=2, seed=5) for family in ("pcfractaldb", "exfractaldb"))
    assert all(np.array_equal(pc.params[name], ex.params[name]) for name in ("maps", "affine", "probability"))
    assert pc.shrink is not None
    assert pc.shrink.tolist() == [[8], [8]]


def test_clouds_of_searched_categories_spread_over_each_axis() -> None:
    found = fdsl.search("pcfractaldb", categories=100, seed=2)
    clouds, _ = CloudDataset(found, instances=1, points=10_000, mix=0.0).batch(range(100))
    least = clouds.var(1).min(1)  # accepted above 0.05, along other trajectories
    assert (least > 0.04).mean() > 0.9
    assert least.min() > 0.01


def test_a_picture_shows_the_cloud_before_the_camera(catalog: Catalog) -> None:
    size, points = 200, 3000
    dataset = fdsl.Dataset(catalog, 36, fdsl.RenderSpec(size=size, points=points), seed=5)
    assert dataset.numbering(26) == {"cloud": 2, "view": 2}
    assert dataset.file_name(3, 26) == "000003_0002_002"
    image = dataset[4 * 36 + 26][0][0]
    cloud = CloudDataset(catalog, instances=3, points=points, seed=5)[4 * 3 + 2][0].astype(float)
    angle = math.radians(90)  # view 2
    ahead = np.array([math.cos(angle), 0, -math.sin(angle)])
    depth = cloud @ ahead + 4
    right, up = cloud @ [math.sin(angle), 0, math.cos(angle)], cloud[:, 1]
    focus = 1 / math.tan(math.radians(22.5))
    column, row = (size / 2 * (1 + focus * at / depth) for at in (right, -up))
    inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
    expected = np.zeros((size, size), bool)
    expected[row[inside].astype(int), column[inside].astype(int)] = True
    assert expected.sum() > 300
    assert (expected != (image == 255)).sum() <= 0.02 * expected.sum()


def test_a_crop_is_a_part_of_the_larger_picture(catalog: Catalog) -> None:
    for draw in ("point", "patch", "patch_per_point"):
        whole = fdsl.Dataset(catalog, 5, fdsl.RenderSpec(size=150, points=2000, draw=draw), seed=5)
        crops = fdsl.Dataset(
            catalog, 5, fdsl.RenderSpec(size=64, points=2000, draw=draw, view=fdsl.Crop(of=150)), seed=5
        )
        for index in (3, 22):
            windows = np.lib.stride_tricks.sliding_window_view(whole[index][0][0], (64, 64))
            assert (windows == crops[index][0][0]).all((2, 3)).any()


@pytest.mark.parametrize("wrong", [{"fit": "own"}, {"pad": 3}, {"options": {"instance_rule": "published"}}])
def test_a_picture_refuses_what_the_family_lacks(wrong: dict[str, Any], catalog: Catalog) -> None:
    with pytest.raises(ValueError, match="pcfractaldb"):
        fdsl.Dataset(catalog, 5, fdsl.RenderSpec(**wrong))


def test_views_show_one_cloud_from_all_sides(catalog: Catalog) -> None:
    views = fdsl.Dataset(catalog, 24, fdsl.RenderSpec(size=64, points=1000)).views(3)
    assert views.shape == (12, 1, 64, 64)
    opposite = views[6, 0, :, ::-1]
    assert (views[0] > 0).sum() > 50
    assert not np.array_equal(views[0, 0], opposite)  # perspective


def test_the_command_line_knows_the_family(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fdsl.cli", "show", "pcfractaldb", "--out", str(tmp_path / "sheet.png")]
    subprocess.run([*command, "--categories", "2", "--columns", "2"], check=True, capture_output=True)
    assert (tmp_path / "sheet.png").stat().st_size > 1000
