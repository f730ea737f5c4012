from __future__ import annotations

import csv
import datetime
import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

import fdsl

pytest.importorskip("fdsl.train.study")
from test_cli import error_of
from test_cli import run as fdsl_command

from fdsl.train import study as studies
from fdsl.train.finetuning import FinetuneReport, SourceResult
from fdsl.train.pretraining import PretrainReport
from fdsl.train.recipes import recipe_named
from fdsl.train.run_folder import alone_in
from fdsl.train.study_files import study_named, study_names
from fdsl.train.study_tables import table


@dataclass
class Runs:
    """Pre-training and fine-tuning that take no time, and what they were asked for."""

    pretrained: list[str] = field(default_factory=list)
    recipes: list[Any] = field(default_factory=list)
    finetuned: list[dict[str, Any]] = field(default_factory=list)
    interrupt_in: str = ""

    def pretrain(self, recipe: Any, *, output: Path, resume: bool, device: str, progress: Any) -> PretrainReport:
        assert resume
        # An accuracy that tells points and seed.
        accuracy = (recipe.data.points or 0) / 100_000 + recipe.training.seed / 10
        figures = (1, 1.0, 1000.0, 0.0, 2.5, accuracy, 1, 1)
        settings = recipe.model_dump(mode="json")
        report = PretrainReport(recipe.model.name, "", 1, *figures, device, {}, settings)
        if (output / "report.json").is_file():  # done, and of the same settings, or refused
            assert json.loads((output / "report.json").read_text())["recipe"] == settings
            return report
        self.pretrained.append(output.name)
        self.recipes.append(recipe)
        output.mkdir(parents=True, exist_ok=True)
        (output / "log.csv").write_text("step,loss\n10,3.0\n20,2.5\n")
        if self.interrupt_in and self.interrupt_in in output.name:
            raise KeyboardInterrupt
        (output / "report.json").write_text(json.dumps(asdict(report)))
        return report

    def finetune(self, source: Any, data: str, *, output: Path, **arguments: Any) -> FinetuneReport:
        self.finetuned.append({"source": str(source), "data": data, **arguments})
        if self.interrupt_in == data:
            (output / "a" / "seed-0").mkdir(parents=True)
            (output / "a" / "seed-0" / "last.ckpt").write_text("")
            raise KeyboardInterrupt
        seeds = list(arguments.get("seeds", (0,)))
        accuracies = [0.5 + seed / 10 for seed in seeds]
        result = SourceResult(str(source), "resnet10t", seeds, accuracies, 0.5, 0.4, 0.6, "seeds")
        return FinetuneReport(data, "fine-tuned", None, 10, 100, 100, [result])


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    found = Runs()
    monkeypatch.setattr(studies, "pretrain", found.pretrain)
    monkeypatch.setattr(studies, "finetune", found.finetune)
    return found


POINTS: dict[str, Any] = {
    "title": "Points",
    "recipe": "tiny-resnet",
    "vary": {"data.points": [10000, 50000], "training.seed": [0, 2]},
    "rows": "data.points",
}
TUNED: dict[str, Any] = {
    "recipe": "tiny-resnet",
    "vary": {"data.points": [10000, 50000], "finetune.data": ["digits", "cifar10"]},
    "finetune": {"seeds": [0, 1], "few_shot": 5, "set": {"schedule.steps": 7}},
    "columns": "finetune.data",
}


def study_file(folder: Path, said: dict[str, Any]) -> Path:
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(said, sort_keys=False))
    return file


def run(folder: Path, said: dict[str, Any], **arguments: Any) -> Any:
    return studies.study(study_file(folder, said), output=folder / "out", device="cpu", progress=False, **arguments)


def test_the_table_has_means_over_seeds(runs: Runs, tmp_path: Path) -> None:
    report = run(tmp_path, POINTS)
    # Two seeds, 0.2 apart: a standard error of 0.1, times 12.706 for one degree of freedom.
    assert [(entry.levels, round(entry.mean, 9), round(entry.interval, 4)) for entry in report.entries] == [
        ({"data.points": "10000"}, 0.2, 1.2706),
        ({"data.points": "50000"}, 0.6, 1.2706),
    ]
    assert table(report) == (
        ["points", "held out accuracy (%)"],
        [["10,000", "20.0 ± 127.1"], ["50,000", "60.0 ± 127.1"]],
    )
    out = tmp_path / "out"
    assert (
        "| points | held out accuracy (%) |\n| --- | --: |\n| 10,000 | 20.0 ± 127.1 |" in (out / "table.md").read_text()
    )
    rows = list(csv.DictReader((out / "table.csv").read_text().splitlines()))
    assert (rows[1]["data.points"], rows[1]["held_out_accuracy"], rows[1]["values"]) == ("50000", "0.6", "0.5 0.7")
    assert json.loads((out / "results.json").read_text())["entries"][0]["values"] == pytest.approx([0.1, 0.3])
    assert (out / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert {folder.name for folder in (out / "cells").iterdir()} == {
        f"points={points},seed={seed}" for points in (10000, 50000) for seed in (0, 2)
    }


def test_cells_share_what_is_pretrained_alike(runs: Runs, tmp_path: Path) -> None:
    report = run(tmp_path, TUNED)
    assert runs.pretrained == ["points=10000", "points=50000"]
    assert [tuned["data"] for tuned in runs.finetuned] == ["digits", "cifar10"] * 2
    assert {tuned["source"] for tuned in runs.finetuned[2:]} == {str(tmp_path / "out" / "runs" / "points=50000")}
    assert runs.finetuned[0] | {"source": ""} == {
        "source": "",
        "data": "digits",
        "device": "cpu",
        "progress": False,
        "seeds": [0, 1],
        "few_shot": 5,
        "set": ("schedule.steps=7",),
    }
    heading, rows = table(report)
    assert heading == ["points", "digits", "cifar10"]
    assert rows[0] == ["10,000", "55.0 ± 63.5", "55.0 ± 63.5"]  # of 0.5 and 0.6: 12.706 x 0.05


def test_with_seeds_of_pretraining_each_counts_once(runs: Runs, tmp_path: Path) -> None:
    said = TUNED | {"vary": {"data.points": [10000, 50000], "training.seed": [0, 1]}, "columns": []}
    said["finetune"] = said["finetune"] | {"data": "digits"}
    entry = run(tmp_path, said).entries[0]
    assert entry.values == pytest.approx([0.55, 0.55])  # not the four accuracies of two runs


def test_what_is_done_is_not_done_again(runs: Runs, tmp_path: Path) -> None:
    runs.interrupt_in = "points=50000,seed=0"
    with pytest.raises(KeyboardInterrupt, match=r"interrupted in points=50000,seed=0; the same command goes on"):
        run(tmp_path, POINTS)
    written = (tmp_path / "out" / "table.md").read_text()
    assert "| 10,000 | 20.0 ± 127.1 |\n| 50,000 | – |" in written
    runs.interrupt_in = ""
    report = run(tmp_path, POINTS)
    assert runs.pretrained[2:] == ["points=50000,seed=0", "points=50000,seed=0", "points=50000,seed=2"]
    shutil.rmtree(tmp_path / "out" / "runs")  # to free space: what is done needs it no more
    assert [cell.run_state for cell in studies.plan(tmp_path / "study.yaml", tmp_path / "out")] == ["done"] * 4
    more = POINTS | {"vary": {"data.points": [10000, 50000, 90000], "training.seed": [0, 2]}}
    assert run(tmp_path, more).entries[:2] == report.entries
    assert runs.pretrained[5:] == ["points=90000,seed=0", "points=90000,seed=2"]


def test_an_interrupted_fine_tuning_keeps_its_checkpoint(runs: Runs, tmp_path: Path) -> None:
    runs.interrupt_in = "digits"
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, TUNED)
    runs.interrupt_in = ""
    run(tmp_path, TUNED)
    (cell,) = (tmp_path / "out" / "cells").glob("*/a/seed-0/last.ckpt")
    assert cell.parent.parent.parent.name == "points=10000,data=digits"


def test_cells_of_other_settings_are_refused(runs: Runs, tmp_path: Path) -> None:
    run(tmp_path, POINTS)
    with pytest.raises(ValueError, match=r"points=10000,seed=0 was run with data\.size 48, and the study says 64"):
        run(tmp_path, POINTS | {"set": {"data.size": 64}})
    assert len(runs.pretrained) == 4
    with pytest.raises(FileExistsError, match="out is of the study 'Points'; expected that of 'Others', or a new"):
        run(tmp_path, POINTS | {"title": "Others"})


def test_files_that_a_study_names_are_told_apart_by_content(runs: Runs, tmp_path: Path) -> None:
    names = [tmp_path / f"{name}.yaml" for name in ("before", "after")]
    said = {"recipe": str(names[0]), "vary": {"data.draw": ["point", "patch"]}}
    said["finetune"] = {"data": "digits", "recipe": str(names[1])}
    for name in names:
        name.write_text(recipe_named("tiny-resnet").yaml())
    report = run(tmp_path, said)
    for name, key in zip(names, ("schedule", r"finetune\.recipe\.schedule"), strict=True):
        name.write_text(recipe_named("tiny-resnet", ["schedule.steps=777"]).yaml())
        with pytest.raises(ValueError, match=rf"draw=point was run with {key}\.\w+ .*, and the study says "):
            run(tmp_path, said)
        name.write_text(recipe_named("tiny-resnet").yaml())
    assert run(tmp_path, said) == report


def test_another_measure_is_read_from_what_is_done(runs: Runs, tmp_path: Path) -> None:
    run(tmp_path, POINTS)
    heading, rows = table(run(tmp_path, POINTS | {"measure": "train_loss"}))
    assert (heading, rows[0]) == (["points", "train loss"], ["10,000", "2.500 ± 0.000"])
    assert len(runs.pretrained) == 4


def test_settings_that_change_together(runs: Runs, tmp_path: Path) -> None:
    vary = {
        "picture": [{"name": "small", "data.size": 32, "data.points": 1000}, {"data.size": 64, "data.points": 4000}]
    }
    report = run(tmp_path, {"recipe": "tiny-resnet", "vary": vary})
    assert [entry.levels for entry in report.entries] == [{"picture": "small"}, {"picture": "64, 4000"}]
    assert [(recipe.data.size, recipe.data.points) for recipe in runs.recipes] == [(32, 1000), (64, 4000)]


def test_a_catalog_is_searched_once(runs: Runs, tmp_path: Path) -> None:
    said = {"recipe": "tiny-resnet", "catalog": {"family": "rcdb", "seed": 1}}
    said["set"] = {f"data.{name}": None for name in ("points", "draw", "color", "pad")}
    said["vary"] = {"catalog.categories": [2, 3], "data.instances": [10, 20]}
    run(tmp_path, said | {"columns": "data.instances"})
    assert [len(fdsl.catalog(recipe.data.source)) for recipe in runs.recipes] == [2, 2, 3, 3]
    assert fdsl.catalog(runs.recipes[-1].data.source) == fdsl.search("rcdb", 3, seed=1)
    assert len(list((tmp_path / "out" / "catalogs").iterdir())) == 2


def test_scratch_and_weights_of_others(runs: Runs, tmp_path: Path) -> None:
    said = TUNED | {"vary": {"from": [None, "scratch", "timm:resnet18"]}, "columns": []}
    said["finetune"] = {"data": "digits", "set": {"data.size": 32}}
    _, rows = table(run(tmp_path, said))
    assert [row[0] for row in rows] == ["none", "scratch", "timm:resnet18"]
    assert [tuned["source"] for tuned in runs.finetuned[1:]] == ["scratch:resnet10t", "timm:resnet18"]
    assert len(runs.pretrained) == 1


def test_seeds_of_pretraining_count_nothing_without_it(runs: Runs, tmp_path: Path) -> None:
    said = TUNED | {"vary": {"from": [None, "scratch"], "training.seed": [0, 1]}, "columns": []}
    said["finetune"] = {"data": "digits", "set": {"data.size": 32}}
    trained, scratch = run(tmp_path, said).entries
    assert (len(trained.values), trained.interval) == (2, 0)
    assert (scratch.values, scratch.interval) == ([0.5], None)
    assert len(runs.finetuned) == 3


def test_a_dry_run_says_what_each_cell_takes(runs: Runs, tmp_path: Path) -> None:
    said = POINTS | {"set": {"schedule.steps": 100, "training.batch_size": 32}}
    file = study_file(tmp_path, said)
    planned = studies.plan(file, tmp_path / "out")
    assert [(cell.cell, cell.steps, cell.images, cell.hours) for cell in planned][:2] == [
        ("points=10000,seed=0", 100, 3200, None),
        ("points=10000,seed=2", 100, 3200, None),
    ]
    assert not (tmp_path / "out").exists()
    runs.interrupt_in = "points=10000,seed=2"
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, said)
    planned = studies.plan(file, tmp_path / "out")
    assert [cell.done for cell in planned] == [True, False, False, False]
    assert planned[1].hours == round(3200 / 1000 / 3600, 3)
    # 2 categories x 10 instances, 5 epochs of 6 batches of 3; two fine-tunings share the run.
    said = {"recipe": "tiny-resnet", "catalog": {"family": "rcdb", "categories": 2}}
    said["set"] = {"data.instances": 10, "data.held_out": 0, "schedule.epochs": 5, "training.batch_size": 3}
    said["finetune"] = {"seeds": [0, 1, 2]}
    said["vary"] = {"finetune.data": ["digits", "cifar10"]}
    planned = studies.plan(study_file(tmp_path, said), tmp_path / "none")
    assert [(cell.steps, cell.images, cell.finetunes, cell.run_state) for cell in planned] == [
        (30, 90, 3, "to do"),
        (30, 90, 3, "shared"),
    ]
    # Whole weight rows are held out: of 4 categories 4 x 920 pictures are left, and not 4 x 900.
    said = {"recipe": "tiny-resnet", "catalog": {"family": "fractaldb", "categories": 4}}
    said["set"] = {"data.instances": 1000, "data.held_out": 0.1, "schedule.epochs": 5, "training.batch_size": 32}
    said["vary"] = {"data.draw": ["point", "patch"]}
    assert studies.plan(study_file(tmp_path, said), tmp_path / "none")[0].images == 5 * 4 * 920


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"varry": {}}, r"no key varry \(did you mean vary\?\); expected one of title"),
        ({"recipe": None}, "recipe is missing"),
        ({"recipe": "tiny-resnett"}, "there is no recipe 'tiny-resnett'; expected .*tiny-resnet"),
        (
            {"vary": {"data.point": [1, 2]}, "rows": []},
            r"data\.point=1: unknown key 'data\.point'; did you mean data\.points\?",
        ),
        ({"vary": {"dat.points": [1, 2]}}, r"no setting 'dat\.points': dat \(did you mean data\?\)"),
        ({"vary": {"data.points": 5}}, r"vary: data\.points is 5; expected a list"),
        ({"vary": {"data.points": []}}, r"vary: data\.points is \[\]; expected a list"),
        ({"vary": {"data.points": [1000, 1000]}}, r"vary: data\.points has two levels called 1000"),
        ({"vary": {"points": [1000, 2000]}}, "vary: points has 1000; expected mappings of settings"),
        ({"vary": {"data.points": ["many"]}}, r"data\.points.* is 'many'"),
        ({"vary": {}}, "vary is missing"),
        ({"rows": "data.pionts"}, r"no axis in rows data\.pionts \(did you mean data\.points\?\)"),
        (
            {"vary": {"data.points": [1, 2], "data.size": [8, 9]}},
            r"data\.size is varied, and neither in rows nor in col",
        ),
        ({"measure": "accuracy"}, "measure is accuracy, which fine-tuning has"),
        (
            {"finetune": {"data": "digits", "few_shots": 5}},
            r"no setting finetune\.few_shots \(did you mean few_shot\?\)",
        ),
        ({"finetune": {"few_shot": 5}}, r"finetune\.data is missing"),
        ({"catalog": {"famly": "rcdb"}}, r"catalog\.family is missing; expected one of .*rcdb"),
        ({"catalog": {"family": "rcbd"}}, "rcbd.*rcdb"),
        ({"catalog": {"family": "rcdb", "lnes": [1, 2]}}, r"no setting of rcdb catalog\.lnes \(did you mean lines\?\)"),
        ({"from": "scratch", "finetune": {"data": "digits"}}, r"expected data\.size in finetune\.set"),
        ({"finetune": {"data": "digitz"}}, r"no dataset in finetune\.data: digitz \(did you mean digits\?\)"),
        ({"finetune": {"data": 5}}, r"finetune\.data is 5; expected text"),
        (
            {"finetune": {"data": "digits", "set": {"data.sizes": 3}}},
            r"unknown key 'data\.sizes'; did you mean data\.size",
        ),
        ({"finetune": {"data": "digits", "set": {"training.seed": 3}}}, "has no effect in fine-tuning; expected seeds"),
        ({"finetune": {"data": "digits", "few_shot": "ten"}}, "few_shot is 'ten'; expected a whole number"),
        ({"finetune": {"data": "digits", "linear": True, "knn": 3}}, "linear and knn are set"),
        ({"finetune": {"data": "digits", "seeds": 3}}, "seeds is 3; expected a list"),
        ({"measure": "held_out_acuracy"}, r"no measure held_out_acuracy \(did you mean held_out_accuracy\?\)"),
        ({"measure": "model"}, "no measure model"),
        ({"catalog": {"family": "fractaldb"}, "set": {"data.held_out": 0}}, r"data\.held_out is 0, and held_out_acc"),
        ({"rows": 3}, r"no axis in rows 3; expected one of data\.points"),
        ({"recipe": ["tiny-resnet"]}, r"recipe is \['tiny-resnet'\]; expected text"),
        ({"set": {"data.size": datetime.date(2024, 1, 1)}}, r"data\.size is '2024-01-01'"),
    ],
)
def test_errors_name_file_key_and_near_name(runs: Runs, tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"study\.yaml: .*{message}"):
        run(tmp_path, POINTS | changed)
    assert not (tmp_path / "out").exists()


def test_other_errors(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("vary: [")
    with pytest.raises(ValueError, match=r"broken\.yaml, line 1: not YAML"):
        study_named(tmp_path / "broken.yaml")
    with pytest.raises(ValueError, match="there is no study 'pionts'; expected a YAML file or a name such as points"):
        study_named("pionts")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("")
    with pytest.raises(FileExistsError, match="out holds something else"):
        run(tmp_path, POINTS)
    own = tmp_path / "out" / "study.yaml"
    (tmp_path / "out" / "thesis.tex").rename(own)
    with pytest.raises(FileExistsError, match="out holds something else"):
        run(tmp_path, POINTS)
    assert own.read_text() == ""


def test_one_process_at_a_time(runs: Runs, tmp_path: Path) -> None:
    with alone_in(tmp_path / "out"), pytest.raises(RuntimeError, match="another process is at work on "):
        run(tmp_path, POINTS)
    assert runs.pretrained == []
    run(tmp_path, POINTS)


@pytest.mark.parametrize("name", study_names())
def test_the_studies_of_the_package(name: str, tmp_path: Path) -> None:
    found = study_named(name)
    assert found.title
    assert found.source
    planned = studies.plan(name, tmp_path)
    assert len(planned) > 1
    if name.endswith("-small"):
        assert name.removesuffix("-small") in study_names()
        assert sum(cell.images or 0 for cell in planned if cell.run_state == "to do") <= 600_000  # under an hour


def test_a_real_study(tmp_path: Path) -> None:
    said = {
        "title": "A real one",
        "recipe": "tiny-resnet",
        "catalog": {"family": "fractaldb", "categories": 3},
        "set": {
            "data.size": 32,
            "data.points": 2000,
            "data.instances": 100,
            "data.held_out": 0.25,
            "model.name": "test_resnet",
            "schedule.steps": 3,
            "training.batch_size": 8,
            "training.evaluations": 1,
        },
        "vary": {"data.draw": ["point", "patch"]},
        "finetune": {"data": f"imagefolder:{tmp_path / 'photos'}", "linear": True, "set": {"data.held_out": 0.5}},
    }
    for number in range(16):  # bright and dark ones
        file = tmp_path / "photos" / f"class{number % 2}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (40, 40), 20 * number % 50 + 200 * (number % 2)).save(file)
    file = study_file(tmp_path, said)
    out = tmp_path / "out"
    (cell, *_) = json.loads(fdsl_command("study", file, "--dry-run", "--out", out, "--json"))
    assert (cell["cell"], cell["run_state"], cell["steps"], cell["finetunes"]) == ("draw=point", "to do", 3, 1)
    assert "to do" in fdsl_command("study", file, "--dry-run", "--out", out)
    assert not out.exists()
    report = json.loads(fdsl_command("study", file, "--out", tmp_path / "out", "--json"))
    assert [entry["levels"] for entry in report["entries"]] == [{"data.draw": "point"}, {"data.draw": "patch"}]
    assert all(0 < entry["mean"] <= 1 for entry in report["entries"])
    assert (tmp_path / "out" / "runs" / "draw=point" / "weights.safetensors").is_file()
    written = {file: file.stat().st_mtime_ns for part in ("runs", "cells") for file in (out / part).rglob("*")}
    shown = fdsl_command("study", file, "--out", out)  # nothing is run again
    assert {file: file.stat().st_mtime_ns for file in written} == written
    assert "A real one" in shown
    assert "accuracy (%)" in shown
    shutil.rmtree(out / "cells")
    said["set"]["schedule.steps"] = 4
    with pytest.raises(ValueError, match=r"draw=point: .*last\.ckpt: its schedule\.steps is 3, and 4 was asked for"):
        run(tmp_path, said)
    assert error_of("study", tmp_path / "none.yaml").startswith("error: ")
