"""The kernels of augmentation, run on the host, give what torch's operations give; on a GPU they do too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from host_blocks import HostBlocks

augmentation = pytest.importorskip("fdsl.train.augmentation")
torch = pytest.importorskip("torch")

from fdsl.engines.cuda_gpu import Gpu, compile_kernels  # noqa: E402
from fdsl.train import fused_augmentation  # noqa: E402
from fdsl.train.rand_augment import OPERATIONS, WARPS, argument  # noqa: E402
from fdsl.train.recipes import Augmentation  # noqa: E402

ARCHITECTURES = ("sm_75", "sm_80", "sm_89", "sm_90", "sm_100", "sm_120")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Runs that go on in the next row; more strips than one; a number of pixels that is not one of runs.
SHAPES = ((48, 27), (80, 112), (27, 30))
RAND_AUGMENT = {"rand_augment": 9.0, "rand_augment_increasing": True, "rand_augment_layers": 3}
ALL = {"color_jitter": 0.4, "erasing": 0.7, "label_smoothing": 0.1}


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> HostBlocks:
    return HostBlocks(tmp_path_factory.mktemp("blocks"))


@pytest.fixture(autouse=True)
def _little_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """As much as a picture needs: a million numbers take longer to draw than all else here."""
    monkeypatch.setattr(augmentation, "_NOISE", 1)


def augment(blocks: Any = None, channels: int = 3, **settings: Any) -> Any:
    options = {name: settings.pop(name) for name in ("dtype", "channels_last") if name in settings}
    return augmentation.Augment(
        Augmentation(**settings), 10, MEAN[:channels], STD[:channels], seed=3, blocks=blocks, **options
    )


def pictures(count: int, channels: int = 3, height: int = 48, width: int = 27) -> Any:
    """Noise of any, of few, of dark and of two levels, ramps, and one level."""
    numbers, shape = np.random.default_rng(count), (count, channels, height, width)
    images = numbers.integers(0, numbers.choice([256, 40, 5, 2], count)[:, None, None, None], shape)
    images[::5] = np.arange(width) * 3 + np.arange(height)[:, None]
    images[1::7] = 9
    images[2::5] *= 51
    return torch.from_numpy(images.astype(np.uint8))


def channels_last(images: Any) -> Any:
    return images.contiguous(memory_format=torch.channels_last)


def test_records_are_as_long_as_the_kernels_have_them(blocks: HostBlocks) -> None:
    for source, names in (("augment", ("sample", "augment_task")), ("rand_augment", ("change", "layer_task"))):
        for name in names:
            assert (
                getattr(blocks.source(source), f"size_of_{name}")()
                == getattr(fused_augmentation, name.upper()).itemsize
            )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("source", ["augment", "rand_augment"])
def test_kernels_compile_without_a_gpu(
    source: str, architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FDSL_CACHE", str(tmp_path))
    assert compile_kernels(source, architecture).startswith(b"\x7fELF")


def layer_of(name: str, count: int) -> list[Any]:
    magnitudes = np.linspace(0, 10, count)
    values = argument(name, magnitudes, np.where(np.arange(count) % 2, 1.0, -1.0), increasing=bool(count % 3))
    return [(name, np.arange(count)[::-1].copy(), values)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_those_of_torch(
    name: str, channels: int, shape: tuple[int, int], blocks: HostBlocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = pictures(10, channels, *shape)
    plain = {"channels": channels, "rand_augment": 9.0}
    for layers in ([layer_of(name, 10)], [layer_of(name, 10), layer_of("Equalize", 10), layer_of(name, 8)]):
        monkeypatch.setattr(augmentation.Augment, "operations", lambda *_, layers=layers: layers)
        expected = augment(**plain)(images, torch.zeros(10, dtype=torch.int64), 0)[0]
        for laid in (images, channels_last(images)):
            done = augment(blocks, **plain)(laid, torch.zeros(10, dtype=torch.int64), 0)[0]
            if name not in WARPS:
                assert torch.equal(done, expected)
                continue
            # torch's own interpolation is rounded in another order on each processor.
            different = (done - expected).abs() * 255 * min(STD)
            assert (different > 0.1).float().mean() < (0.0005 if len(layers) == 1 else 0.01)
            if len(layers) == 1:
                assert different.max() < 1.2


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_fused_step_gives_the_bits_of_torch(
    shape: tuple[int, int], channels: int, dtype: str, blocks: HostBlocks
) -> None:
    images = pictures(9, channels, *shape)
    labels, first = torch.arange(9), 2**32 - 4
    for mixing in ({}, {"mixup": 0.8}, {"cutmix": 1.0}):
        settings = {**ALL, **mixing, "channels": channels, "dtype": dtype}
        expected, targets = augment(**settings)(images, labels, first)
        for laid in (images, channels_last(images)):
            for last in (False, True):
                done, theirs = augment(blocks, **settings, channels_last=last)(laid, labels, first)
                assert done.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
                assert done.dtype == expected.dtype == getattr(torch, dtype)
                assert torch.equal(done, expected)
                assert torch.equal(theirs, targets)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_numbers_of_any_size_are_rounded_once(dtype: str, blocks: HostBlocks) -> None:
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    for std in (1e-6, 0.5 / 65510, 1e-4, 1 / 3, 3e4, 1e8):  # up to what no half holds, and down to its smallest
        expected, done = (
            augmentation.Augment(Augmentation(), 10, [0.5], [std], 0, dtype, blocks=way).normalize(images)
            for way in (None, blocks)
        )
        assert torch.equal(done, expected)


def test_a_sample_is_the_same_in_every_batch(blocks: HostBlocks) -> None:
    images, labels = pictures(12), torch.arange(12) % 10
    change = augment(blocks, **RAND_AUGMENT, erasing=0.5)
    before, whole = images.clone(), change(images, labels, 20)[0]
    assert torch.equal(images, before)
    parts = [change(images[part], labels[part], 20 + part.start)[0] for part in (slice(0, 1), slice(1, 12))]
    assert torch.equal(torch.cat(parts), whole)
    assert change(images[:0], labels[:0], 0)[0].shape == (0, 3, 48, 27)


def test_prepared_batches_run_again(blocks: HostBlocks) -> None:
    images, labels = pictures(7), torch.zeros(7, dtype=torch.int64)
    for settings in (RAND_AUGMENT, ALL):
        change = augment(blocks, **settings, mixup=0.8)
        expected, out = change(images, labels, 5)[0], torch.empty(7, 3, 48, 27)
        prepared = change.prepare(images, 5, out)
        for _ in range(2):
            prepared.run(out.zero_())
            assert torch.equal(out, expected)


@pytest.mark.parametrize("error", [ImportError, RuntimeError])
def test_where_no_kernels_run_torch_does(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: object) -> None:
        raise error

    monkeypatch.setattr(augmentation, "Gpu", missing)
    augmentation._gpu.cache_clear()
    assert augmentation._gpu(torch.device("cuda", 0)) is None
    augmentation._gpu.cache_clear()


def test_without_kernels_nothing_is_prepared() -> None:
    with pytest.raises(RuntimeError, match="images are on cpu; expected a GPU"):
        augment().prepare(pictures(1), 0, torch.empty(1, 3, 48, 27))
    with pytest.raises(ValueError, match="dtype is 'int8'; expected float32, float16, bfloat16"):
        augment(dtype="int8")


@pytest.fixture
def gpu() -> Any:
    if not torch.cuda.is_available():
        pytest.skip("no GPU: the kernels of augmentation not run on one")
    device = torch.device("cuda", torch.cuda.current_device())
    if torch.cuda.get_device_capability(device) < (7, 5):
        pytest.skip("no GPU: this one is too old for the kernels")
    Gpu(device).kernel("augment", "augment_float32_3")  # says why, where Augment would go on without it
    return device


@pytest.mark.gpu
@pytest.mark.parametrize("mixing", [{"mixup": 0.8}, {"cutmix": 1.0}])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_gpu_gives_the_bits_of_the_processor(shape: tuple[int, int], dtype: str, mixing: Any, gpu: Any) -> None:
    images, labels = pictures(33, 3, *shape), torch.arange(33) % 10
    for last in (False, True):
        change = augment(**ALL, **mixing, dtype=dtype, channels_last=last)
        (here, targets), (there, theirs) = (change(images.to(to), labels.to(to), 8) for to in ("cpu", gpu))
        assert torch.equal(there.cpu(), here)
        assert torch.equal(theirs.cpu(), targets)


@pytest.mark.gpu
def test_a_gpu_warps_as_blocks_on_the_host_do(gpu: Any, blocks: HostBlocks) -> None:
    images, labels = pictures(260), torch.arange(260) % 10
    settings = {**RAND_AUGMENT, "erasing": 0.5, "mixup": 0.8}
    here = augment(blocks, **settings)(images, labels, 8)[0]
    assert torch.equal(augment(**settings)(images.to(gpu), labels.to(gpu), 8)[0].cpu(), here)


@pytest.mark.gpu
def test_nothing_waits_for_the_gpu(gpu: Any) -> None:
    images, labels = pictures(16).to(gpu), torch.arange(16, device=gpu) % 10
    before = torch.cuda.get_sync_debug_mode()
    for settings in (ALL, RAND_AUGMENT):
        change = augment(**settings, mixup=0.8, cutmix=1.0)
        torch.cuda.set_sync_debug_mode("error")
        try:
            for first in range(0, 64, 16):
                change(images, labels, first)
                change.normalize(images)
        finally:
            torch.cuda.set_sync_debug_mode(before)


@pytest.mark.gpu
def test_a_graph_captures_it(gpu: Any) -> None:
    images, labels, out = (
        pictures(16).to(gpu),
        torch.arange(16, device=gpu) % 10,
        torch.empty(16, 3, 48, 27, device=gpu),
    )
    for settings in (ALL, RAND_AUGMENT):
        change = augment(**settings, mixup=0.8)
        expected, _ = change(images, labels, 5)
        prepared, graph = change.prepare(images, 5, out), torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):
            prepared.run(out)
        for _ in range(2):
            out.zero_()
            graph.replay()
            assert torch.equal(out, expected)
