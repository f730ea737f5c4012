"""The cuda engine's kernels, run on the host, give the cpu engine's bytes; and they compile for every GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pictures
import pytest
from host_blocks import HostBlocks

from fdsl.engines import cuda, cuda_plans
from fdsl.engines.cuda_gpu import compile_kernels
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


def test_records_are_as_long_as_the_kernels_have_them(blocks: HostBlocks) -> None:
    assert blocks.source("affine").size_of_systems_task() == cuda_plans.SYSTEMS_TASK.itemsize
    assert blocks.source("affine").size_of_placed_affine() == cuda_plans.PLACED_BYTES["affine"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_kernels_compile_without_a_gpu(architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FDSL_CACHE", str(tmp_path))
    first = compile_kernels("affine", architecture)
    assert first.startswith(b"\x7fELF")
    assert compile_kernels("affine", architecture) == first  # from the cache
