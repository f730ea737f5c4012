"""An engine is an object: what is above it works with any, and asks for it by a device's name."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fdsl
from fdsl import Composition, Dataset, RenderSpec, candidates
from fdsl.engines import cpu, engine_for

torch = pytest.importorskip("torch")

SPEC = RenderSpec(size=32, points=400)


class TensorEngine(cpu.Engine):
    """Stands in for a GPU: float16 tensors of the cpu engine's values, which no array may be written into."""

    def empty(self, shape: tuple[int, ...], dtype: str | None = None) -> Any:
        return torch.full(shape, 99, dtype=getattr(torch, dtype or "float16"))

    def put(self, out: Any, rows: Any, pictures: Any) -> None:
        out.index_copy_(0, torch.from_numpy(rows), pictures)

    def draw(self, drawing: Any, spec: Any, palette: Any, seed: int, out: Any) -> None:
        drawn = np.empty(tuple(out.shape), np.uint8)
        super().draw(drawing, spec, palette, seed, drawn)
        out.copy_(torch.from_numpy(drawn))

    def compose(self, pixels: Any, objects: Any, ground: Any, opaque: bool, out: Any, masks: Any) -> None:
        assert masks.dtype == torch.uint8
        canvases = np.empty(tuple(out.shape), np.uint8)
        super().compose(pixels.to(torch.uint8).numpy(), objects, ground, opaque, canvases, masks.numpy())
        out.copy_(torch.from_numpy(canvases))


@pytest.fixture(scope="module")
def datasets() -> dict[str, Any]:
    def dataset(family: str, **settings: Any) -> Dataset:
        spec = SPEC if family == "fractaldb" else RenderSpec(size=32)
        return Dataset(fdsl.search(family, categories=4), 10, spec, **settings)

    dense: Any = {"labels": ("class", "mask", "boxes"), "composition": Composition(overlap=1)}
    fractals, curves, composed, noise = (
        dataset("fractaldb"),
        dataset("bezier"),
        dataset("fractaldb", **dense),
        dataset("perlin", **dense),
    )
    return {
        "plain": fractals,
        "mixed": fdsl.mix([fractals, curves], [2, 1], 30),
        "dense": composed,
        "mixed dense": fdsl.mix([composed, noise]),
    }


@pytest.mark.parametrize("name", ["plain", "mixed", "dense", "mixed dense"])
@pytest.mark.parametrize("given", [False, True])
def test_any_engine_draws_a_dataset(name: str, given: bool, datasets: dict[str, Any]) -> None:
    dataset, engine = datasets[name], TensorEngine(1)
    indices = np.random.default_rng(0).permutation(len(dataset))[:20]
    expected, labels = dataset.batch(indices, epoch=1)
    out = engine.empty(expected.shape) if given else None
    images, found = dataset.batch(indices, epoch=1, out=out, engine=engine)
    assert out is None or images is out
    assert images.dtype == torch.float16
    assert np.array_equal(images.numpy(), expected)
    if "dense" not in name:
        assert isinstance(found, np.ndarray)
        assert np.array_equal(found, labels)
        return
    for target, other in zip(labels, found, strict=True):
        assert other["masks"].dtype == torch.uint8
        assert all(np.array_equal(target[part], other[part]) for part in ("labels", "boxes", "masks"))


def test_a_tensor_of_another_shape_is_refused(datasets: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"out is torch.float16 \(3, 1, 32, 32\); expected \(2, 1, 32, 32\)"):
        datasets["plain"].batch([0, 1], out=TensorEngine().empty((3, 1, 32, 32)), engine=TensorEngine())


def test_threads_are_counted_when_an_engine_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, two = cpu.Engine(), cpu.Engine(2)
    monkeypatch.setattr(cpu, "default_threads", lambda: 7)  # as in a DataLoader's worker, which a fork began
    assert (engine.threads, two.threads) == (7, 2)


@pytest.mark.parametrize("device", ["gpu", "gl:", "cuda:", "cuda:x", "cuda:-1", "CPU", None, 0])
def test_a_device_that_is_none_is_named(device: Any) -> None:
    with pytest.raises(ValueError, match=r"device is .*; expected 'auto', 'cpu', 'gl', 'cuda' or 'cuda:N'$"):
        engine_for(device)
    with pytest.raises(ValueError, match="device is"):
        fdsl.search("bezier", categories=4, device=device)


class TestGpus:
    @pytest.fixture(autouse=True)
    def two_gpus(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (7, 5))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Quadro")
        monkeypatch.setitem(sys.modules, "fdsl.engines.cuda", SimpleNamespace(Engine=lambda device: f"on {device}"))

    @pytest.mark.parametrize(("device", "drawn"), [("cuda", "cuda"), ("cuda:1", "cuda:1"), ("auto", "cuda")])
    def test_that_are_there_draw(self, device: str, drawn: str) -> None:
        assert engine_for(device) == f"on {drawn}"

    def test_that_are_not_there_are_named(self) -> None:
        with pytest.raises(RuntimeError, match="'cuda:2' is not there: the last of 2 is 'cuda:1'; expected"):
            engine_for("cuda:2")

    def test_that_are_too_old_are_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (7, 0))
        with pytest.raises(RuntimeError, match=r"^device 'cuda' is a Quadro of 7\.0; expected .*7\.5"):
            engine_for("cuda")
        assert isinstance(engine_for("auto"), cpu.Engine)

    def test_without_a_driver_for_torch_are_explained(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def init() -> None:
            raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040). Please\nupdate it.")

        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.cuda, "init", init)
        with pytest.raises(RuntimeError, match=r"is too old \(found version 11040\)\); expected .*up-to-date[^\n]*$"):
            engine_for("cuda")
        monkeypatch.setattr(torch.version, "cuda", None)
        with pytest.raises(RuntimeError, match=r"no CUDA GPU \(it is built without CUDA\)"):
            engine_for("cuda")
        assert isinstance(engine_for("auto"), cpu.Engine)

    def test_without_what_draws_on_them_warn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "fdsl.engines.cuda", None)
        with pytest.raises(ImportError):
            engine_for("cuda")
        with pytest.warns(UserWarning, match="the cpu draws"):
            assert isinstance(engine_for("auto"), cpu.Engine)


@pytest.mark.gpu
@pytest.mark.parametrize("family", ["fractaldb", "exfractaldb"])
def test_a_gpu_finds_the_same_catalog(family: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU: a search on one not run")
    found, expected = (fdsl.search(family, categories=40, device=device) for device in ("cuda", "cpu"))
    assert found == expected
    assert found.settings == expected.settings


def test_a_missing_torch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"'cuda' needs torch, .*; pip install 'fdsl\[cuda\]'"):
        engine_for("cuda")
    assert isinstance(engine_for("auto"), cpu.Engine)


@pytest.mark.parametrize("family", ["fractaldb", "exfractaldb"])
def test_any_engine_judges_and_probes(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Judge(TensorEngine):
        def measure(self, *arguments: Any) -> Any:
            asked.append("measure")
            return super().measure(*arguments)

        def measure_spatial(self, *arguments: Any) -> Any:
            asked.append("measure_spatial")
            return super().measure_spatial(*arguments)

    monkeypatch.setattr(candidates, "engine_for", lambda device, threads: {"cuda:1": Judge()}[device])
    monkeypatch.setattr(cpu, "Engine", None)  # nothing beside it
    found = fdsl.search(family, categories=2, device="cuda:1")
    monkeypatch.undo()
    assert found == fdsl.search(family, categories=2)
    assert set(asked) == {"measure" if family == "fractaldb" else "measure_spatial"}


def test_a_catalog_is_made_on_its_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    def engine(device: str, threads: int | None = None) -> Any:
        raise RuntimeError(f"on {device}")

    for module in (candidates, fdsl.presets, fdsl.catalogs):
        monkeypatch.setattr(module, "engine_for", engine)
    monkeypatch.setenv("FDSL_CACHE", str(tmp_path))
    (tmp_path / "00000.csv").write_text("0.5,0,0,0.5,0.1,0.1,1\n")
    for source in ("fractaldb-1k", "fractaldb-10k", tmp_path):
        with pytest.raises(RuntimeError, match="on cuda:1"):
            fdsl.catalog(source, device="cuda:1")
