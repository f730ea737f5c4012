"""The gl engine draws what the cpu engine draws, but for one pixel in a thousand at most."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pictures
import pytest

import fdsl
from fdsl import Composition, Dataset, RenderSpec
from fdsl.engines import engine_for, gl


@pytest.fixture(scope="module")
def engine() -> Any:
    try:
        return gl.Engine()
    except (ImportError, OSError) as error:
        pytest.skip(f"no OpenGL: {error}")


def unlike(dataset: Dataset, engine: Any, **which: Any) -> float:
    """The share of pixels that differ between the engines, in the picture where it is largest."""
    indices = range(len(dataset))
    expected, labels = dataset.batch(indices, threads=1, **which)
    # What is not written shows.
    images, found = dataset.batch(indices, out=np.full_like(expected, 99), engine=engine, **which)
    assert np.array_equal(labels, found)
    return float(np.mean(images != expected, axis=(1, 2, 3)).max())


@pytest.mark.parametrize(("family", "name"), pictures.CASES)
def test_pixels_are_those_of_the_cpu_engine(family: str, name: str, engine: Any) -> None:
    dataset = pictures.dataset(family, name)
    assert unlike(dataset, engine, **({"epoch": 3, "repeat": 1} if dataset.spec.view else {})) <= 0.001


@pytest.mark.parametrize("fused", ["0", "1"])
@pytest.mark.parametrize(("family", "name"), [("fractaldb", "patch"), ("exfractaldb", "point"), ("bezier", "gray")])
def test_a_driver_that_rounds_a_multiply_add_twice_is_near(family: str, name: str, fused: str, engine: Any) -> None:
    other = gl.Engine()
    other._fused = fused
    assert unlike(pictures.dataset(family, name), other) <= 0.001
    other.close()


@pytest.mark.parametrize("draw", ["point", "patch_per_point"])
def test_a_large_picture_is_one_too(draw: str, engine: Any) -> None:
    spec = RenderSpec(size=1500, points=300_000, draw=draw, color="color", pad=0)
    assert unlike(Dataset(pictures.catalog("fractaldb"), (80, 123), spec), engine) <= 0.001


def test_flips_are_exact_mirrors(engine: Any) -> None:
    dataset = Dataset(pictures.catalog("fractaldb"), range(40, 44), RenderSpec(size=61, points=3000))
    plain, top_bottom, left_right, both = dataset.batch(range(4), engine=engine)[0]
    assert np.array_equal(top_bottom, plain[:, ::-1])
    assert np.array_equal(left_right, plain[:, :, ::-1])
    assert np.array_equal(both, plain[:, ::-1, ::-1])


@pytest.mark.parametrize("part", [1, 2, 5])
def test_parts_in_flight_change_nothing(part: int, engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = pictures.dataset("fractaldb", "color, patch")
    one_by_one = np.concatenate([dataset.batch([index], engine=engine)[0] for index in range(len(dataset))])
    picture_bytes = 4 * 68**2
    monkeypatch.setattr(gl, "_PART_BYTES", part * picture_bytes)
    assert np.array_equal(dataset.batch(range(len(dataset)), engine=engine)[0], one_by_one)


def test_threads_share_an_engine(engine: Any) -> None:
    datasets = [pictures.dataset("fractaldb", name) for name in ("patch", "density", "point, odd size")] * 3
    alone = [dataset.batch(range(40), engine=engine)[0] for dataset in datasets]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda dataset: dataset.batch(range(40), engine=engine)[0], datasets))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


def test_contexts_come_and_go(engine: Any) -> None:
    dataset = pictures.dataset("bezier", "gray")
    expected = dataset.batch(range(8), engine=engine)[0]
    for second in (gl.Engine(0), pickle.loads(pickle.dumps(engine)), engine_for("gl:0")):
        assert np.array_equal(dataset.batch(range(8), engine=second)[0], expected)
        second.close()
        with pytest.raises(RuntimeError, match=r"is closed; expected .*gl\.Engine\(\)$"):
            dataset.batch(range(8), engine=second)
    assert np.array_equal(dataset.batch(range(8), engine=engine)[0], expected)


def test_an_empty_batch_is_one(engine: Any) -> None:
    assert pictures.dataset("rcdb", "gray").batch([], engine=engine)[0].shape == (0, 1, 64, 64)


def test_mixes_and_compositions_are_drawn(engine: Any) -> None:
    parts = [pictures.dataset("fractaldb", "point"), pictures.dataset("perlin", "gray")]
    mixed = fdsl.mix(parts)
    expected, _ = mixed.batch(range(len(mixed)))
    assert np.mean(mixed.batch(range(len(mixed)), engine=engine)[0] != expected) <= 0.001
    dense = Dataset(parts[0].catalog, 4, RenderSpec(size=64), labels=("class", "mask"), composition=Composition())
    expected, targets = dense.batch(range(6))
    images, found = dense.batch(range(6), engine=engine)
    assert np.mean(images != expected) <= 0.001
    masks = [np.concatenate([target["masks"] for target in given]) for given in (targets, found)]
    assert np.mean(masks[0] != masks[1]) <= 0.001


def test_memory_that_does_not_fit_is_refused(engine: Any) -> None:
    dataset = pictures.dataset("fractaldb", "point")
    drawing = dataset._family.drawing(dataset.catalog, _instances(), dataset.spec)
    for out in (np.empty((2, 1, 64, 64), np.int8), np.empty((1, 1, 64, 64), np.uint8), np.empty((64, 64, 1, 2)).T):
        with pytest.raises(ValueError, match=r"out is .*; expected uint8 of \(2, 1, 64, 64\), C-contiguous$"):
            engine.draw(drawing, dataset.spec, dataset.palette, 0, out)


def test_a_shader_that_a_driver_refuses_is_named(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gl, "_source", lambda *_: "#version 450 core\nvoid main() { nothing(); }")
    with pytest.raises(RuntimeError, match=r"^.* does not compile systems\.glsl: [^\n]*nothing[^\n]*$"):
        pictures.dataset("fractaldb", "point").batch([0], engine=gl.Engine())


def _instances() -> Any:
    from fdsl.primitives import Instances

    zeros = np.zeros(2, np.int64)
    return Instances(zeros, zeros, zeros, zeros, 0)


def test_cuda_is_asked_for_only_where_it_is(engine: Any) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("a GPU is there")
    dataset = pictures.dataset("fractaldb", "point")
    drawing = dataset._family.drawing(dataset.catalog, _instances(), dataset.spec)
    with pytest.raises((ImportError, RuntimeError), match=r"^draw_on_cuda [^\n]+$"):
        engine.draw_on_cuda(drawing, dataset.spec, dataset.palette, 0)


@pytest.mark.gpu
def test_cuda_maps_what_is_drawn(engine: Any) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no GPU: torch sees none")
    if "NVIDIA" not in engine.renderer:
        pytest.skip(f"no GPU: OpenGL draws on {engine.renderer}")
    dataset = pictures.dataset("fractaldb", "color")
    drawing = dataset._family.drawing(dataset.catalog, _instances(), dataset.spec)
    expected = engine.empty((2, 3, 64, 64))
    engine.draw(drawing, dataset.spec, dataset.palette, 7, expected)
    drawn = engine.draw_on_cuda(drawing, dataset.spec, dataset.palette, 7)
    assert drawn.is_cuda
    assert np.array_equal(drawn.cpu().numpy(), expected)


@pytest.mark.parametrize("device", [-1, "gl", True, 1.0])
def test_a_device_that_is_no_number_is_named(device: Any) -> None:
    with pytest.raises(ValueError, match=r"device is .*; expected the number of an EGL device, from 0 on, or None"):
        gl.Engine(device)


def test_a_device_that_is_not_there_is_named(engine: Any) -> None:
    with pytest.raises(OSError, match=r"^EGL device 99 has no OpenGL 4.5: .*; expected .*libegl1 libgl1-mesa-dri$"):
        gl.Engine(99)


def test_without_egl_the_package_is_named(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gl, "_LIBRARY", "libEGL-that-is-not-there.so")
    with pytest.raises(OSError, match=r"not-there.so not loaded; expected .*apt install libegl1 libgl1-mesa-dri$"):
        gl.Engine()


def test_without_moderngl_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "moderngl", None)
    with pytest.raises(ImportError, match=r"moderngl, which is not installed; pip install 'fdsl\[gl\]'$"):
        gl.Engine()


def test_a_forked_process_is_told_to_make_its_own(engine: Any) -> None:
    # In a process of its own, which has no thread that a fork would stop.
    script = """
import os, pictures
from fdsl.engines import gl
engine = gl.Engine()
if child := os.fork():
    raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
try:
    pictures.dataset("bezier", "gray").batch([0], engine=engine)
except RuntimeError as error:
    print(error, flush=True)
os._exit(0)
"""
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(fdsl.__file__).parents[1])])
    command = [sys.executable, "-W", "ignore", "-c", script]
    ran = subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=True)
    assert ran.stdout.endswith("is of the process that was forked; expected an engine made here: gl.Engine()\n")
