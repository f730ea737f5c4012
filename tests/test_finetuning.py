from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

pytest.importorskip("lightning")
pytest.importorskip("timm")
pytest.importorskip("sklearn")
import timm
import torch
from PIL import Image
from typer.testing import CliRunner

from fdsl.cli import app
from fdsl.train import finetuning
from fdsl.train.finetuning import freeze_stages
from fdsl.train.run_folder import alone_in
from fdsl.train.weights import WeightsInfo, save_weights

VIT = {"depth": 2, "embed_dim": 48, "num_heads": 3, "patch_size": 8}
# Pictures of 16 pixels, three steps.
SMALL = ("schedule.steps=3", "schedule.warmup_epochs=0", "training.batch_size=64", "training.evaluations=1")
Finetune = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder, with the weights of a network that has learnt nothing."""
    return untrained(tmp_path / "runs" / "a")


def untrained(folder: Path, seed: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    options = VIT | {"drop_path_rate": 0.1}
    network = timm.create_model("vit_tiny_patch16_224", img_size=16, num_classes=6, in_chans=1, **options)
    info = WeightsInfo("vit_tiny_patch16_224", options, list("abcdef"), 1, 16, (0.2,), (0.5,))
    save_weights(folder / "weights.safetensors", network, info)
    return folder


@pytest.fixture
def finetune(tmp_path: Path, run: Path) -> Finetune:
    def call(source: Any = run, data: str = "digits", **changed: Any) -> Any:
        arguments = {"output": tmp_path / "out", "set": SMALL, "device": "cpu", "progress": False}
        return finetuning.finetune(source, data, **arguments | changed)

    return call


def learns(network: Any) -> set[str]:
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


RESNET_STAGES = ("conv1.", "bn1."), ("layer1.",), ("layer2.",), ("layer3.",), ("layer4.",)
VIT_STAGES = ("cls_token", "pos_embed", "patch_embed."), ("blocks.0.",), ("blocks.1.", "norm.")


@pytest.mark.parametrize(
    ("model", "options", "stages"),
    [("resnet18", {}, RESNET_STAGES), ("resnet50", {}, RESNET_STAGES), ("vit_tiny_patch16_224", VIT, VIT_STAGES)],
)
def test_the_table_of_frozen_stages(model: str, options: dict[str, Any], stages: tuple[tuple[str, ...], ...]) -> None:
    def made() -> Any:
        with torch.device("meta"):
            return timm.create_model(model, **options)

    every = learns(made())
    for count in range(len(stages) + 1):
        network = made()
        prefixes = tuple(prefix for stage in stages[:count] for prefix in stage)
        frozen = {name for name in every if name.startswith(prefixes)} if count else set()
        assert set(freeze_stages(network, count)) == frozen
        assert learns(network) == every - frozen
    with pytest.raises(ValueError, match=f"freeze is {count + 1}; expected 0 to {count}, the stages in front"):
        freeze_stages(network, count + 1)


def test_frozen_batch_norms_keep_their_statistics() -> None:
    import copy
    import pickle

    network = timm.create_model("resnet10t", num_classes=2)
    freeze_stages(network, 2)
    for other in (network, copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        other.train()
        before = {name: value.clone() for name, value in other.state_dict().items()}
        other(torch.rand(2, 3, 32, 32))
        moved = {name for name, value in other.state_dict().items() if not torch.equal(value, before[name])}
        assert moved
        assert not any(name.startswith(("conv1", "bn1", "layer1")) for name in moved)
        assert any(name.startswith("layer2") for name in moved)


def test_a_model_without_stages() -> None:
    with pytest.raises(ValueError, match="freeze is 1; expected 0, as timm knows no stages of Linear"):
        freeze_stages(torch.nn.Linear(2, 2), 1)


def test_weights_beside_scratch_over_seeds(finetune: Finetune, run: Path, tmp_path: Path) -> None:
    report = finetune([run, "scratch"], seeds=(0, 1))
    assert (report.classes, report.train_images, report.test_images) == (10, 1198, 599)
    assert [(result.source, result.model) for result in report.results] == [
        (str(run), "vit_tiny_patch16_224"),
        ("scratch", "vit_tiny_patch16_224"),
    ]
    for result in report.results:
        assert (result.seeds, result.interval) == ([0, 1], "seeds")
        assert result.low <= result.mean <= result.high
        assert result.mean == pytest.approx(sum(result.accuracies) / 2, abs=1e-6)
    out = tmp_path / "out"
    assert json.loads((out / "results.json").read_text())["results"][1]["accuracies"] == report.results[1].accuracies
    rows = list(csv.DictReader((out / "results.csv").read_text().splitlines()))
    assert [(row["source"], row["seed"]) for row in rows] == [
        (source, seed) for source in (str(run), "scratch") for seed in "01"
    ]
    assert [float(row["accuracy"]) for row in rows[2:]] == report.results[1].accuracies
    lines = (out / "results.md").read_text().splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[3].split("|")[1].strip() == "scratch"
    folders = [str(path.parent.relative_to(out)) for path in out.rglob("recipe.yaml")]
    assert {"scratch/seed-0", "scratch/seed-1"} < set(folders)
    assert len(folders) == 4


def test_the_recipe_is_that_of_the_architecture_and_the_size_that_of_the_weights(
    finetune: Finetune, tmp_path: Path
) -> None:
    from fdsl.train.recipes import recipe_named

    finetune(set=(*SMALL, "optimizer.weight_decay=0.01"))
    (folder,) = tmp_path.glob("out/*/seed-0")
    recipe = recipe_named(folder)
    assert (recipe.data.size, recipe.data.source, recipe.optimizer.weight_decay) == (16, "digits", 0.01)
    assert recipe.augmentation == recipe_named("finetune-deit").augmentation
    assert recipe.model.options == VIT | {"drop_path_rate": 0.0}
    report = finetune("scratch:resnet10t", output=tmp_path / "resnet", set=(*SMALL, "data.size=16"), few_shot=2)
    recipe = recipe_named(tmp_path / "resnet" / "scratch-resnet10t" / "seed-0")
    assert (recipe.data.size, recipe.data.crop_of) == (16, 18)  # 256 of 224: a seventh at the edges, at any size
    assert recipe.schedule.shape == "steps"
    assert recipe.training.batch_size == report.train_images == 20


def test_a_repeated_call_does_what_is_left(
    finetune: Finetune, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrain, seen = finetuning.pretrain, []

    def interrupted(recipe: Any, **arguments: Any) -> Any:
        seen.append(recipe.training.seed)
        if recipe.training.seed == 1 and seen.count(1) == 1:
            raise KeyboardInterrupt
        return pretrain(recipe, **arguments)

    monkeypatch.setattr(finetuning, "pretrain", interrupted)
    with pytest.raises(KeyboardInterrupt, match=r"interrupted in .*seed-1; the same call again goes on there"):
        finetune(seeds=(0, 1))
    (first,) = json.loads((tmp_path / "out" / "results.json").read_text())["results"]
    assert first["seeds"] == [0]
    report = finetune(seeds=(0, 1, 2))
    assert seen == [0, 1, 1, 2]
    assert report.results[0].accuracies[0] == first["accuracies"][0]
    for changed, message in (
        ({"freeze": 1}, "its freeze is 0, and 1 was asked for"),
        ({"set": ("schedule.steps=4", *SMALL[1:])}, "its schedule.steps is 3, and 4 was asked for"),
    ):
        with pytest.raises(ValueError, match=f"{message}; expected another output folder"):
            finetune(**changed)
    assert seen == [0, 1, 1, 2]
    untrained(run, seed=2)  # other weights in the same place: runs of their own
    assert finetune().results[0].seeds == [0]
    assert seen[4:] == [0]


def test_an_interrupted_run_goes_on_with_its_own_settings_alone(
    finetune: Finetune, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fdsl.train import pretraining

    steps, after_step = [], pretraining._Run.on_train_batch_end

    def interrupted(self: Any, trainer: Any, module: Any, *arguments: Any) -> None:
        after_step(self, trainer, module, *arguments)
        steps.append(module.step)
        if len(steps) == 2:
            raise KeyboardInterrupt

    changed = {"set": (*SMALL, "training.checkpoint_every=1")}
    monkeypatch.setattr(finetuning._Entry, "fine_tuned", Mock(side_effect=MemoryError))
    with pytest.raises(MemoryError):
        finetune(set=(*SMALL, "training.batch_size=128"))  # without a checkpoint it binds nobody
    monkeypatch.undo()
    monkeypatch.setattr(pretraining._Run, "on_train_batch_end", interrupted)
    with pytest.raises(KeyboardInterrupt, match="goes on there"):
        finetune(**changed)
    with pytest.raises(ValueError, match="its freeze is 0, and 2 was asked for; expected another output folder"):
        finetune(**changed, freeze=2)
    report = finetune(**changed)
    assert steps == [1, 2, 3]
    assert report.results == finetune(**changed, output=tmp_path / "at-once").results
    untrained(run, seed=2)
    steps[:] = [0, 0, 0]
    finetune(**changed)
    assert steps[3:] == [1, 2, 3]


def test_sources_have_folders_of_their_own(finetune: Finetune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    alike = ["runs/a", "runs-a", "b/a", "./scratch", "x" * 200]  # the last leaves no place for a longer name
    for seed, name in enumerate(alike, 1):
        untrained(tmp_path / name, seed)
    report = finetune([*alike, "scratch"], knn=1)
    there = {
        file.parent.parent.name: json.loads(file.read_text()) for file in tmp_path.glob("out/*/seed-0/result.json")
    }
    found = [there.pop("scratch"), *there.values()]
    assert len({result["settings"]["weights"] for result in found}) == 6
    assert sorted(result["accuracy"] for result in found) == sorted(one.accuracies[0] for one in report.results)
    assert all(len(name) < 80 for name in there)
    with pytest.raises(ValueError, match=r"source runs/\.\./runs/a is runs/a again; expected each once"):
        finetune(["runs/a", "runs/../runs/a"])


def test_one_process_at_a_time(finetune: Finetune, tmp_path: Path) -> None:
    with (
        alone_in(tmp_path / "out"),
        pytest.raises(RuntimeError, match=r"another process is at work on .*out; expected"),
    ):
        finetune(knn=1)
    assert finetune(knn=1).how == "1-NN"


@pytest.mark.parametrize("changed", [{"linear": True}, {"knn": 5}, {"knn": 1, "knn_temperature": None}])
def test_frozen_features(finetune: Finetune, run: Path, changed: dict[str, Any]) -> None:
    report = finetune([run, "scratch"], seeds=(0, 1), **changed)
    fixed, scratch = report.results
    assert (fixed.seeds, fixed.interval) == ([0], "images")  # a second seed would give the same
    assert fixed.low < fixed.mean < fixed.high
    assert (scratch.seeds, scratch.interval) == ([0, 1], "seeds")
    assert min(fixed.mean, scratch.mean) > 0.5  # digits are told by their pixels; chance is a tenth


def test_few_pictures_of_a_class(finetune: Finetune) -> None:
    report = finetune(knn=1, few_shot=3, seeds=(0, 1, 2))
    assert (report.train_images, report.few_shot) == (30, 3)
    assert len(set(report.results[0].accuracies)) > 1  # the seed chooses the pictures
    assert report.results[0].interval == "seeds"


def test_corrupt_pictures_are_named_and_left_out_only_with_a_flag(finetune: Finetune, tmp_path: Path) -> None:
    for number in range(12):
        folder = tmp_path / "pictures" / ("train" if number < 8 else "val") / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 16), 20 * number).save(folder / f"{number}.png")
    (tmp_path / "pictures" / "train" / "a" / "0.png").write_bytes(b"no picture")
    data = f"imagefolder:{tmp_path / 'pictures'}"
    with pytest.raises(ValueError, match=r"0\.png"):
        finetune(data=data, knn=1)
    with pytest.warns(UserWarning, match=r"0\.png"):
        report = finetune(data=data, knn=1, skip_corrupt=True)
    assert report.test_images == 4


def test_frozen_stages_are_not_trained(finetune: Finetune, run: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    finetune(freeze=2)
    (folder,) = tmp_path.glob("out/*/seed-0")
    before, after = load_file(run / "weights.safetensors"), load_file(folder / "weights.safetensors")
    assert torch.equal(before["blocks.0.mlp.fc1.weight"], after["blocks.0.mlp.fc1.weight"])
    assert not torch.equal(before["blocks.1.mlp.fc1.weight"], after["blocks.1.mlp.fc1.weight"])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"source": "scratch"}, "source is 'scratch'; expected model, or a source"),
        ({"source": []}, "source is empty"),
        (
            {"source": ["scratch:vit_tiny_patch16_224"] * 2},
            "source scratch:vit_tiny_patch16_224 is scratch:vit_ti.* again",
        ),
        ({"seeds": (0, 0)}, r"seeds is \(0, 0\); expected a list"),
        ({"seeds": 3}, "seeds is 3; expected a list"),
        ({"set": ("model.name=resnet18",)}, r"model\.name has no effect in fine-tuning; expected model \(--model\)"),
        ({"set": ("training.seed=7",)}, r"training\.seed has no effect in fine-tuning; expected seeds \(--seeds\)"),
        ({"knn": 1, "knn_temperature": -1.0}, "knn_temperature is -1.0"),
        ({"linear": True, "knn": 3}, "linear and knn are set; expected one of them"),
        ({"knn": 0}, "knn is 0"),
        ({"few_shot": 1000}, "few_shot is 1000, but class"),
        ({"freeze": -1}, "freeze is -1"),
        ({"freeze": 4}, "freeze is 4; expected 0 to 3"),
        ({"knn": 2000}, "knn is 2000; expected at most the 1198"),
        ({"model": "resnet18"}, "does not fit resnet18: it has no conv1.weight"),
        ({"recipe": "finetune-diet"}, "no recipe 'finetune-diet'.*finetune-deit"),
        ({"data": "digit"}, "digits"),
        ({"device": "tpu"}, "device is 'tpu'"),
        ({"devices": 2, "linear": True}, "devices is 2; expected 1 for linear"),
    ],
)
def test_arguments_out_of_range(finetune: Finetune, tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        finetune(**changed)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else(finetune: Finetune, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("")
    with pytest.raises(FileExistsError, match="out is not empty; expected a new or empty folder"):
        finetune()


def command(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["finetune", *map(str, arguments)], prog_name="fdsl")


def test_command(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ask = ("--from", "runs/a", "--from", "scratch", "--data", "digits", "--knn", "3", "--seeds", "2")
    result = command(*ask, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["how"], [len(found["seeds"]) for found in report["results"]]) == ("3-NN", [1, 2])
    assert command(*ask).stdout == (tmp_path / "runs" / "digits" / "results.md").read_text()
    (found,) = tmp_path.glob("runs/digits/a-*/seed-0/result.json")
    assert json.loads(found.read_text()).keys() == {"accuracy", "settings"}
    result = command(*ask, "--linear")
    assert (result.exit_code, result.stderr) == (1, "error: linear and knn are set; expected one of them\n")
    assert command("--from", "runs/b", "--data", "digits").stderr.startswith("error: runs/b is not there; expected")
