"""What the cuda engine and its feed must do on a GPU; where no GPU is asked for, the same tests run blocks on the host.

`pytest -m gpu` runs the rest too: every picture, graphs, streams, memory, synchronisations, compute-sanitizer.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pictures
import pytest
from host_blocks import HostBlocks
from test_cuda_blocks import candidates
from test_determinism import DIGESTS

import fdsl
from fdsl import Catalog, Composition, Dataset, Feed, PixelFormat, RandomView, RenderSpec
from fdsl.engines import cpu, engine_for

torch = pytest.importorskip("torch")
from fdsl.engines import cuda  # noqa: E402

FORMATS = [
    PixelFormat(),
    PixelFormat(channels_last=True),
    PixelFormat("float16", mean=0.45, std=0.22),
    PixelFormat("bfloat16", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), channels_last=True),
    PixelFormat("float32", std=0.5),
    PixelFormat("float32", mean=(0.5, 0.4, 0.3), channels_last=True),
]
SPEC = RenderSpec(size=32, points=500, view=RandomView())


class Place:
    """Where the tests of both kinds run: engines, and feeds that draw with them."""

    def __init__(self, folder: Path | None) -> None:
        self._blocks = HostBlocks(folder) if folder else None
        self.device = "cpu" if folder else "cuda"

    def engine(self, pixels: PixelFormat | None = None) -> cuda.Engine:
        return cuda.Engine(pixels=pixels, blocks=self._blocks)

    def feed(self, dataset: Any, pixels: PixelFormat | None = None, **options: Any) -> Feed:
        if self._blocks:
            return Feed(dataset, engine=self.engine(pixels), **options)
        return Feed(dataset, device="cuda", pixels=pixels, **options)


@pytest.fixture(scope="module", params=["host", pytest.param("cuda", marks=pytest.mark.gpu)])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Place:
    if request.param == "host":
        return Place(tmp_path_factory.mktemp("blocks"))
    return Place(None) if torch.cuda.is_available() else pytest.skip("no GPU: its engine and its feed not run")


@pytest.fixture
def gpu() -> cuda.Engine:
    return cuda.Engine() if torch.cuda.is_available() else pytest.skip("no GPU: this check of one not run")


@pytest.fixture
def dataset(catalog: Catalog) -> Dataset:
    return Dataset(catalog, 10, SPEC)


def prepared(engine: cuda.Engine, dataset: Dataset, indices: Any) -> cuda.Prepared:
    """What the engine makes of a batch, before it draws."""
    found: list[cuda.Prepared] = []

    class Keeping:
        empty = staticmethod(engine.empty)

        @staticmethod
        def draw(drawing: Any, spec: Any, palette: Any, seed: int, out: Any) -> None:
            found.append(engine.prepare(drawing, spec, palette, seed))

    dataset.batch(indices, engine=Keeping())  # type: ignore[arg-type]
    return found[0]


def same(images: Any, expected: Any) -> bool:
    """Bit by bit, wherever they are."""
    kind = {1: torch.uint8, 2: torch.int16, 4: torch.int32}[images.element_size()]
    return torch.equal(images.cpu().contiguous().view(kind), torch.as_tensor(expected).contiguous().view(kind))


class TestFormats:
    @pytest.mark.parametrize("pixels", FORMATS, ids=str)
    def test_pixels_are_normalised_once(self, pixels: PixelFormat, place: Place, catalog: Catalog) -> None:
        dataset = Dataset(catalog, 3, RenderSpec(size=32, points=500, color="density", channels=3))
        plain, _ = dataset.batch(range(len(dataset)))
        mean, std = (
            np.reshape(default if given is None else given, (1, -1, 1, 1))
            for given, default in ((pixels.mean, 0.0), (pixels.std, 1.0))
        )
        exact = plain if pixels.dtype == "uint8" else (plain / 255 - mean) / std
        for images, _ in (
            dataset.batch(range(len(dataset)), engine=place.engine(pixels)),
            next(iter(place.feed(dataset, pixels, batch_size=12, shuffle_seed=None))),
            next(iter(Feed(dataset, pixels=pixels, batch_size=12, shuffle_seed=None))),
        ):
            assert images.dtype == getattr(torch, pixels.dtype)
            assert images.is_contiguous(memory_format=torch.channels_last) == pixels.channels_last
            assert np.abs(images.cpu().double().numpy() - exact).max() <= {"bfloat16": 0.016, "float16": 0.002}.get(
                pixels.dtype, 1e-6
            )
            if pixels.dtype != "bfloat16":
                assert same(images, exact.astype(pixels.dtype))

    def test_of_all_engines_are_equal_bit_for_bit(self, place: Place, dataset: Dataset) -> None:
        pixels = PixelFormat("bfloat16", mean=0.1, std=0.3, channels_last=True)
        for (images, labels), (plain, others) in zip(
            place.feed(dataset, pixels, batch_size=16), Feed(dataset, pixels=pixels, batch_size=16), strict=True
        ):
            assert same(images, plain)
            assert torch.equal(labels.cpu(), others)


class TestFeed:
    def test_it_is_the_cpu_engines_in_every_respect(self, place: Place, dataset: Dataset) -> None:
        options: dict[str, Any] = {"global_batch_size": 13, "repeats": 2, "shuffle_seed": 5, "rank": 1, "world_size": 2}
        feed, plain = place.feed(dataset, **options), Feed(dataset, **options)
        for _ in range(2):
            for (images, labels), (others, classes) in zip(feed, plain, strict=True):
                assert images.device.type == labels.device.type == place.device
                assert same(images, others)
                assert torch.equal(labels.cpu(), classes)
                assert (feed.state_dict(), feed.loss_weight) == (plain.state_dict(), plain.loss_weight)

    def test_a_resumed_one_continues_with_the_next_sample(self, place: Place, dataset: Dataset) -> None:
        whole = torch.cat([images for images, _ in Feed(dataset, batch_size=7)])
        first, second = place.feed(dataset, batch_size=7), Feed(dataset, batch_size=5)
        seen = [images.cpu() for images, _ in islice(first, 3)]
        second.load_state_dict(first.state_dict())
        assert torch.equal(torch.cat([*seen, *(images for images, _ in second)]), whole)

    def test_two_at_once(self, place: Place, catalog: Catalog) -> None:
        datasets = [Dataset(catalog, 20, RenderSpec(size=32, points=500, color=color)) for color in ("gray", "color")]
        feeds = [place.feed(dataset, batch_size=16, ahead=3) for dataset in datasets]
        drawn = list(zip(*feeds, strict=True))
        for dataset, batches in zip(datasets, zip(*drawn, strict=True), strict=True):
            expected = torch.cat([images for images, _ in Feed(dataset, batch_size=16)])
            assert same(torch.cat([images for images, _ in batches]), expected)

    @pytest.mark.gpu
    def test_dense_labels(self, gpu: cuda.Engine, catalog: Catalog) -> None:
        spec, composition = RenderSpec(size=64, points=500), Composition(overlap=1)
        dataset = Dataset(catalog, 10, spec, labels=("class", "mask", "boxes"), composition=composition)
        for (images, targets), (plain, others) in zip(
            Feed(dataset, batch_size=16, device="cuda"), Feed(dataset, batch_size=16), strict=True
        ):
            assert same(images, plain)
            for target, other in zip(targets, others, strict=True):
                assert target.keys() == other.keys()
                assert all(target[name].is_cuda and torch.equal(target[name].cpu(), other[name]) for name in other)


def test_a_batch_that_is_prepared_once_is_drawn_again(place: Place, dataset: Dataset) -> None:
    engine = place.engine()
    batch = prepared(engine, dataset, range(8))
    for _ in range(2):
        out = engine.empty((8, 1, 32, 32))
        batch.draw(out)
        assert same(out, dataset.batch(range(8))[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pixels": "float16"}, "pixels is 'float16'; expected an fdsl.PixelFormat"),
        ({"pixels": PixelFormat("float32", mean=(0, 0, 0))}, "mean has 3 numbers; expected one, or 1"),
        ({"engine": "cuda"}, "engine is 'cuda'; expected one of fdsl.engines"),
        ({"engine": cpu.Engine(), "threads": 2}, "threads is 2 and engine is given"),
        ({"engine": cpu.Engine(), "device": "mps"}, "device is 'mps'; expected 'auto', 'cpu', 'cuda' or 'cuda:N'"),
        ({"engine": cpu.Engine(), "device": "x"}, "device is 'x'; expected"),
    ],
)
def test_what_a_feed_cannot_do_is_named(arguments: dict[str, Any], message: str, dataset: Dataset) -> None:
    with pytest.raises(ValueError, match=message):
        Feed(dataset, batch_size=4, **arguments)


def test_a_feed_and_its_engine_must_agree(place: Place, dataset: Dataset) -> None:
    engine = place.engine(PixelFormat("float16"))
    with pytest.raises(ValueError, match=r"pixels is .*float32.*, but the engine writes .*float16"):
        Feed(dataset, batch_size=4, device="auto", engine=engine, pixels=PixelFormat("float32"))
    assert Feed(dataset, batch_size=4, device="auto", engine=engine).pixels.dtype == "float16"
    if place.device == "cuda":
        with pytest.raises(ValueError, match="device is 'cpu', but the engine draws on cuda:0"):
            Feed(dataset, batch_size=4, engine=engine)


def test_without_room_it_says_what_to_do(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def batch(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nSee documentation")

    monkeypatch.setattr(Dataset, "batch", batch)
    message = (
        r"^cpu has no room to draw 16 pictures of 1 x 32 x 32 uint8, and of 2 such .* smaller batch_size or ahead$"
    )
    with pytest.raises(torch.OutOfMemoryError, match=message):
        next(iter(Feed(dataset, batch_size=16)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_auto_without_a_gpu_is_the_processors(dataset: Dataset) -> None:
    feed = Feed(dataset, batch_size=16, device="auto")
    assert feed.device.type == "cpu"
    assert next(iter(feed))[0].dtype == torch.uint8


@pytest.mark.gpu
class TestGpu:
    @pytest.mark.parametrize(("family", "name"), pictures.CASES)
    def test_every_picture_is_the_cpu_engines(self, family: str, name: str, gpu: cuda.Engine) -> None:
        dataset = pictures.dataset(family, name)
        images, labels = dataset.batch(range(len(dataset)), epoch=2, engine=gpu)
        expected, classes = dataset.batch(range(len(dataset)), epoch=2)
        assert same(images, expected)
        assert np.array_equal(labels, classes)
        assert pictures.digest(expected) == DIGESTS[family][name]

    @pytest.mark.parametrize("enough", [2**31 - 1, 600])
    def test_pictures_are_measured_as_on_the_cpu(self, enough: int, gpu: cuda.Engine) -> None:
        drawing, spec = candidates("fractaldb", 500), RenderSpec(size=512, points=20_001, pad=6)
        expected = cpu.Engine().measure(drawing, spec, 3, enough)
        assert gpu.measure(drawing, spec, 3, enough).tobytes() == expected.tobytes()

    @pytest.mark.parametrize(("points", "least"), [(10_001, 0.0), (10_000, 0.05)])
    def test_clouds_are_measured_as_on_the_cpu(self, points: int, least: float, gpu: cuda.Engine) -> None:
        drawing = candidates("exfractaldb", 500)
        expected = cpu.Engine().measure_spatial(drawing, points, 3, least)
        assert gpu.measure_spatial(drawing, points, 3, least).tobytes() == expected.tobytes()

    def test_scenes_are_those_of_the_cpu(self, gpu: cuda.Engine) -> None:
        dataset = fdsl.clouds.SceneDataset(pictures.catalog("pcfractaldb"), scenes=50)
        drawn, expected = (dataset.batch(range(50), engine=engine)["points"] for engine in (gpu, None))
        assert drawn.cpu().numpy().tobytes() == expected.tobytes()

    @pytest.mark.parametrize("family", [family for family, specs in pictures.SPECS.items() if "fresh" in specs])
    def test_a_graph_draws_again_into_the_same_tensor(self, family: str, gpu: cuda.Engine) -> None:
        dataset = pictures.dataset(family, "fresh")
        batch = prepared(gpu, dataset, range(len(dataset)))
        out = gpu.empty((len(dataset), dataset.spec.image_channels, dataset.spec.size, dataset.spec.size))
        batch.draw(out)  # so that nothing is compiled or loaded while the graph is captured
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            batch.draw(out)
        for _ in range(3):
            out.fill_(99)
            graph.replay()
            assert same(out, dataset.batch(range(len(dataset)))[0])

    def test_two_streams_share_an_engine(self, gpu: cuda.Engine, catalog: Catalog) -> None:
        datasets = [Dataset(catalog, 64, RenderSpec(size=64, points=5000, color=color)) for color in ("gray", "color")]
        streams, drawn = [torch.cuda.Stream() for _ in datasets], {}

        def draw(number: int) -> None:
            with torch.cuda.stream(streams[number]):
                images = [datasets[number].batch(range(256), engine=gpu)[0] for _ in range(20)]
            drawn[number] = images

        threads = [threading.Thread(target=draw, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        torch.cuda.synchronize()
        for number, dataset in enumerate(datasets):
            expected, _ = dataset.batch(range(256))
            assert all(same(images, expected) for images in drawn[number])

    @pytest.mark.parametrize("ahead", [1, 4])
    def test_memory_is_not_used_again_while_a_slow_stream_needs_it(
        self, ahead: int, gpu: cuda.Engine, dataset: Dataset
    ) -> None:
        sums = []
        with torch.cuda.stream(torch.cuda.Stream()):
            for images, labels in Feed(dataset, batch_size=4, device="cuda", ahead=ahead):
                torch.cuda._sleep(20_000_000)  # the host lets go of them long before they are read
                sums.append((images.flatten(1).sum(1), labels + 0))
                del images, labels
        torch.cuda.synchronize()
        for (pixels, classes), (images, labels) in zip(sums, Feed(dataset, batch_size=4), strict=True):
            assert torch.equal(pixels.cpu(), images.flatten(1).sum(1))
            assert torch.equal(classes.cpu(), labels)

    def test_a_host_that_is_far_ahead_takes_no_more_memory(self, gpu: cuda.Engine, catalog: Catalog) -> None:
        dataset = Dataset(catalog, 1000, RenderSpec(size=64, points=100))
        feed, batch = Feed(dataset, batch_size=50, device="cuda"), 50 * 64 * 64
        list(islice(feed, 8))
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_stats()["active_bytes.all.peak"]  # with what a stream is not done with
        for _ in islice(feed, 60):
            torch.cuda._sleep(10_000_000)
        assert torch.cuda.memory_stats()["active_bytes.all.peak"] - before < 8 * batch

    def test_nothing_synchronises_once_it_is_under_way(self, gpu: cuda.Engine, catalog: Catalog) -> None:
        mixed = fdsl.mix([Dataset(catalog, 10, RenderSpec(size=32, points=points)) for points in (500, 100)])
        for dataset in (Dataset(catalog, 100, SPEC), mixed):
            feed = Feed(dataset, batch_size=4, device="cuda")
            for _ in feed:  # compiles, uploads the catalog, takes memory
                pass
            torch.cuda.set_sync_debug_mode("error")
            try:
                total = torch.zeros((), dtype=torch.int64, device="cuda")
                for images, labels in feed:
                    total += images.sum() + labels.sum()
            finally:
                torch.cuda.set_sync_debug_mode("default")
            assert int(total) > 0

    @pytest.mark.slow
    def test_ten_thousand_batches_take_the_memory_of_a_hundred(self, gpu: cuda.Engine, catalog: Catalog) -> None:
        feed = Feed(Dataset(catalog, 1000, RenderSpec(size=16, points=64)), batch_size=8, device="cuda")
        taken, free, number = [], [], 0
        while number < 10_000:
            for _ in feed:
                number += 1
                if number % 500 == 0:
                    torch.cuda.synchronize()
                    taken.append(torch.cuda.memory_allocated())
                    free.append(torch.cuda.mem_get_info()[0])
        assert max(taken[1:]) <= taken[0] + (1 << 20)
        assert min(free[1:]) >= free[0] - (8 << 20)  # of other processes too, should there be any

    def test_the_processors_can_draw_for_it(self, gpu: cuda.Engine, dataset: Dataset) -> None:
        pixels = PixelFormat("float16", mean=0.5, std=0.5, channels_last=True)
        for (images, labels), (plain, others) in zip(
            Feed(dataset, batch_size=7, device="cuda", engine=cpu.Engine(), pixels=pixels),
            Feed(dataset, batch_size=7, pixels=pixels),
            strict=True,
        ):
            assert images.is_cuda
            assert images.is_contiguous(memory_format=torch.channels_last)
            assert same(images, plain)
            assert torch.equal(labels.cpu(), others)

    def test_auto_is_the_gpu(self, gpu: cuda.Engine, dataset: Dataset) -> None:
        assert isinstance(engine_for("auto"), cuda.Engine)
        assert Feed(dataset, batch_size=4, device="auto").device == torch.device("cuda", torch.cuda.current_device())

    def test_without_room_it_says_how_much_there_is(self, gpu: cuda.Engine, dataset: Dataset) -> None:
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(1e-6)
        try:
            with pytest.raises(
                torch.OutOfMemoryError, match=r"^cuda:\d+ has .* MiB free, and .* expected a smaller batch$"
            ):
                gpu.empty((1 << 28,))
            with pytest.raises(torch.OutOfMemoryError, match=r"^cuda:\d+ has no room to draw .* batch_size or ahead$"):
                next(iter(Feed(Dataset(dataset.catalog, 1000, RenderSpec(size=512)), batch_size=1000, device="cuda")))
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)

    @pytest.mark.slow
    @pytest.mark.parametrize("tool", [("memcheck", "--report-api-errors", "no"), ("racecheck",)])
    def test_compute_sanitizer_finds_nothing(self, tool: tuple[str, ...], gpu: cuda.Engine) -> None:
        sanitizer = shutil.which("compute-sanitizer")
        if sanitizer is None:
            pytest.skip("no compute-sanitizer: it comes with the CUDA toolkit")
        script = Path(__file__).parent / "sanitized_draws.py"
        command = [sanitizer, "--tool", *tool, "--error-exitcode", "9", sys.executable, str(script)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


def test_a_gpu_is_measured_for_a_plan(place: Place, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    from fdsl import planning

    engine: Callable[..., Any] = lambda device: place.engine() if device == "auto" else cpu.Engine()  # noqa: E731
    monkeypatch.setattr(planning, "engine_for", engine)
    plan = planning.plan(dataset, images_per_s=10.0, batch_size=8, seconds=0.05)
    assert plan.gpu_images_per_s is not None
    assert plan.gpu_images_per_s > 0
    assert plan.sources["gpu_images_per_s"].startswith("measured on ")
    assert "the GPU draws in" in plan.verdict
