from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import fdsl
from fdsl import planning
from fdsl.bench import RenderSpeed
from fdsl.export.folder import export_folder
from fdsl.planning import Plan, plan

PLAN = Plan(
    images=1_000_000,
    epochs=90,
    ranks=4,
    batch_size=256,
    cores=4,
    model_images_per_s=2500.0,
    feed_images_per_s=40_000.0,
    core_images_per_s=11_000.0,
    open_s=0.001,
    first_batch_s=0.02,
    png_bytes=2000.0,
    tar_bytes=3584.0,
)


@pytest.fixture
def dataset(catalog: fdsl.Catalog) -> fdsl.Dataset:
    return fdsl.Dataset(catalog, range(0, 1000, 40), fdsl.RenderSpec(size=32, points=500))


class TestArithmetic:
    def test_a_feed_that_is_faster_than_the_model(self) -> None:
        assert PLAN.hours == pytest.approx(90e6 / 2500 / 4 / 3600)
        assert PLAN.feed_over_model == 16
        assert PLAN.feeding_cores == 0.25
        assert PLAN.missing_cores == 0
        assert PLAN.waiting_share == 0
        assert PLAN.verdict == "the feed is 16 times as fast as the model"

    @pytest.mark.parametrize(("rate", "missing"), [(40_001, 1), (50_000, 1), (50_001, 2), (400_000, 36)])
    def test_a_feed_that_is_slower(self, rate: float, missing: int) -> None:
        slow = replace(PLAN, model_images_per_s=float(rate))
        assert slow.hours == pytest.approx(90e6 / 40_000 / 4 / 3600)
        assert slow.missing_cores == missing
        assert replace(slow, cores=4 + missing, feed_images_per_s=10_000.0 * (4 + missing)).missing_cores == 0
        assert slow.waiting_share == pytest.approx(1 - 40_000 / rate)
        assert f"bottleneck: {missing} more core{'s' * (missing > 1)} per rank" in slow.verdict

    def test_on_shared_cores_drawing_and_training_take_turns(self) -> None:
        shared = replace(PLAN, shared_cores=True)
        assert shared.hours == pytest.approx(90e6 * (1 / 2500 + 1 / 40_000) / 4 / 3600)
        assert shared.waiting_share == pytest.approx(1 / 17)
        slow = replace(shared, model_images_per_s=120_000.0)
        assert "drawing takes 75% of the time" in slow.verdict

    def test_a_gpu_draws_and_trains_in_turns(self) -> None:
        drawn = replace(PLAN, gpu_images_per_s=47_500.0)
        assert drawn.gpu_share == pytest.approx(0.05)
        assert drawn.images_per_s == pytest.approx(2375)
        assert drawn.verdict == "the GPU draws in 5.0% of its time, and trains in the rest"
        assert ("share of the GPU", "5.0%, at 47,500 images/s", "") in drawn.rows()
        assert drawn.figures()["gpu_share"] == 0.05
        assert PLAN.figures()["gpu_share"] is None
        assert "not measured" in next(row for row in PLAN.rows() if row[0] == "share of the GPU")

    def test_storage(self) -> None:
        assert PLAN.stored_bytes == 2e9
        assert PLAN.shards == 4
        assert replace(PLAN, images=1).shards == 1

    def test_every_figure_says_how_it_is_known(self, dataset: fdsl.Dataset) -> None:
        figures = plan(dataset, images_per_s=100, seconds=0.05).figures()
        sources = figures.pop("sources")
        assert isinstance(sources, dict)
        assert figures.keys() == sources.keys()
        assert all(sources.values())


class TestMeasuring:
    def test_a_small_dataset(self, dataset: fdsl.Dataset, tmp_path: Path) -> None:
        found = plan(dataset, images_per_s=1e-3, batch_size=64, cores=1, seconds=0.1)
        assert (found.images, found.cores, found.batch_size) == (100, 1, 64)
        assert found.feed_images_per_s == found.core_images_per_s > 100
        assert found.first_batch_s > 0
        assert found.open_s > 0
        assert found.hours == pytest.approx(100 * 300 / 1e-3 / 3600)
        # All hundred pictures are in its sample, so that it knows what an export of them takes.
        export_folder(dataset, tmp_path / "pictures", range(4))
        sizes = [file.stat().st_size for file in (tmp_path / "pictures").rglob("*.png")]
        assert found.stored_bytes == pytest.approx(sum(sizes))

    def test_a_tar_sample_is_as_large_as_tar_makes_it(self, dataset: fdsl.Dataset) -> None:
        _, found = planning._file_sizes(dataset)
        files, archive = [], io.BytesIO()
        for image, label in (dataset[index] for index in range(100)):
            files += [("png", planning.png_bytes(image, dataset.palette)), ("cls", str(label).encode())]
        with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for number, (suffix, content) in enumerate(files):
                member = tarfile.TarInfo(f"{number // 2:09d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            length = archive.tell()  # before what ends a tar file
        assert found * 100 == length

    def test_a_dataset_with_dense_labels(self, catalog: fdsl.Catalog) -> None:
        spec = fdsl.RenderSpec(size=32, points=500)
        detection = fdsl.Dataset(catalog, 10, spec, labels=("class", "boxes"))
        assert plan(detection, images_per_s=10, seconds=0.05).png_bytes > 60
        with pytest.raises(ValueError, match="labels is"):
            plan(detection, model="resnet18")

    def test_a_mix(self, dataset: fdsl.Dataset) -> None:
        mixed = fdsl.mix([dataset, dataset], weights=[2, 1])
        assert plan(mixed, images_per_s=10, seconds=0.05).images == len(mixed)

    def test_more_cores_than_there_are_here_draw_in_proportion(
        self, dataset: fdsl.Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rates = {1: 1000.0, 2: 1900.0}
        monkeypatch.setattr(planning, "processors", lambda: 2)
        monkeypatch.setattr(
            planning, "render_speed", lambda _, threads, *__: [RenderSpeed(count, 1, rates[count]) for count in threads]
        )
        found = plan(dataset, images_per_s=1e4, cores=16, images=10**9)
        assert (found.feed_images_per_s, found.core_images_per_s) == (15_200, 1000)
        assert found.sources["feed_images_per_s"] == "measured with 2 cores, times 8"
        assert found.images == 10**9
        assert found.sources["images"] == found.sources["cores"] == "given"

    @pytest.mark.parametrize(
        ("environment", "gpus", "ranks", "cores"),
        [
            ({}, 0, 8, 32),
            ({}, 8, 8, 4),
            ({}, 8, 64, 4),
            ({}, 8, 2, 16),
            ({}, 8, 1, 32),
            ({"LOCAL_WORLD_SIZE": "4"}, 8, 8, 8),
        ],
    )
    def test_ranks_share_the_cores_of_a_machine(
        self,
        environment: dict[str, str],
        gpus: int,
        ranks: int,
        cores: int,
        dataset: fdsl.Dataset,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        torch = pytest.importorskip("torch")
        monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("fdsl.engines.cpu.processors", lambda: 32)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        assert plan(dataset, images_per_s=10, ranks=ranks, seconds=0.05).cores == cores

    def test_a_model_is_measured(self, dataset: fdsl.Dataset) -> None:
        timm = pytest.importorskip("timm")
        nn = pytest.importorskip("torch").nn

        @timm.models.register_model
        def fdsl_tiny(pretrained: bool = False, num_classes: int = 10, in_chans: int = 1, **_: Any) -> Any:
            return nn.Sequential(nn.Conv2d(in_chans, 4, 8, 8), nn.Flatten(), nn.Linear(64, num_classes))

        found = plan(dataset, model="fdsl_tiny", batch_size=8, device="cpu", seconds=0.1)
        assert found.model_images_per_s > 0
        assert found.shared_cores
        assert found.sources["model_images_per_s"].startswith("measured: fdsl_tiny, cpu, ")

    def test_a_model_that_there_is_not_is_named_before_anything_is_measured(
        self, dataset: fdsl.Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("timm")
        monkeypatch.setattr(planning, "render_speed", None)
        with pytest.raises(ValueError, match=r"timm has no model 'resnet19'; expected .* resnet18"):
            plan(dataset, model="resnet19")

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"images_per_s": None}, "images_per_s is None and model is None; expected one of them"),
            ({"model": "resnet18"}, "images_per_s is 10 and model is 'resnet18'; expected one of them"),
            ({"images_per_s": 0}, "images_per_s is 0; expected a number over 0"),
            ({"images_per_s": float("nan")}, "images_per_s is nan"),
            ({"images": 0}, "images is 0"),
            ({"epochs": 1.5}, "epochs is 1.5; expected a whole number"),
            ({"batch_size": 0}, "batch_size is 0"),
            ({"ranks": 0}, "ranks is 0"),
            ({"cores": 0}, "cores is 0"),
            ({"seconds": 0}, "seconds is 0"),
        ],
    )
    def test_arguments_out_of_range(self, changed: dict[str, Any], message: str, dataset: fdsl.Dataset) -> None:
        with pytest.raises(ValueError, match=message):
            plan(dataset, **{"images_per_s": 10, **changed})

    def test_neither_torch_nor_timm_is_needed_where_the_model_is_known(
        self, catalog: fdsl.Catalog, tmp_path: Path
    ) -> None:
        catalog.save(tmp_path / "four.safetensors")
        for name in ("torch", "timm"):
            (tmp_path / f"{name}.py").write_text("raise ImportError('not here')")
        command = [sys.executable, "-m", "fdsl.cli", "plan", "four.safetensors", "--seconds", "0.05", "--size", "32"]
        paths = os.pathsep.join([str(tmp_path), *sys.path])
        for chosen, code in ((("--images-per-s", "10", "--ranks", "2"), 0), (("--model", "resnet18"), 1)):
            done = subprocess.run(
                [*command, *chosen],
                cwd=tmp_path,
                env=os.environ | {"PYTHONPATH": paths},
                capture_output=True,
                text=True,
            )
            assert done.returncode == code, done.stderr
        assert "pip install 'fdsl[train]'" in done.stderr
