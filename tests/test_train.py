from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fdsl

pretraining = pytest.importorskip("fdsl.train.pretraining")
torch = pytest.importorskip("torch")
nn = torch.nn


@pytest.fixture(scope="module", autouse=True)
def small_network() -> Any:
    """A model that takes no time, with dropout (random numbers) and batch norm (state beside the weights)."""
    timm = pytest.importorskip("timm")

    @timm.models.register_model
    def fdsl_small(pretrained: bool = False, num_classes: int = 10, in_chans: int = 1, **_: Any) -> Any:
        return nn.Sequential(
            nn.Conv2d(in_chans, 8, 3, 2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(32, num_classes),
        )


@pytest.fixture
def dataset(catalog: fdsl.Catalog) -> fdsl.Dataset:
    return fdsl.Dataset(catalog, range(0, 1000, 40), fdsl.RenderSpec(size=24, points=2000, pad=1))


Pretrain = Callable[..., Any]


@pytest.fixture
def pretrain(dataset: fdsl.Dataset) -> Pretrain:
    def run(data: fdsl.Dataset = dataset, **changed: Any) -> Any:
        # An epoch is six batches of sixteen, so that ten steps end in the second.
        arguments: dict[str, Any] = {"steps": 10, "batch_size": 16, "device": "cpu", "progress": False}
        return pretraining.pretrain(data, **{"model": "fdsl_small", **arguments, **changed})

    return run


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """A Ctrl-C in the forward pass of a step, once."""
    forward, calls = pretraining.PixelNorm.forward, 0

    def counted(self: Any, images: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == step:
            raise KeyboardInterrupt
        return forward(self, images)

    monkeypatch.setattr(pretraining.PixelNorm, "forward", counted)


def checkpoint(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "last.ckpt", weights_only=True)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


# In the first epoch, at its end, in the second.
@pytest.mark.parametrize("saved", [4, 6, 7])
def test_a_resumed_run_has_the_same_bits(
    pretrain: Pretrain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved: int
) -> None:
    whole = pretrain(output=tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt_at(patch, saved + 2)
        with pytest.raises(
            KeyboardInterrupt, match=rf"interrupted at step {saved + 1}; the last checkpoint is .*last\.ckpt"
        ):
            pretrain(output=tmp_path / "parts", checkpoint_every=saved)
    assert checkpoint(tmp_path / "parts")["global_step"] == saved
    torch.rand(7)  # what the process draws in between changes nothing
    resumed = pretrain(output=tmp_path / "parts", resume=True)
    one, other = checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts")
    assert one["global_step"] == other["global_step"] == resumed.steps == 10
    assert same(one["state_dict"], other["state_dict"])
    assert same(one["optimizer_states"], other["optimizer_states"])
    assert same(one["loops"]["fit_loop"]["state_dict"], other["loops"]["fit_loop"]["state_dict"])
    assert resumed.train_loss == whole.train_loss


def test_a_run_is_a_function_of_its_seed(pretrain: Pretrain, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        pretrain(output=tmp_path / name, seed=seed, steps=2)
    a, b, c = (checkpoint(tmp_path / name)["state_dict"] for name in "abc")
    assert same(a, b)
    assert not same(a, c)


def test_pretraining_leaves_the_callers_random_numbers_alone(pretrain: Pretrain, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    pretrain(output=tmp_path / "run", steps=1)
    assert torch.equal(torch.rand(3), expected)


def test_resume_before_the_first_checkpoint_and_after_the_last(
    pretrain: Pretrain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2)
        with pytest.raises(KeyboardInterrupt, match="interrupted at step 1; resume"):
            pretrain(output=tmp_path / "run")
    first = pretrain(output=tmp_path / "run", resume=True)
    again = pretrain(output=tmp_path / "run", resume=True)
    assert (again.steps, again.train_loss) == (first.steps, first.train_loss) == (10, first.train_loss)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch_size": 8}, "its batch_size is 16, and 8 was asked for"),
        ({"steps": 3}, "its steps is 2, and 3"),
        ({"learning_rate": 0.5}, r"its learning_rate is 0.001, and 0.5"),
        ({"model": "test_resnet"}, "its model is 'fdsl_small', and 'test_resnet'"),
    ],
)
def test_resume_with_other_settings_is_refused(
    pretrain: Pretrain, tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    pretrain(output=tmp_path / "run", steps=2)
    with pytest.raises(ValueError, match=message):
        pretrain(output=tmp_path / "run", resume=True, **{"steps": 2, **changed})


def test_resume_with_another_dataset_is_refused(pretrain: Pretrain, dataset: fdsl.Dataset, tmp_path: Path) -> None:
    pretrain(output=tmp_path / "run", steps=1)
    other = fdsl.Dataset(dataset.catalog, dataset.instances, dataset.spec, seed=1)
    with pytest.raises(ValueError, match=f"its dataset is '{dataset.digest}', and '{other.digest}' was asked for"):
        pretrain(other, output=tmp_path / "run", steps=1, resume=True)


def test_a_damaged_checkpoint_is_refused(pretrain: Pretrain, tmp_path: Path) -> None:
    pretrain(output=tmp_path / "run", steps=1)
    (tmp_path / "run" / "last.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match=r"last\.ckpt: not a checkpoint of fdsl"):
        pretrain(output=tmp_path / "run", steps=1, resume=True)


def test_report_and_log(pretrain: Pretrain, dataset: fdsl.Dataset, tmp_path: Path) -> None:
    train, held_out = dataset.split(0.8)
    report = pretrain(train, output=tmp_path / "run", steps=25, evaluations=5, held_out=held_out, held_out_images=18)
    written = json.loads((tmp_path / "run" / "report.json").read_text())
    assert pretraining.PretrainReport(**written) == report
    assert (report.steps, report.held_out_images, report.dataset) == (25, 18, train.digest)
    assert report.images_per_s > 0
    assert 0 <= report.waiting_share <= 1
    assert 0 <= report.held_out_accuracy <= 1
    rows = list(csv.DictReader((tmp_path / "run" / "log.csv").read_text().splitlines()))
    assert [row["step"] for row in rows if row["loss"]] == ["10", "20", "25"]
    assert [row["step"] for row in rows if row["held_out_accuracy"]] == ["5", "10", "15", "20", "25"]
    rates = [float(row["learning_rate"]) for row in rows if row["learning_rate"]]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] > 0


def test_the_bar_says_how_fast_it_goes_and_what_steps_wait(pretrain: Pretrain, tmp_path: Path) -> None:
    from rich.console import Console
    from rich.progress import Progress

    bars = Progress(console=Console(quiet=True))
    pretrain(output=tmp_path / "run", steps=8, progress=bars)
    note = bars.tasks[0].fields["note"]
    assert re.fullmatch(r"step 8, loss [\d.]+, [\d,]+ images/s, [\d.]+% waiting \(drawn at [1-9][\d,]*/s\)", note), note


def test_it_learns(pretrain: Pretrain, dataset: fdsl.Dataset, tmp_path: Path) -> None:
    train, held_out = dataset.split(0.8)
    report = pretrain(train, output=tmp_path / "run", steps=60, learning_rate=0.02, held_out=held_out)
    assert report.held_out_accuracy > 0.5  # chance is a quarter


def test_a_run_can_have_a_time_instead_of_steps(pretrain: Pretrain, tmp_path: Path) -> None:
    report = pretrain(output=tmp_path / "run", steps=None, seconds=0.5)
    assert report.steps >= 1
    assert report.seconds >= 0.5


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("resnet10x", r"no model 'resnet10x'; expected one of timm.list_models\(\), such as .*resnet10t"),
        ("deit_tiny_patch16_224", r"'deit_tiny_patch16_224' does not take images of \(1, 8, 8\)"),
    ],
)
def test_models_that_do_not_fit(
    catalog: fdsl.Catalog, pretrain: Pretrain, tmp_path: Path, model: str, message: str
) -> None:
    dataset = fdsl.Dataset(catalog, 20, fdsl.RenderSpec(size=8, points=1000, pad=0))
    with pytest.raises(ValueError, match=message):
        pretrain(dataset, model=model, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_vision_transformer_takes_the_size_of_the_pictures(
    catalog: fdsl.Catalog, pretrain: Pretrain, tmp_path: Path
) -> None:
    dataset = fdsl.Dataset(catalog, 2, fdsl.RenderSpec(size=32, points=1000, channels=3))
    assert pretrain(dataset, model="deit_tiny_patch16_224", output=tmp_path / "run", steps=1, batch_size=4).steps == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"steps": None}, "steps is None and seconds is None; expected one of them"),
        ({"steps": 0}, "steps is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 1000}, "a batch of 1000 is larger"),
        ({"warmup": 1.0}, "warmup is 1.0"),
        ({"label_smoothing": -1}, "label_smoothing is -1"),
        ({"device": "tpu"}, "device is 'tpu'; expected 'auto', 'cpu', 'cuda'"),
    ],
)
def test_arguments_out_of_range(pretrain: Pretrain, tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pretrain(output=tmp_path / "run", **changed)
    assert not (tmp_path / "run").exists()


def test_outputs_that_cannot_be_had(pretrain: Pretrain, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    for resume in (False, True):
        with pytest.raises(FileExistsError, match="mine is not empty; expected a new or empty folder"):
            pretrain(output=tmp_path / "mine", resume=resume)
    with pytest.raises(OSError, match=r"thesis\.tex"):
        pretrain(output=tmp_path / "mine" / "thesis.tex" / "run")
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_a_demo_replaces_nothing_but_a_demo(tmp_path: Path) -> None:
    from fdsl.train.demo import demo

    (tmp_path / "report.json").write_text('{"steps": 10}')
    with pytest.raises(FileExistsError, match="holds something else than a demo"):
        demo(tmp_path, progress=False)


@pytest.mark.slow
def test_demo(tmp_path: Path) -> None:
    from PIL import Image

    from fdsl.train.demo import demo

    for _ in range(2):  # the second replaces the first
        report = demo(tmp_path / "runs" / "demo", seconds=3, progress=False)
    folder = tmp_path / "runs" / "demo"
    assert json.loads((folder / "report.json").read_text()) == report
    assert {"engine_images_per_s", "images_per_s", "waiting_share", "held_out_accuracy"} <= report.keys()
    for name in ("contact_sheet.png", "curves.png"):
        with Image.open(folder / name) as image:
            image.load()
            assert min(image.size) > 300
    assert len(fdsl.Catalog.load(folder / "catalog.safetensors")) == 100
    assert [path.name for path in folder.parent.iterdir()] == ["demo"]
