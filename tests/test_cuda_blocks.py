"""The cuda engine's kernels, run on the host, give the cpu engine's bytes; and they compile for every GPU."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pictures
import pytest
import torch
from host_blocks import HostBlocks

import fdsl
from fdsl import RenderSpec
from fdsl.engines import cuda, cuda_plans
from fdsl.engines.cuda_gpu import compile_kernels
from fdsl.engines.pixel_format import PixelFormat
from fdsl.indexing import numbers_at
from fdsl.primitives import Instances

DONE = ("fractaldb",)
ARCHITECTURES = ("sm_75", "sm_80", "sm_89", "sm_90", "sm_100", "sm_120")


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> HostBlocks:
    return HostBlocks(tmp_path_factory.mktemp("blocks"))


def draw(dataset: Any, engine: cuda.Engine, epoch: int = 2) -> Any:
    places = np.arange(len(dataset))
    categories, rows = np.divmod(places, len(dataset.instances))
    full = np.full(len(places), epoch)
    instances = Instances(categories, numbers_at(dataset.instances, rows), full, 0 * full, dataset.seed, dataset.fresh)
    drawing = dataset._family.drawing(dataset.catalog, instances, dataset.spec)
    out = engine.empty((len(places), dataset.spec.image_channels, dataset.spec.size, dataset.spec.size))
    engine.draw(drawing, dataset.spec, dataset.palette, dataset.seed, out)
    return out


@pytest.mark.parametrize(("family", "name"), [case for case in pictures.CASES if case[0] in DONE])
def test_blocks_draw_the_bytes_of_the_cpu_engine(family: str, name: str, blocks: HostBlocks) -> None:
    dataset = pictures.dataset(family, name)
    expected, _ = dataset.batch(range(len(dataset)), epoch=2)
    drawn = draw(dataset, cuda.Engine(blocks=blocks))
    assert np.array_equal(drawn.numpy(), expected)


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


def test_records_are_as_long_as_the_kernels_have_them(blocks: HostBlocks) -> None:
    assert blocks.source("affine").size_of_systems_task() == cuda_plans.SYSTEMS_TASK.itemsize
    assert blocks.source("affine").size_of_placed_affine() == cuda_plans.PLACED_BYTES["affine"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_kernels_compile_without_a_gpu(architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FDSL_CACHE", str(tmp_path))
    first = compile_kernels("affine", architecture)
    assert first.startswith(b"\x7fELF")
    assert compile_kernels("affine", architecture) == first  # from the cache
