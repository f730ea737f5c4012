"""The cuda engine's kernels, run on the host, give the cpu engine's bytes; and they compile for every GPU."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pictures
import pytest
import torch
from host_blocks import HostBlocks

import fdsl
from fdsl import Composition, Dataset, RenderSpec
from fdsl.engines import cpu, cuda, cuda_plans
from fdsl.engines.cuda_gpu import KERNELS, compile_kernels
from fdsl.engines.pixel_format import PixelFormat
from fdsl.families import family_named
from fdsl.indexing import numbers_at
from fdsl.primitives import Instances, Polylines

DONE = ("fractaldb",)
DONE += ("exfractaldb", "pcfractaldb")
DONE += ("perlin", "rcdb", "visualatom", "bezier", "sparks", "sparks_in_space", "zigzags", "ripples")
SOURCES = sorted(path.stem for path in (KERNELS / "cuda").glob("*.cu"))
ARCHITECTURES = ("sm_75", "sm_80", "sm_89", "sm_90", "sm_100", "sm_120")


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> HostBlocks:
    return HostBlocks(tmp_path_factory.mktemp("blocks"))


def drawing_of(dataset: fdsl.Dataset, epoch: int = 2) -> Any:
    """What its family draws of all its pictures."""
    categories, rows = np.divmod(np.arange(len(dataset)), len(dataset.instances))
    full = np.full(len(dataset), epoch)
    instances = Instances(categories, numbers_at(dataset.instances, rows), full, 0 * full, dataset.seed, dataset.fresh)
    return dataset._family.drawing(dataset.catalog, instances, dataset.spec)


def draw(dataset: fdsl.Dataset, engine: cuda.Engine) -> torch.Tensor:
    images: torch.Tensor = dataset.batch(range(len(dataset)), epoch=2, engine=engine)[0]
    return images


@pytest.mark.parametrize(("family", "name"), [case for case in pictures.CASES if case[0] in DONE])
def test_blocks_draw_the_bytes_of_the_cpu_engine(family: str, name: str, blocks: HostBlocks) -> None:
    dataset = pictures.dataset(family, name)
    expected, _ = dataset.batch(range(len(dataset)), epoch=2)
    drawn = draw(dataset, cuda.Engine(blocks=blocks))
    assert np.array_equal(drawn.numpy(), expected)


@pytest.mark.parametrize(
    ("family", "name"),
    [
        *((family, "color, patch") for family in ("fractaldb", "exfractaldb")),
        *(
            (family, "random view, rotation")
            for family in ("fractaldb", "exfractaldb", "pcfractaldb", "rcdb", "zigzags")
        ),
        *((family, "patch per point, color") for family in ("exfractaldb", "pcfractaldb", "sparks")),
        *((family, "density") for family in ("fractaldb", "pcfractaldb")),
        *((family, "color") for family in ("bezier", "perlin", "visualatom", "ripples")),
    ],
)
def test_the_order_of_blocks_and_threads_changes_nothing(
    family: str, name: str, blocks: HostBlocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "backward", True)
    dataset = pictures.dataset(family, name)
    expected, _ = dataset.batch(range(len(dataset)), epoch=2)
    assert np.array_equal(draw(dataset, cuda.Engine(blocks=blocks)).numpy(), expected)


@pytest.mark.parametrize("pixels", [None, PixelFormat("bfloat16", channels_last=True)])
def test_a_mix_is_drawn_into_one_batch(pixels: PixelFormat | None, blocks: HostBlocks) -> None:
    parts = [pictures.dataset("fractaldb", name) for name in ("point", "patch")]
    mixed, engine = fdsl.mix(parts), cuda.Engine(pixels=pixels, blocks=blocks)
    indices = np.random.default_rng(0).permutation(len(mixed))[:9]
    images, labels = mixed.batch(indices, epoch=2, engine=engine)
    whole, expected = mixed.batch(range(len(mixed)), epoch=2, engine=engine)
    assert torch.equal(images, whole[torch.from_numpy(indices)])
    assert np.array_equal(labels, expected[indices])
    assert pixels is None or images.is_contiguous(memory_format=torch.channels_last)


def test_catalogs_that_are_gone_take_no_memory(blocks: HostBlocks, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, uploads = cuda.Engine(blocks=blocks), []
    upload = blocks.upload
    monkeypatch.setattr(blocks, "upload", lambda *arguments: uploads.append(upload(*arguments)))
    for seed in range(3):
        dataset = fdsl.Dataset(fdsl.search("fractaldb", categories=1, seed=seed), 4, RenderSpec(size=16, points=50))
        del uploads[:]
        for _ in range(2):
            dataset.batch([0, 3], engine=engine)
        assert len(uploads) == 3 + 2  # the catalog once, and each batch
        del dataset
        gc.collect()
    assert len(engine._resident) == 3


# A batch of a family whose numbers, and at 700 pixels whose bits, take several strips.
LARGE = {
    "bits": RenderSpec(size=700, points=3_000, draw="patch"),
    "numbers": RenderSpec(size=301, points=3_000, draw="patch", color="color"),
    "stamps": RenderSpec(size=301, points=3_000, draw="patch_per_point", view=fdsl.RandomView(rotation=30)),
    "density": RenderSpec(size=301, points=3_000, draw="point", color="density", view=fdsl.Crop(of=400)),
}
MOST_STRIPS = {"strips": 24, "outside": 2}


def large(family: str, name: str) -> fdsl.Dataset:
    return fdsl.Dataset(pictures.catalog(family), pictures.INSTANCES[family][:4], LARGE[name], seed=7)


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("family", ["fractaldb", "exfractaldb", "pcfractaldb"])
def test_large_pictures_are_drawn_in_strips_or_outside_shared_memory(
    family: str, name: str, blocks: HostBlocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = large(family, name)
    places = [0, 5, 10, 15]
    expected, _ = dataset.batch(places)
    for where, most in MOST_STRIPS.items():
        monkeypatch.setattr(cuda_plans, "_MOST_STRIPS", most)
        monkeypatch.setattr(cuda, "_OUTSIDE_BYTES", 2_000_000)  # of five pictures, in several launches
        strips = cuda_plans.strips_of(dataset.spec.size, name == "bits")
        shared = where == "strips" or name == "bits"
        assert (strips.count > 1, strips.outside_bytes == 0) == (shared, shared)
        drawn, _ = dataset.batch(places, engine=cuda.Engine(blocks=blocks))
        assert np.array_equal(drawn.numpy(), expected)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "float16", "bfloat16", "float32"])
@pytest.mark.parametrize(
    "name", ["point, odd size", "point, three channels", "color, patch", "density, patch, three channels"]
)
def test_pixels_are_what_the_format_makes_of_bytes(
    name: str, dtype: str, channels_last: bool, blocks: HostBlocks
) -> None:
    dataset = pictures.dataset("fractaldb", name)
    channels = dataset.spec.image_channels
    normal = {} if dtype == "uint8" else {"mean": [0.4, 0.5, 0.6][:channels], "std": [0.2, 0.25, 0.3][:channels]}
    pixels = PixelFormat(dtype, channels_last=channels_last, **normal)
    expected, _ = dataset.batch(range(9))
    drawn, _ = dataset.batch(range(9), engine=cuda.Engine(pixels=pixels, blocks=blocks))
    assert drawn.is_contiguous(memory_format=torch.channels_last) or not channels_last or channels == 1
    assert drawn.dtype == getattr(torch, dtype)
    table = pixels.values(np.arange(256, dtype=np.uint8)[:, None].repeat(channels, 1))
    bits = drawn.view(torch.uint8 if dtype == "uint8" else torch.int32 if dtype == "float32" else torch.int16).numpy()
    for channel in range(channels):
        assert np.array_equal(bits[:, channel].view(table.dtype), table[expected[:, channel], channel])


@pytest.mark.parametrize("family", ["fractaldb", "exfractaldb", "pcfractaldb"])
def test_what_is_prepared_draws_the_same_each_time(family: str, blocks: HostBlocks) -> None:
    dataset, engine = pictures.dataset(family, "density"), cuda.Engine(blocks=blocks)
    drawing = drawing_of(dataset)
    prepared = engine.prepare(drawing, dataset.spec, dataset.palette, dataset.seed)
    twice = [engine.empty((len(dataset), 1, 64, 64)) for _ in range(2)]
    for out in twice:
        prepared.draw(out)
    assert torch.equal(*twice)
    assert twice[0].any()


@pytest.mark.parametrize("name", ["affine", "spatial"])
def test_records_of_systems_are_as_long_as_the_kernels_have_them(name: str, blocks: HostBlocks) -> None:
    source = blocks.source(name)
    assert source.size_of_systems_task() == cuda_plans.SYSTEMS_TASK.itemsize
    assert getattr(source, f"size_of_placed_{name}")() == cuda_plans.PLACED_BYTES[name]
    assert getattr(source, f"size_of_placing_{name}")() == cuda_plans.PLACING_BYTES[name]


@pytest.mark.parametrize(("points", "mix"), [(2048, 0.2), (301, 0.5), (3, 0.7), (100, 0.0)])
def test_clouds_are_those_of_the_cpu(points: int, mix: float, blocks: HostBlocks) -> None:
    engine, catalog = cuda.Engine(blocks=blocks), pictures.catalog("pcfractaldb")
    dataset = fdsl.clouds.CloudDataset(catalog, 3, points=points, mix=mix, seed=7)
    drawn, labels = dataset.batch(range(len(dataset)), engine=engine)
    expected, expected_labels = dataset.batch(range(len(dataset)))
    assert drawn.numpy().tobytes() == expected.tobytes()
    assert np.array_equal(labels, expected_labels)


def test_scenes_are_those_of_the_cpu(blocks: HostBlocks) -> None:
    dataset = fdsl.clouds.SceneDataset(pictures.catalog("pcfractaldb"), scenes=3, objects=4, points_per_object=500)
    expected = dataset.batch([2, 0])
    out = torch.empty((100, 500, 3))
    drawn = dataset.batch([2, 0], out=out, engine=cuda.Engine(blocks=blocks))
    assert drawn["points"].data_ptr() == out.data_ptr()
    for name, array in expected.items():
        assert np.asarray(drawn[name]).tobytes() == array.tobytes()
    with pytest.raises(
        ValueError, match=r"out is torch.float64 \(9, 500, 3\) on cpu; expected contiguous torch.float32"
    ):
        cuda.Engine(blocks=blocks).draw_clouds(dataset.catalog.params, np.zeros(9, cpu.CLOUD), 0, 400, out[:9].double())


def test_records_of_clouds_are_as_long_as_the_kernels_have_them(blocks: HostBlocks) -> None:
    source = blocks.source("cloud_pictures")
    assert source.size_of_clouds_task() == cuda_plans.CLOUDS_TASK.itemsize
    assert source.size_of_placed_cloud() == cuda_plans.PLACED_BYTES["cloud"]
    assert source.size_of_placing_cloud() == cuda_plans.PLACING_BYTES["cloud"]
    assert source.size_of_cloud_drawing() <= cuda_plans.CLOUD_HEADER_BYTES
    assert blocks.source("clouds").size_of_drawn_cloud() <= 1024


def test_records_of_measurements_are_as_long_as_the_kernels_have_them(blocks: HostBlocks) -> None:
    source = blocks.source("measure")
    assert source.size_of_measure_task() == cuda_plans.MEASURE_TASK.itemsize
    assert source.size_of_measurement() == cpu.MEASUREMENT.itemsize
    assert source.size_of_spatial_measurement() == cpu.SPATIAL_MEASUREMENT.itemsize
    assert source.size_of_judged_picture() <= 1024
    assert source.size_of_judged_cloud() == cuda_plans.JUDGED_CLOUD_BYTES


def candidates(family: str, count: int) -> Any:
    """Candidates, the later ones with so large factors that most diverge."""
    formula = family_named(family)
    params = formula.sample(5, np.arange(count), formula.settings)
    factors = np.linspace(1, 6, count)[:, None].repeat(params["affine"].shape[2], 1)
    return formula.probes(params, np.arange(count), factors)


@pytest.mark.parametrize("enough", [2**31 - 1, 600, "each"])
def test_pictures_are_measured_as_on_the_cpu(enough: Any, blocks: HostBlocks) -> None:
    drawing, spec = candidates("fractaldb", 40), RenderSpec(size=64, points=5_001, pad=6, draw="point", fit="own")
    least = np.arange(40) * 40 if enough == "each" else enough
    expected = cpu.Engine().measure(drawing, spec, 3, least)
    assert 0 < expected["finite"].sum() < 40
    measured = cuda.Engine(blocks=blocks).measure(drawing, spec, 3, least)
    assert measured.tobytes() == expected.tobytes()


@pytest.mark.parametrize(("points", "least"), [(2_000, 0.0), (2_001, 0.05), (100, 0.05), (20_000, 0.3)])
def test_clouds_are_measured_as_on_the_cpu(points: int, least: float, blocks: HostBlocks) -> None:
    drawing = candidates("exfractaldb", 60)
    expected = cpu.Engine().measure_spatial(drawing, points, 3, least)
    assert 0 < expected["finite"].sum() < 60
    measured = cuda.Engine(blocks=blocks).measure_spatial(drawing, points, 3, least)
    assert measured.tobytes() == expected.tobytes()


def test_the_order_of_threads_changes_no_measurement(blocks: HostBlocks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "backward", True)
    spec = RenderSpec(size=64, points=5_001, pad=6)
    for family, measure in (
        ("fractaldb", lambda engine, drawing: engine.measure(drawing, spec, 3, 600)),
        ("exfractaldb", lambda engine, drawing: engine.measure_spatial(drawing, 2_001, 3, 0.05)),
    ):
        expected, measured = (measure(e, candidates(family, 40)) for e in (cpu.Engine(), cuda.Engine(blocks=blocks)))
        assert measured.tobytes() == expected.tobytes()


def test_nothing_is_measured_of_nothing(blocks: HostBlocks) -> None:
    engine = cuda.Engine(blocks=blocks)
    assert engine.measure(candidates("fractaldb", 0), RenderSpec(size=64, points=50, pad=6), 0).shape == (0,)
    with pytest.raises(ValueError, match="size is 605; expected at most 604"):
        engine.measure(candidates("fractaldb", 1), RenderSpec(size=605, points=50, pad=6), 0)


@pytest.mark.parametrize(("family", "categories"), [("fractaldb", 3), ("exfractaldb", 2)])
def test_a_search_finds_what_it_finds_on_the_cpu(
    family: str, categories: int, blocks: HostBlocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = fdsl.search(family, categories=categories, seed=3)
    monkeypatch.setattr("fdsl.candidates.engine_for", lambda *_: cuda.Engine(blocks=blocks))
    monkeypatch.setattr("fdsl.candidates._BLOCK", 512)
    assert fdsl.search(family, categories=categories, seed=3).digest == expected.digest


# One case of each drawing.
DRAWINGS = [
    ("perlin", "color"),
    ("rcdb", "broken contours"),
    ("visualatom", "random view, rotation"),
    ("bezier", "color"),
    ("sparks", "patch per point, color"),
    ("sparks_in_space", "point"),
    ("zigzags", "color"),
    ("ripples", "color"),
]


@pytest.mark.parametrize(("family", "name"), DRAWINGS)
@pytest.mark.parametrize("pixels", [PixelFormat("float16", 0.5, 0.25, channels_last=True), PixelFormat("float32")])
def test_formats_are_a_table_of_the_bytes(family: str, name: str, pixels: PixelFormat, blocks: HostBlocks) -> None:
    dataset = pictures.dataset(family, name)
    expected, _ = dataset.batch(range(len(dataset)), epoch=2)
    drawn = draw(dataset, cuda.Engine(pixels=pixels, blocks=blocks))
    table = pixels.values(np.arange(256, dtype=np.uint8)[:, None].repeat(expected.shape[1], 1))
    bits = drawn.numpy().view(table.dtype)
    assert drawn.permute(0, 2, 3, 1).is_contiguous() or not pixels.channels_last
    assert all(np.array_equal(bits[:, c], table[expected[:, c], c]) for c in range(expected.shape[1]))


@pytest.mark.parametrize(("family", "name"), DRAWINGS)
@pytest.mark.parametrize("size", [1, 7, 226])
def test_any_size_is_drawn_in_strips_into_a_part_of_a_batch(
    family: str, name: str, size: int, blocks: HostBlocks
) -> None:
    case = pictures.dataset(family, name)
    pad = case.spec.pad and min(case.spec.pad, (size - 1) // 2)
    dataset = Dataset(case.catalog, 2, replace(case.spec, size=size, pad=pad), seed=3)
    count = len(dataset)
    expected, _ = dataset.batch(range(count), epoch=2)
    for first in (1, 2):  # one of them at an odd address, where the size is odd
        whole = torch.full((count + 3, *expected.shape[1:]), 9, dtype=torch.uint8)
        dataset.batch(range(count), epoch=2, engine=cuda.Engine(blocks=blocks), out=whole[first : first + count])
        assert np.array_equal(whole[first : first + count], expected)
        assert (whole[:first] == 9).all()
        assert (whole[first + count :] == 9).all()


@pytest.mark.parametrize(("family", "name"), [case for case in DRAWINGS if case[0] not in ("perlin", "ripples")])
def test_cells_in_the_memory_outside_give_the_same(
    family: str, name: str, blocks: HostBlocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = pictures.dataset(family, name)
    expected, _ = dataset.batch(range(len(dataset)), epoch=2)
    monkeypatch.setattr(cuda_plans, "_MOST_STRIPS", 0)
    monkeypatch.setattr(cuda_plans, "_MOST_CANVAS_STRIPS", 0)
    monkeypatch.setattr(cuda, "_OUTSIDE_BYTES", 100_000)  # several launches
    engine = cuda.Engine(blocks=blocks)
    assert np.array_equal(draw(dataset, engine), expected)


@pytest.mark.parametrize("vertices", [1024, 1025, 4096])
def test_contours_of_many_vertices(vertices: int, blocks: HostBlocks) -> None:
    catalog = fdsl.search("rcdb", categories=1, vertices=(vertices, vertices), lines=(20, 20))
    dataset = Dataset(catalog, 2, RenderSpec(size=100))
    drawn, _ = dataset.batch([0, 1], engine=cuda.Engine(blocks=blocks))
    assert np.array_equal(drawn, dataset.batch([0, 1])[0])


def test_lines_that_begin_anywhere_among_the_threads(blocks: HostBlocks) -> None:
    random = np.random.default_rng(4)
    ends = np.concatenate([[0], np.cumsum(random.choice([1, 2, 3, 700], 900, p=[0.5, 0.3, 0.19, 0.01]))])
    vertices = random.random((ends[-1], 2)).astype(np.float32)
    records = np.zeros(3, Polylines.RECORD)
    records["first"], records["lines"] = (0, 5, 300), (900, 1, 256)
    drawing, spec = Polylines(vertices, ends, records), RenderSpec(size=50, color="color", pad=2)
    engine, expected = cuda.Engine(blocks=blocks), np.empty((3, 3, 50, 50), np.uint8)
    cpu.Engine().draw(drawing, spec, spec.palette, 0, expected)
    drawn = engine.empty(expected.shape)
    engine.draw(drawing, spec, spec.palette, 0, drawn)
    assert np.array_equal(drawn, expected)
    records["lines"] = 901
    with pytest.raises(ValueError, match="not among those given"):
        engine.draw(drawing, spec, spec.palette, 0, drawn)


LABELS = ("class", "mask", "boxes")


@pytest.mark.parametrize("pixels", [None, PixelFormat("bfloat16", mean=0.5, std=0.2, channels_last=True)])
@pytest.mark.parametrize(
    ("family", "spec", "composition"),
    [
        ("fractaldb", RenderSpec(size=61, points=3_000, color="color"), Composition(objects=(2, 5), overlap=1.0)),
        ("rcdb", RenderSpec(size=64), Composition(objects=(3, 40), scale=(0.1, 0.9), overlap=1.0)),
        ("perlin", RenderSpec(size=200, channels=3), Composition()),
    ],
)
def test_composed_pictures_are_those_of_the_cpu_engine(
    family: str, spec: RenderSpec, composition: Composition, pixels: PixelFormat | None, blocks: HostBlocks
) -> None:
    dataset = Dataset(pictures.catalog(family), 20, spec, seed=6, labels=LABELS, composition=composition)
    images, labels = dataset.batch([0, 33, 59], epoch=1, repeat=2)
    engine = cuda.Engine(pixels=pixels, blocks=blocks)
    drawn, found = dataset.batch([0, 33, 59], epoch=1, repeat=2, engine=engine)
    table = engine.pixels.values(np.arange(256, dtype=np.uint8)[:, None].repeat(images.shape[1], 1))
    bits = drawn.view(torch.uint8 if pixels is None else torch.int16).numpy().view(table.dtype)
    assert all(np.array_equal(bits[:, c], table[images[:, c], c]) for c in range(images.shape[1]))
    for target, expected in zip(found, labels, strict=True):
        assert isinstance(target["masks"], torch.Tensor)
        assert all(np.array_equal(target[name], expected[name]) for name in ("labels", "boxes", "masks"))


def test_objects_that_others_hide_have_no_label(blocks: HostBlocks) -> None:
    everywhere = Composition(objects=(9, 9), scale=(1.0, 1.0), overlap=1.0)
    dataset = Dataset(pictures.catalog("perlin"), 20, RenderSpec(size=30), labels=LABELS, composition=everywhere)
    images, (expected, _) = dataset.batch([0, 7])
    drawn, (found, _) = dataset.batch([0, 7], engine=cuda.Engine(blocks=blocks))
    assert np.array_equal(drawn, images)
    assert found["masks"].shape == (1, 30, 30)
    assert found["masks"].all()
    assert found["labels"] == expected["labels"]


@pytest.mark.parametrize("labels", ["class", LABELS])
@pytest.mark.parametrize("pixels", [None, PixelFormat("uint8", channels_last=True)])
def test_mixes_put_pictures_into_their_rows(labels: Any, pixels: PixelFormat | None, blocks: HostBlocks) -> None:
    spec = RenderSpec(size=33, channels=3)
    parts = [Dataset(pictures.catalog(family), 5, spec, labels=labels) for family in ("bezier", "perlin")]
    mixed = fdsl.mix(parts, weights=[2, 1], length=30)
    chosen = [29, 0, 25, 3, 11]
    images, expected = mixed.batch(chosen, epoch=3)
    drawn, found = mixed.batch(chosen, epoch=3, engine=cuda.Engine(pixels=pixels, blocks=blocks))
    assert np.array_equal(drawn, images)
    if labels == "class":
        assert np.array_equal(found, expected)
    else:
        assert [target["labels"].tolist() for target in found] == [target["labels"].tolist() for target in expected]
        assert all(np.array_equal(a["masks"], b["masks"]) for a, b in zip(found, expected, strict=True))


def test_an_output_that_does_not_fit_is_an_error(blocks: HostBlocks) -> None:
    dataset, engine = pictures.dataset("perlin", "gray"), cuda.Engine(pixels=PixelFormat("float16"), blocks=blocks)
    for out in (
        torch.empty((1, 1, 64, 64)),  # float32
        torch.empty((1, 1, 64, 128), dtype=torch.float16)[..., ::2],
        torch.empty((1, 1, 64, 64), dtype=torch.float16, device="meta"),
    ):
        with pytest.raises(ValueError, match=r"expected .*torch\.uint8 or float16"):
            dataset.batch([0], engine=engine, out=out)
    with pytest.raises(ValueError, match="expected"):
        dataset.batch([0], engine=engine, out=torch.empty((2, 1, 64, 64), dtype=torch.float16))
    with pytest.raises(ValueError, match="out is ndarray; expected a tensor on cpu"):
        dataset.batch([0], engine=engine, out=np.empty((1, 1, 64, 64), np.uint8))


@pytest.mark.parametrize("family", ["fractaldb", "perlin", "rcdb", "bezier", "sparks", "zigzags", "ripples"])
def test_a_batch_of_nothing_is_empty(family: str, blocks: HostBlocks) -> None:
    dataset = Dataset(pictures.catalog(family), 3, RenderSpec(size=16))
    images, labels = dataset.batch([], engine=cuda.Engine(blocks=blocks))
    assert (images.shape, labels.shape) == ((0, 1, 16, 16), (0,))


def test_a_composed_batch_of_nothing_is_empty(blocks: HostBlocks) -> None:
    dataset = Dataset(pictures.catalog("perlin"), 3, RenderSpec(size=16), labels=LABELS)
    images, labels = dataset.batch([], engine=cuda.Engine(blocks=blocks))
    assert images.shape == (0, 1, 16, 16)
    assert labels == []


def test_records_of_lines_are_as_long_as_the_kernels_have_them(blocks: HostBlocks) -> None:
    for name in ("perlin", "contours", "bezier", "given", "fields", "compose"):
        task = getattr(cuda_plans, f"{name.upper()}_TASK")
        assert getattr(blocks.source(name), f"size_of_{name}_task")() == task.itemsize
    given, one_vertex = blocks.source("given"), cuda_plans._VERTEX_BYTES
    assert given.size_of_placed_given() == cuda_plans.PLACED_GIVEN_BYTES
    assert given.size_of_drawn_given() <= cuda_plans._HEADER_BYTES
    assert blocks.source("contours").size_of_contours_shared() == cuda_plans.CONTOURS_HEADER_BYTES + one_vertex
    assert blocks.source("bezier").size_of_bezier_shared() == cuda_plans.BEZIER_HEADER_BYTES + one_vertex
    assert blocks.source("compose").size_of_seen_objects() == cuda_plans.COMPOSE_BYTES


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", SOURCES)
def test_kernels_compile_without_a_gpu(
    name: str, architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FDSL_CACHE", str(tmp_path))
    assert compile_kernels(name, architecture).startswith(b"\x7fELF")


def test_what_was_compiled_comes_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FDSL_CACHE", str(tmp_path))
    code = compile_kernels("fields", "sm_90")
    monkeypatch.setattr("cuda.core.Program", None)
    assert compile_kernels("fields", "sm_90") == code
