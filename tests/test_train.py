from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fdsl

pytest.importorskip("lightning")
import small_runs
import torch
from safetensors.torch import load_file
from small_runs import PLAIN, Small, recipe

from fdsl.train import pretraining, processes
from fdsl.train.networks import highest_rate
from fdsl.train.recipes import recipe_named
from fdsl.train.schedules import learning_rate
from fdsl.train.sources import DrawnSource, open_source
from fdsl.train.weights import network_from

HERE = Path(__file__).parent


@pytest.fixture(scope="module", autouse=True)
def small_network() -> Any:
    """The network where a recipe names it."""
    timm = pytest.importorskip("timm")

    @timm.models.register_model
    def fdsl_small(pretrained: bool = False, num_classes: int = 10, in_chans: int = 1, **_: Any) -> Any:
        return Small(in_chans, num_classes)


@pytest.fixture
def dataset(catalog: fdsl.Catalog) -> fdsl.Dataset:
    return fdsl.Dataset(catalog, range(0, 1000, 40), fdsl.RenderSpec(size=24, points=2000, pad=1))


Pretrain = Callable[..., Any]


@pytest.fixture
def pretrain(dataset: fdsl.Dataset) -> Pretrain:
    def run(changes: dict[str, Any] | None = None, data: Any = dataset, held_out: Any = None, **changed: Any) -> Any:
        arguments = {"source": DrawnSource(data, held_out), "device": "cpu", "progress": False}
        return pretraining.pretrain(recipe(changes), **arguments | changed)

    return run


def ctrl_c() -> None:
    raise KeyboardInterrupt


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int, interrupt: Callable[[], None] = ctrl_c) -> None:
    """A Ctrl-C, or something else, in the forward pass of a step, once."""
    forward, calls = pretraining.Augment.forward, 0

    def counted(self: Any, *batch: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == step:
            interrupt()
        return forward(self, *batch)

    monkeypatch.setattr(pretraining.Augment, "forward", counted)


def checkpoint(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "last.ckpt", weights_only=True)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def ended_alike(one: Path, other: Path) -> bool:
    """With the same bits: weights, their average, optimizer, random numbers and place in the data."""
    a, b = checkpoint(one), checkpoint(other)
    return (
        a["global_step"] == b["global_step"] == 10
        and same(a["state_dict"], b["state_dict"])
        and same(a["optimizer_states"], b["optimizer_states"])
        and same(a["fdsl"]["ranks"], b["fdsl"]["ranks"])
        and same(a["loops"]["fit_loop"]["state_dict"], b["loops"]["fit_loop"]["state_dict"])
        and same(load_file(one / "weights.safetensors"), load_file(other / "weights.safetensors"))
    )


class TestResume:
    # In the first epoch, at its end, in the second.
    @pytest.mark.parametrize("saved", [4, 6, 7])
    def test_a_resumed_run_has_the_same_bits(
        self, pretrain: Pretrain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved: int
    ) -> None:
        whole = pretrain(output=tmp_path / "whole")
        with monkeypatch.context() as patch:
            interrupt_at(patch, saved + 2)
            with pytest.raises(
                KeyboardInterrupt, match=rf"interrupted at step {saved + 1}; the last checkpoint is .*last\.ckpt"
            ):
                pretrain({"training.checkpoint_every": saved}, output=tmp_path / "parts")
        assert checkpoint(tmp_path / "parts")["global_step"] == saved
        torch.rand(7)  # what the process draws in between changes nothing
        resumed = pretrain(output=tmp_path / "parts", resume=True)
        assert ended_alike(tmp_path / "whole", tmp_path / "parts")
        assert (resumed.steps, resumed.train_loss) == (10, whole.train_loss)

    def test_a_killed_run_resumes_with_the_same_bits(self, tmp_path: Path) -> None:
        die = "import small_runs, sys; from pathlib import Path; small_runs.run(Path(sys.argv[1]), "
        die += "{'training.checkpoint_every': 4}, die_at=7)"
        environment = os.environ | {"PYTHONPATH": f"{HERE}:{HERE.parent / 'src'}"}
        environment["OMP_NUM_THREADS"] = str(torch.get_num_threads())
        killed = subprocess.run([sys.executable, "-c", die, str(tmp_path / "parts")], env=environment, timeout=120)
        assert killed.returncode == -9
        assert checkpoint(tmp_path / "parts")["global_step"] == 4
        (tmp_path / "parts" / ".last.ckpt.0.partial").touch()
        small_runs.run(tmp_path / "parts", resume=True)
        small_runs.run(tmp_path / "whole")
        assert ended_alike(tmp_path / "whole", tmp_path / "parts")
        assert not list(tmp_path.rglob("*.partial"))

    def test_before_the_first_checkpoint_and_after_the_last(
        self, pretrain: Pretrain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            interrupt_at(patch, 2)
            with pytest.raises(KeyboardInterrupt, match="interrupted at step 1; resume"):
                pretrain(output=tmp_path / "run")
        first = pretrain(output=tmp_path / "run", resume=True)
        assert first.steps == 10
        before = {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()}
        assert pretrain(output=tmp_path / "run", resume=True) == first
        assert {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()} == before
        (tmp_path / "run" / "report.json").write_text('{"model": "fdsl_sm')  # by a process that was killed
        again = pretrain(output=tmp_path / "run", resume=True)
        assert (again.steps, again.train_loss, again.recipe) == (10, first.train_loss, first.recipe)
        assert {file.name for file in (tmp_path / "run").iterdir()} == before.keys()
        assert (tmp_path / "run" / "weights.safetensors").read_bytes() == before["weights.safetensors"]

    @pytest.fixture
    def default_sigterm(self) -> Iterator[None]:
        """As in a process of its own: pytest-xdist's workers have a handler, which Lightning would call too."""
        before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
        yield
        signal.signal(signal.SIGTERM, before)

    @pytest.mark.usefixtures("default_sigterm")
    def test_a_terminated_run_is_an_interrupted_one(
        self, pretrain: Pretrain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Else Lightning would end the process as if all were done."""
        with monkeypatch.context() as patch:
            interrupt_at(patch, 6, lambda: os.kill(os.getpid(), signal.SIGTERM))
            with pytest.raises(KeyboardInterrupt, match=r"interrupted at step 6; the last checkpoint is .*last\.ckpt"):
                pretrain({"training.checkpoint_every": 4}, output=tmp_path / "run")
        assert pretrain(output=tmp_path / "run", resume=True).steps == 10

    def test_an_interruption_between_the_end_and_the_evaluation(
        self, pretrain: Pretrain, dataset: fdsl.Dataset, tmp_path: Path
    ) -> None:
        train, held_out = dataset.split(0.8)
        first = pretrain(data=train, held_out=held_out, output=tmp_path / "run")
        for name in ("report.json", "weights.safetensors"):
            (tmp_path / "run" / name).unlink()
        again = pretrain(data=train, held_out=held_out, output=tmp_path / "run", resume=True)
        assert (again.held_out_accuracy, again.held_out_images) == (first.held_out_accuracy, first.held_out_images)
        assert (tmp_path / "run" / "weights.safetensors").is_file()

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"training.batch_size": 8}, "its training.batch_size is 16, and 8 was asked for"),
            ({"schedule.steps": 3}, "its schedule.steps is 2, and 3"),
            ({"optimizer.learning_rate": 0.5}, r"its optimizer.learning_rate is 0.001, and 0.5"),
            ({"model.name": "test_resnet"}, "its model.name is 'fdsl_small', and 'test_resnet'"),
            ({"training.ema": None}, "its training.ema is 0.9, and None"),
        ],
    )
    def test_with_another_recipe_is_refused(
        self, pretrain: Pretrain, tmp_path: Path, changed: dict[str, Any], message: str
    ) -> None:
        pretrain({"schedule.steps": 2}, output=tmp_path / "run")
        with pytest.raises(ValueError, match=message):
            pretrain({"schedule.steps": 2, **changed}, output=tmp_path / "run", resume=True)

    def test_with_another_dataset_is_refused(self, pretrain: Pretrain, dataset: fdsl.Dataset, tmp_path: Path) -> None:
        pretrain({"schedule.steps": 1}, output=tmp_path / "run")
        other = fdsl.Dataset(dataset.catalog, dataset.instances, dataset.spec, seed=1)
        with pytest.raises(ValueError, match=f"its dataset is '{dataset.digest}', and '{other.digest}' was asked for"):
            pretrain({"schedule.steps": 1}, other, output=tmp_path / "run", resume=True)

    def test_with_a_damaged_checkpoint_is_refused(self, pretrain: Pretrain, tmp_path: Path) -> None:
        pretrain({"schedule.steps": 1}, output=tmp_path / "run")
        (tmp_path / "run" / "last.ckpt").write_bytes(b"no checkpoint")
        with pytest.raises(ValueError, match=r"last\.ckpt: not a checkpoint of fdsl"):
            pretrain({"schedule.steps": 1}, output=tmp_path / "run", resume=True)


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two processes that torchrun started."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    result = subprocess.run(
        [*command, str(HERE / "small_runs.py"), str(folder)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert result.returncode == 0, result.stderr
    return folder


class TestRanks:
    @pytest.mark.slow
    def test_two_come_to_the_weights_of_one(self, two_ranks: Path, tmp_path: Path) -> None:
        alone = small_runs.run(tmp_path / "plain", PLAIN, plain=True)
        report = json.loads((two_ranks / "plain" / "report.json").read_text())
        assert (alone.world_size, report["world_size"]) == (1, 2)
        for name in ("held_out_images", "held_out_accuracy", "steps"):
            assert report[name] == getattr(alone, name)
        assert report["train_loss"] == pytest.approx(alone.train_loss, abs=1e-3)
        one, two = (load_file(folder / "plain" / "weights.safetensors") for folder in (tmp_path, two_ranks))
        for name, value in one.items():
            torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-5)
        # Each row is written once.
        logs = [(folder / "plain" / "log.csv").read_text().splitlines() for folder in (tmp_path, two_ranks)]
        assert [row.split(",")[0] for row in logs[0]] == [row.split(",")[0] for row in logs[1]]

    @pytest.mark.slow
    def test_a_killed_rank_ends_a_run_that_resumes_with_the_same_bits(self, two_ranks: Path, tmp_path: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OMP_NUM_THREADS", "1")
            with pytest.raises(RuntimeError, match="rank 1 was killed by signal 9"):
                small_runs.run(tmp_path / "run", {"training.checkpoint_every": 4}, die_at=7, devices=2)
            assert checkpoint(tmp_path / "run")["global_step"] == 4
            shutil.copytree(tmp_path / "run", tmp_path / "alone")
            assert small_runs.run(tmp_path / "run", resume=True, devices=2).world_size == 2
        assert ended_alike(two_ranks / "whole", tmp_path / "run")
        alone = small_runs.run(tmp_path / "alone", resume=True)  # with other dropout, and the same pictures
        assert (alone.world_size, alone.steps) == (1, 10)

    @pytest.mark.parametrize(
        ("environment", "arguments", "message"),
        [
            ({}, {"nodes": 2}, "nodes is 2, and no launcher started this process; expected torchrun, srun or mpirun"),
            ({"RANK": "0", "WORLD_SIZE": "2"}, {"devices": 3}, "devices is 3 .* torchrun started 2 processes"),
            ({"RANK": "0", "WORLD_SIZE": "2"}, {"devices": 2, "nodes": 2}, "nodes is 2, and torchrun started 2"),
            ({}, {"devices": 0}, "devices is 0; expected a whole number of at least 1"),
        ],
    )
    def test_ranks_that_are_not_there(
        self,
        pretrain: Pretrain,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        environment: dict[str, str],
        arguments: dict[str, int],
        message: str,
    ) -> None:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(ValueError, match=message):
            pretrain(output=tmp_path / "run", **arguments)
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        ("environment", "expected"),
        [
            ({"MASTER_ADDR": "here"}, "here"),
            ({"SLURM_STEP_NODELIST": "node[07-09]"}, "node07"),
            ({"SLURM_JOB_NODELIST": "a,b"}, "a"),
        ],
    )
    def test_the_host_of_rank_0(
        self, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str
    ) -> None:
        for name in ("MASTER_ADDR", "SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"):
            monkeypatch.delenv(name, raising=False)
        rank = fdsl.ranks.Rank(0, 4, "Open MPI", 0, 2, 0, 2)
        with pytest.raises(ValueError, match="MASTER_ADDR is not set, and Open MPI does not say it"):
            processes.first_host(rank)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert processes.first_host(rank) == expected


def test_a_run_is_a_function_of_its_seed(pretrain: Pretrain, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        pretrain({"training.seed": seed, "schedule.steps": 2}, output=tmp_path / name)
    a, b, c = (checkpoint(tmp_path / name)["state_dict"] for name in "abc")
    assert same(a, b)
    assert not same(a, c)


def test_pretraining_leaves_the_callers_random_numbers_alone(pretrain: Pretrain, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    pretrain({"schedule.steps": 1}, output=tmp_path / "run")
    assert torch.equal(torch.rand(3), expected)


def test_report_log_and_recipe(pretrain: Pretrain, dataset: fdsl.Dataset, tmp_path: Path) -> None:
    train, held_out = dataset.split(0.8)
    changes = {"schedule.steps": 25, "training.evaluations": 5, "training.held_out_images": 18}
    report = pretrain(changes, train, held_out, output=tmp_path / "run")
    written = json.loads((tmp_path / "run" / "report.json").read_text())
    assert pretraining.PretrainReport(**written) == report
    assert (report.steps, report.held_out_images, report.dataset) == (25, 18, train.digest)
    assert report.images_per_s > 0
    assert 0 <= report.waiting_share <= 1
    assert 0 <= report.held_out_accuracy <= 1
    asked = recipe(changes)
    assert recipe_named(tmp_path / "run") == asked
    assert report.recipe == asked.model_dump(mode="json", exclude_none=True)
    rows = list(csv.DictReader((tmp_path / "run" / "log.csv").read_text().splitlines()))
    assert [row["step"] for row in rows if row["loss"]] == ["10", "20", "25"]
    assert [row["step"] for row in rows if row["held_out_accuracy"]] == ["5", "10", "15", "20", "25"]
    highest = highest_rate(asked.optimizer, 16)
    rates = [learning_rate(asked.schedule, highest, step - 1, 5) for step in (10, 20, 25)]
    assert [float(row["learning_rate"]) for row in rows if row["learning_rate"]] == pytest.approx(rates, rel=1e-4)


def test_epochs_are_of_the_pictures_there_are(pretrain: Pretrain, tmp_path: Path) -> None:
    changes = {"schedule.steps": None, "schedule.epochs": 2}
    assert pretrain(changes, output=tmp_path / "run").steps == 12


def test_weights_are_timms_and_averaged(pretrain: Pretrain, tmp_path: Path) -> None:
    # A rate that does not depend on the run's length, so that one run is the beginning of the other.
    changes = {"schedule.shape": "steps", "schedule.milestones": (9,), "schedule.warmup_share": None}
    torch.manual_seed(0)
    average = Small().state_dict()
    for steps in (1, 2):
        folder = tmp_path / str(steps)
        pretrain({**changes, "schedule.steps": steps, "training.ema": 0.75}, output=folder)
        state = checkpoint(folder)["state_dict"]
        for name, value in average.items():
            average[name] = 0.75 * value + 0.25 * state[f"model.{name}"]
    saved, info = network_from(tmp_path / "2")
    for name, value in saved.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, average[name])
    assert (info.model, len(info.classes), info.channels, info.size) == ("fdsl_small", 4, 1, 24)
    assert (info.mean, info.std) == ((0.5,), (0.5,))


def test_the_bar_says_how_fast_it_goes_and_what_steps_wait(pretrain: Pretrain, tmp_path: Path) -> None:
    from rich.console import Console
    from rich.progress import Progress

    bars = Progress(console=Console(quiet=True))
    pretrain({"schedule.steps": 8}, output=tmp_path / "run", progress=bars)
    note = bars.tasks[0].fields["note"]
    assert re.fullmatch(r"step 8, loss [\d.]+, [\d,]+ images/s, [\d.]+% waiting \(drawn at [1-9][\d,]*/s\)", note), note


def test_it_learns(pretrain: Pretrain, dataset: fdsl.Dataset, tmp_path: Path) -> None:
    train, held_out = dataset.split(0.8)
    changes = {"schedule.steps": 60, "optimizer.learning_rate": 0.02, "augmentation.mixup": 0.0}
    report = pretrain({**changes, "augmentation.erasing": 0.0}, train, held_out, output=tmp_path / "run")
    assert report.held_out_accuracy > 0.5  # chance is a quarter


def test_a_run_can_have_a_time_instead_of_steps(pretrain: Pretrain, tmp_path: Path) -> None:
    report = pretrain({"schedule.steps": None, "schedule.seconds": 0.5}, output=tmp_path / "run")
    assert report.steps >= 1
    assert report.seconds >= 0.5


@pytest.mark.parametrize(
    ("memory", "message"),
    [
        (5, r"out of memory with training.batch_size 16, cpu, \d+ threads; 4 fits \(--set training.batch_size=4\)"),
        (0, "out of memory .*; not even one picture a rank fits"),
    ],
)
def test_out_of_memory_says_what_fits(pretrain: Pretrain, tmp_path: Path, memory: int, message: str) -> None:
    with pytest.raises(MemoryError, match=message):
        pretrain(output=tmp_path / "run", network=Small(memory=memory))


class TestLoggers:
    def test_lightnings_get_what_the_log_gets(self, pretrain: Pretrain, tmp_path: Path) -> None:
        from lightning.pytorch.loggers import CSVLogger

        logger = CSVLogger(tmp_path, "", "csv", flush_logs_every_n_steps=1)
        pretrain(output=tmp_path / "run", loggers=[logger])
        (row,) = csv.DictReader((tmp_path / "csv" / "metrics.csv").read_text().splitlines())
        (ours,) = csv.DictReader((tmp_path / "run" / "log.csv").read_text().splitlines())
        assert (row["step"], float(row["loss"])) == ("10", pytest.approx(float(ours["loss"]), rel=1e-4))

    def test_tensorboard_goes_on_in_a_resumed_run(
        self, pretrain: Pretrain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("tensorboardX")
        changes = {"schedule.steps": 20, "training.checkpoint_every": 5}
        with monkeypatch.context() as patch:
            interrupt_at(patch, 15)
            with pytest.raises(KeyboardInterrupt):
                pretrain(changes, output=tmp_path / "run", loggers=["tensorboard"])
        time.sleep(1)  # its files are named by the second
        pretrain(changes, output=tmp_path / "run", loggers=["tensorboard"], resume=True)
        events = list((tmp_path / "run" / "tensorboard").glob("events*"))
        assert [b"learning_rate" in file.read_bytes() for file in events] == [True, True]

    def test_what_is_not_there_is_named(
        self, pretrain: Pretrain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(ValueError, match="log is 'comet'; expected 'tensorboard' or 'wandb'"):
            pretrain(output=tmp_path / "run", loggers=["comet"])
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(ImportError, match=r"log 'tensorboard' needs tensorboardX, .*; pip install tensorboardX"):
            pretrain(output=tmp_path / "run", loggers=["tensorboard"])
        assert not (tmp_path / "run").exists()


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
        pretrain({"model.name": model}, dataset, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_vision_transformer_takes_the_size_of_the_pictures(
    catalog: fdsl.Catalog, pretrain: Pretrain, tmp_path: Path
) -> None:
    dataset = fdsl.Dataset(catalog, 2, fdsl.RenderSpec(size=32, points=1000, channels=3))
    changes = {"model.name": "test_vit", "schedule.steps": 1, "training.batch_size": 4}
    assert pretrain(changes, dataset, output=tmp_path / "run").steps == 1
    assert network_from(tmp_path / "run")[1].size == 32


@pytest.mark.parametrize(
    ("changes", "changed", "message"),
    [
        ({"training.batch_size": 1000}, {}, "batch_size is 1000; expected at most the 100 images"),
        ({}, {"device": "tpu"}, "device is 'tpu'; expected 'auto', 'cpu', 'cuda'"),
    ],
)
def test_arguments_out_of_range(
    pretrain: Pretrain, tmp_path: Path, changes: dict[str, Any], changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        pretrain(changes, output=tmp_path / "run", **changed)
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


def test_a_row_that_was_cut_off_is_left_out_of_the_log(tmp_path: Path) -> None:
    from fdsl.train.run_folder import append_log, start_log

    header = "step,seconds,loss,learning_rate,held_out_accuracy\n"
    (tmp_path / "log.csv").write_text(f"{header}10,1,2,0.1,\n20,2,1,0.1,\n1")
    start_log(tmp_path, 10)
    append_log(tmp_path, {"step": 20, "loss": 1.5})
    assert (tmp_path / "log.csv").read_text() == f"{header}10,1,2,0.1,\n20,,1.5,,\n"


def test_a_loss_that_is_no_number_ends_the_run(pretrain: Pretrain, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the loss is nan at step 10; expected a number: a lower optimizer\.learning"):
        pretrain({"optimizer.learning_rate": 1e30}, output=tmp_path / "run")
    assert not (tmp_path / "run" / "weights.safetensors").exists()


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"schedule.warmup_share": None, "schedule.warmup_epochs": 2}, "has 10 steps, and the warm-up takes 12 steps"),
        ({"schedule.shape": "steps", "schedule.milestones": (3, 5)}, "and the first milestone comes after 18 steps"),
    ],
)
def test_a_run_that_is_too_short_for_its_schedule_is_told(
    pretrain: Pretrain, tmp_path: Path, schedule: dict[str, Any], message: str
) -> None:
    with pytest.warns(UserWarning, match=message):
        pretrain(schedule, output=tmp_path / "run")


def test_a_demo_replaces_nothing_but_a_demo(tmp_path: Path) -> None:
    from fdsl.train.demo import demo

    (tmp_path / "report.json").write_text('{"steps": 10}')
    with pytest.raises(FileExistsError, match="holds something else than a demo"):
        demo(tmp_path, progress=False)


@pytest.mark.slow
def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    from fdsl.train.demo import demo

    folder = tmp_path / "runs" / "demo"
    (folder / "figures").mkdir(parents=True)
    (folder / "report.json").write_text('{"engine_images_per_s": 1}')  # an earlier one, which is replaced
    monkeypatch.chdir(folder)
    report = demo(".", seconds=3, progress=False)
    assert not (folder / "figures").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["demo"]
    assert json.loads((folder / "report.json").read_text()) == report
    assert {"engine_images_per_s", "images_per_s", "waiting_share", "held_out_accuracy"} <= report.keys()
    for name in ("contact_sheet.png", "curves.png"):
        with Image.open(folder / name) as image:
            image.load()
            assert min(image.size) > 300
    assert len(fdsl.Catalog.load(folder / "catalog.safetensors")) == 100
    monkeypatch.chdir("/")
    recipe = recipe_named(folder)
    assert (recipe.schedule.seconds, open_source(recipe.data).digest) == (3, report["dataset"])
    assert open_source(recipe.data).digest == report["dataset"]
    assert len(network_from(folder)[1].classes) == 100
    assert [path.name for path in folder.parent.iterdir()] == ["demo"]
