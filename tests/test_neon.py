from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pictures
import pytest

from fdsl import Catalog, _core
from fdsl.engines import cpu

KERNELS = Path(__file__).parents[1] / "src" / "fdsl" / "kernels"
COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for tool in (COMPILER, EMULATOR):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: NEON not run")
    program = tmp_path_factory.mktemp("neon") / "harness"
    sources = [KERNELS / "cpu" / f"{name}.cpp" for name in ("kernel_neon", "kernel_portable", "engine")]
    flags = ["-std=c++20", "-O2", "-ffp-contract=off", "-static", "-pthread", f"-I{KERNELS}"]
    subprocess.run(
        [COMPILER, *flags, *sources, Path(__file__).with_name("neon_harness.cpp"), "-o", program], check=True
    )
    return program


@pytest.mark.parametrize("name", [name for name in pictures.SPECS if name != "patch, large"])
def test_neon_draws_the_same_bytes(name: str, harness: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = pictures.dataset(catalog, name)
    sent: list[bytes] = []

    def record(kernel, affine, probability, maps, instances, spec, palette, out, threads):
        sizes = np.int32([*affine.shape[:2], len(instances), *palette.shape])
        sent.extend(a.tobytes() for a in (sizes, spec, affine, probability, maps, instances, palette))
        return draw(kernel, affine, probability, maps, instances, spec, palette, out, threads)

    draw = _core.draw
    monkeypatch.setattr(cpu._core, "draw", record)
    images, _ = dataset.batch(range(len(dataset)), epoch=2)
    ran = subprocess.run([EMULATOR, harness, "neon"], input=b"".join(sent), capture_output=True, check=True)
    assert ran.stdout == images.tobytes()
