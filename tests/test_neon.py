from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pictures
import pytest

from fdsl import _core
from fdsl.clouds import SceneDataset
from fdsl.engines import cpu

KERNELS = Path(__file__).parents[1] / "src" / "fdsl" / "kernels"
# What of kernels/cpu is for Python, or for other machines.
LEFT_OUT = ("bind", "published", "kernel_avx")
COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for tool in (COMPILER, EMULATOR):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: NEON not run")
    program = tmp_path_factory.mktemp("neon") / "harness"
    sources = [path for path in (KERNELS / "cpu").glob("*.cpp") if not path.stem.startswith(LEFT_OUT)]
    flags = ["-std=c++20", "-O2", "-ffp-contract=off", "-static", "-pthread", f"-I{KERNELS}"]
    subprocess.run(
        [COMPILER, *flags, *sources, Path(__file__).with_name("neon_harness.cpp"), "-o", program], check=True
    )
    return program


@pytest.mark.parametrize(("family", "name"), [case for case in pictures.CASES if "large" not in case[1]])
def test_neon_draws_the_same_bytes(family: str, name: str, harness: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = pictures.dataset(family, name)
    sent: list[bytes] = []
    name_of: list[str] = []

    def record(called: str) -> Any:
        drawn = getattr(_core, called)

        def draw(kernel: str, *arguments: Any) -> None:
            arrays = [np.ascontiguousarray(array) for array in arguments[:-1]]  # all but the number of threads
            sent.extend(
                np.int64([array.ndim, array.nbytes, *array.shape]).tobytes() + array.tobytes() for array in arrays
            )
            name_of.extend([called, str(len(arrays))])
            drawn(kernel, *arguments)

        return draw

    for called in [called for called in dir(_core) if called.startswith("draw_")]:
        monkeypatch.setattr(cpu._core, called, record(called))
    images, _ = dataset.batch(range(len(dataset)), epoch=2)
    if not sent:
        pytest.skip("drawn without a kernel")
    ran = subprocess.run([EMULATOR, harness, "neon", *name_of], input=b"".join(sent), capture_output=True, check=True)
    assert ran.stdout == images.tobytes()


@pytest.mark.parametrize(("points", "mix"), [(700, 0.2), (43, 0.5)])
def test_neon_draws_the_same_clouds(points: int, mix: float, harness: Path) -> None:
    scenes = SceneDataset(pictures.catalog("pcfractaldb"), points_per_object=points, mix=mix, seed=1)
    numbers = np.arange(2)
    records, _ = cpu.Engine(1).place_scenes(numbers, 0, 1, scenes.floor, scenes.objects, 4, scenes.instances)
    drawn = scenes.batch(numbers)["points"]
    sizes = np.int64([scenes.seed, points, scenes.own_points])
    arrays = [scenes.catalog.params[name] for name in ("affine", "probability", "maps")]
    sent = b"".join(
        np.int64([array.ndim, array.nbytes, *array.shape]).tobytes() + array.tobytes()
        for array in (*arrays, records, sizes)
    )
    ran = subprocess.run([EMULATOR, harness, "neon", "draw_clouds", "5"], input=sent, capture_output=True, check=True)
    assert ran.stdout == drawn.tobytes()
