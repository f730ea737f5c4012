from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import fdsl
from fdsl.cli import app
from fdsl.presets import PRESETS

recipes = pytest.importorskip("fdsl.train.recipes")
networks = pytest.importorskip("fdsl.train.networks")
schedules = pytest.importorskip("fdsl.train.schedules")
augmentations = pytest.importorskip("fdsl.train.augmentation")
torch = pytest.importorskip("torch")
timm_cosine = pytest.importorskip("timm.scheduler.cosine_lr")

recipe_named, Schedule = recipes.recipe_named, recipes.Schedule
DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "recipes.md"
# Pictures to train on of what is not drawn.
IMAGES = {"cifar10": 50_000, "imagefolder:imagenet": 1_281_167}


def rows_under(heading: str) -> dict[str, dict[str, str]]:
    """The table under a heading of docs/recipes.md, by its first column."""
    text = DOCUMENT.read_text("utf-8").partition(f"\n{heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


TABLE, AUGMENTATIONS = rows_under("## The recipes"), rows_under("## Augmentation")


def number(cell: str) -> float:
    return float(cell.replace(",", ""))


def images_of(recipe: Any) -> int:
    """Pictures of an epoch; of held-out tenths, two of FractalDB's 25 variations."""
    source = recipe.data.source
    images = PRESETS[source][1] * recipe.data.instances if source in PRESETS else IMAGES[source]
    return images * 23 // 25 if recipe.data.held_out else images


def test_the_table_has_every_recipe() -> None:
    assert list(TABLE) == recipes.recipe_names()


@pytest.mark.parametrize("name", TABLE)
class TestIsAsTheTableSays:
    def test_model_data_and_source(self, name: str) -> None:
        recipe, row = recipe_named(name), TABLE[name]
        assert (recipe.model.name, recipe.data.source) == (row["model"], row["data"])
        assert recipe.title
        assert recipe.source

    def test_batch_arithmetic(self, name: str) -> None:
        recipe, row = recipe_named(name), TABLE[name]
        assert recipe.training.batch_size == number(row["batch"])
        assert schedules.steps_per_epoch(images_of(recipe), recipe.training.batch_size) == number(row["steps/epoch"])
        length = recipe.schedule.epochs or f"{recipe.schedule.steps:,} steps"
        assert str(length) == row["epochs"]

    def test_optimizer(self, name: str) -> None:
        recipe, row = recipe_named(name), TABLE[name]
        network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
        optimizer = networks.optimizer_of(network, recipe.optimizer, recipe.training.batch_size)
        kind = type(optimizer).__name__
        if kind == "SGD":
            assert {group["momentum"] for group in optimizer.param_groups} == {0.9}
            kind += ", Nesterov" * optimizer.defaults["nesterov"]
        decayed = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
        assert (kind, decayed[id(network[0].weight)]) == (row["optimizer"].removesuffix(", all"), number(row["decay"]))
        everywhere = decayed[id(network[1].weight)] == decayed[id(network[0].bias)] == number(row["decay"])
        assert everywhere == row["optimizer"].endswith(", all")
        for group in optimizer.param_groups:
            assert group["lr"] == pytest.approx(number(row["highest"]), rel=5e-3)

    def test_learning_rate(self, name: str) -> None:
        recipe, row = recipe_named(name), TABLE[name]
        epoch = schedules.steps_per_epoch(images_of(recipe), recipe.training.batch_size)
        steps = schedules.steps_of(recipe.schedule, epoch)
        highest = networks.highest_rate(recipe.optimizer, recipe.training.batch_size)
        for column, step in (("first", 0), ("at 10 %", steps // 10), ("at 50 %", steps // 2), ("last", steps - 1)):
            rate = schedules.learning_rate(recipe.schedule, highest, step, epoch)
            assert rate == pytest.approx(number(row[column]), rel=5e-3), column

    def test_augmentation(self, name: str) -> None:
        recipe, row = recipe_named(name), AUGMENTATIONS[TABLE[name]["augmentation"]]
        done, data = recipe.augmentation, recipe.data
        if data.crop_of is not None:
            view = f"{data.size} of {data.crop_of}"
        else:
            view = "whole" if data.view is None else f"{data.view.scale[0]} to {data.view.scale[1]:g}"
        assert view == row["view"]
        assert (data.view.flip if data.view else 0) == number(row["flip"])
        rand = done.rand_augment and f"m{done.rand_augment:g} mstd{done.rand_augment_std:g}"
        assert (f"{rand} inc{done.rand_augment_increasing:d}" if rand else "") == row["RandAugment"]
        for column in ("erasing", "mixup", "cutmix"):
            assert getattr(done, column) == number(row[column]), column
        assert done.label_smoothing == number(row["smoothing"])
        assert recipe.model.options.get("drop_path_rate", 0) == number(row["drop-path"])
        assert data.repeats == number(row["repeats"])
        for column in ("mean", "std"):
            numbers = getattr(data, column)
            assert ", ".join(f"{each:g}" for each in numbers) == row[column]

    def test_the_augmentation_that_it_builds(self, name: str) -> None:
        recipe = recipe_named(name)
        done, data = recipe.augmentation, recipe.data
        augment = augmentations.Augment(done, 10, data.mean, data.std, seed=0)
        ramp = torch.arange(1024).remainder(256).to(torch.uint8).view(32, 32).expand(8, data.channels, 32, 32)
        pixels, targets = augment(ramp, torch.zeros(8, dtype=torch.int64), first=0)
        assert targets[:, 0].tolist() == pytest.approx([1 - 0.9 * done.label_smoothing] * 8)
        assert targets.sum(1).tolist() == pytest.approx([1.0] * 8)
        changes = done.rand_augment is not None or done.erasing > 0 or done.cutmix > 0
        assert torch.equal(pixels, augment.normalize(ramp)) != changes
        assert augment.normalize(ramp)[0, 0, 7, 31].item() == pytest.approx((1 - data.mean[0]) / data.std[0])

    def test_reads_back_from_its_own_yaml(self, name: str, tmp_path: Path) -> None:
        recipe = recipe_named(name)
        (tmp_path / "recipe.yaml").write_text(recipe.yaml())
        assert recipe_named(tmp_path) == recipe == recipe_named(tmp_path / "recipe.yaml")


@pytest.mark.parametrize(
    "model", {(row["model"], name.startswith("tiny")): name for name, row in TABLE.items()}.values()
)
def test_the_network_builds(model: str) -> None:
    recipe = recipe_named(model)
    with torch.device("meta"):  # shapes alone
        network = networks.network_of(recipe.model, recipe.data.channels, recipe.data.size, 7)
        images = torch.zeros(2, recipe.data.channels, recipe.data.size, recipe.data.size)
        assert network(images).shape == (2, 7)


class TestLearningRate:
    HIGHEST, EPOCH = 3e-3, 7

    def timm(self, length: int, warmup: int, warmup_from: float, end: float) -> Any:
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=self.HIGHEST)
        return timm_cosine.CosineLRScheduler(
            optimizer, t_initial=length, lr_min=end, warmup_t=warmup, warmup_lr_init=warmup_from
        )

    @pytest.mark.parametrize(
        ("warmup", "steps"),
        [({}, 0), ({"warmup_epochs": 3}, 21), ({"warmup_steps": 10}, 10), ({"warmup_share": 0.25}, 35)],
    )
    @pytest.mark.parametrize("length", [{"epochs": 20}, {"steps": 140}])
    def test_each_step_is_timms(self, length: dict[str, int], warmup: dict[str, float], steps: int) -> None:
        schedule = Schedule(**length, **warmup, warmup_from=1e-6, end=1e-5)
        timm = self.timm(140, steps, 1e-6, 1e-5)
        for step in range(150):
            rate = schedules.learning_rate(schedule, self.HIGHEST, step, self.EPOCH)
            assert rate == timm._get_lr(step)[0], step

    def test_each_epoch_is_timms(self) -> None:
        schedule = Schedule(epochs=20, per="epoch", warmup_epochs=3, warmup_from=1e-6, end=1e-5)
        timm = self.timm(20, 3, 1e-6, 1e-5)
        for step in range(150):
            rate = schedules.learning_rate(schedule, self.HIGHEST, step, self.EPOCH)
            assert rate == timm._get_lr(step // self.EPOCH)[0], step

    def test_milestones_are_torchs(self) -> None:
        schedule = Schedule(epochs=9, shape="steps", milestones=(3, 6))
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=self.HIGHEST)
        torchs = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 6], gamma=0.1)
        for epoch in range(9):
            for step in range(epoch * self.EPOCH, (epoch + 1) * self.EPOCH):
                rate = schedules.learning_rate(schedule, self.HIGHEST, step, self.EPOCH)
                assert rate == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12), step
            optimizer.step()
            torchs.step()

    def test_the_clock_decides_where_seconds_are_set(self) -> None:
        by_clock = Schedule(seconds=60.0, warmup_share=0.25, warmup_from=1e-6, end=1e-5)
        by_steps = Schedule(steps=100, warmup_steps=25, warmup_from=1e-6, end=1e-5)
        for step in (0, 10, 25, 60, 99, 100, 130):
            rate = schedules.learning_rate(by_clock, self.HIGHEST, 12345, self.EPOCH, done=step / 100)
            expected = schedules.learning_rate(by_steps, self.HIGHEST, step, self.EPOCH)
            assert rate == pytest.approx(expected, rel=1e-12), step
        with pytest.raises(ValueError, match=r"done is None; expected the share of schedule\.seconds"):
            schedules.learning_rate(by_clock, self.HIGHEST, 0, self.EPOCH)

    def test_an_epoch_needs_a_batch(self) -> None:
        with pytest.raises(ValueError, match="batch_size is 64; expected at most the 63 images"):
            schedules.steps_per_epoch(63, 64)


class TestOverrides:
    def test_values_are_yaml(self) -> None:
        changed = recipe_named(
            "fractaldb-deit-tiny",
            [
                "optimizer.learning_rate=1e-4",
                "data.mean=[0.1, 0.2, 0.3]",
                "model.options.depth=2",
                "data.points=",
                "training.compile=true",
                "data.source=shards:/data/{000..009}.tar",
            ],
        )
        assert changed.optimizer.learning_rate == 1e-4
        assert changed.data.mean == (0.1, 0.2, 0.3)
        assert changed.model.options == {"drop_path_rate": 0.1, "depth": 2}
        assert changed.data.points is None
        assert changed.training.compile is True
        assert changed.data.source == "shards:/data/{000..009}.tar"

    def test_an_alternative_replaces_the_others(self) -> None:
        shorter = recipe_named("fractaldb-deit-tiny", ["schedule.steps=5", "schedule.warmup_share=0.1"]).schedule
        assert (shorter.epochs, shorter.steps, shorter.warmup_epochs, shorter.warmup_share) == (None, 5, None, 0.1)
        window = recipe_named("fractaldb-deit-tiny", ["data.crop_of=256"]).data
        assert (window.crop_of, window.view) == (256, None)
        view = recipe_named("fractaldb-resnet50", ["data.view.flip=0.5"]).data
        assert (view.crop_of, view.view.flip) == (None, 0.5)

    def test_a_catalog_beside_a_file_is_the_files(self, tmp_path: Path) -> None:
        (tmp_path / "recipe.yaml").write_text("data: {source: catalog.safetensors}")
        assert recipe_named(tmp_path).data.source == "catalog.safetensors"
        (tmp_path / "catalog.safetensors").touch()
        assert recipe_named(tmp_path).data.source == str(tmp_path / "catalog.safetensors")

    def test_what_is_packaged_stays_as_it_is(self) -> None:
        recipe_named("finetune-deit", ["model.options.drop_path_rate=0.5"])
        assert recipe_named("finetune-deit").model.options == {"drop_path_rate": 0.0}


class TestBadInput:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (["optimizer.learnig_rate=1"], "--set optimizer.learnig_rate=1: unknown key 'optimizer.learnig_rate'; "
             "did you mean optimizer.learning_rate? expected one of optimizer.name, "),
            (["learning_rate=1"], "unknown key 'learning_rate'; did you mean optimizer.learning_rate? expected "),
            (["training.batch_size=many"], "--set training.batch_size=many: training.batch_size is 'many'; expected a "
             "valid integer"),
            (["training.batch_size=0"], "training.batch_size is 0; expected greater than or equal to 1"),
            (["training.compile=1"], "training.compile is 1; expected a valid boolean"),
            (["optimizer.name=lamb"], "optimizer.name is 'lamb'; expected 'adamw' or 'sgd'"),
            (["data=fractaldb-1k"], "--set data=fractaldb-1k: data is 'fractaldb-1k'; expected "),
            (["model.name.x=1"], "--set model.name.x=1: model.name is 'deit_tiny_patch16_224', which has no settings"),
            (["schedule.steps"], "--set schedule.steps: expected KEY=VALUE"),
            (["data.mean=[1"], "--set data.mean=[1, line 1: not YAML: "),
            (["data.mean=[0.1, 0.2]"], "--set data.mean=[0.1, 0.2]: data: mean has 2 numbers; expected one, or one"),
            (["data.std=[0]"], "data: std is (0.0,); expected numbers over 0"),
            (["data.crop_of=100"], "data: crop_of is 100; expected at least the size, 224"),
            (["data.view={scale: [1, 0.08]}"], "data.view: RandomView(scale=) is (1.0, 0.08); expected a pair 0 < low"),
            (["data.view={ratio: [0, 1]}"], "data.view: RandomView(ratio=) is (0.0, 1.0); expected a pair 0 < low"),
            (["data.seed=-1"], "data.seed is -1; expected greater than or equal to 0"),
            (["optimizer.learning_rate=.inf"], "optimizer.learning_rate is inf; expected a finite number"),
            (["schedule.epochs="], "expected one of epochs, steps and seconds"),
            (["schedule.seconds=60"], "the clock decides where seconds is set; expected a warm-up in warmup_share"),
            (["schedule.milestones=[30]"], "schedule: shape is 'cosine'; expected 'steps' with milestones"),
        ],
    )  # fmt: skip
    def test_an_override_is_refused_by_name(self, changes: list[str], message: str) -> None:
        with pytest.raises(ValueError, match=r"^[^\n]*$") as refused:
            recipe_named("fractaldb-deit-tiny", changes)
        assert message in str(refused.value)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("data:\n  source: [1\nmodel: {}\n", "mine.yaml, line 3: not YAML: "),
            ("- data\n", "mine.yaml: expected settings such as 'data:' and 'model:', found ['data']"),
            ("modle: {}\n", "mine.yaml: unknown key 'modle'; did you mean model? expected one of title, source, data"),
            ("schedule: {epochs: 3, steps: 5}\n", "mine.yaml: schedule: epochs is 3 and steps is 5; expected one of"),
            ("data: {crop_of: 300, view: {}}\n", "mine.yaml: data: crop_of is 300 and view is "),
            ("schedule: {steps: 5, warmup_epochs: 1, warmup_share: 0.1}\n", "warmup_epochs is 1.0 and warmup_share is"),
        ],
    )
    def test_a_file_is_refused_by_line_or_key(self, text: str, message: str, tmp_path: Path) -> None:
        file = tmp_path / "mine.yaml"
        file.write_text(text)
        with pytest.raises(ValueError, match=r"^[^\n]*$") as refused:
            recipe_named(file)
        assert str(refused.value).startswith(str(tmp_path))
        assert message in str(refused.value)

    def test_an_unknown_name_is_told_the_near_ones(self) -> None:
        with pytest.raises(ValueError, match=r"there is no recipe 'fractaldb-deit-tny'.* such as fractaldb-deit-tiny"):
            recipe_named("fractaldb-deit-tny")

    @pytest.mark.parametrize("place", ["none.yaml", "."])
    def test_a_file_that_is_not_there(self, place: str, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            recipe_named(tmp_path / place)

    def test_a_network_is_refused_by_its_name_or_options(self) -> None:
        with pytest.raises(ValueError, match=r"timm has no model 'deit_tiny'; .* such as deit"):
            networks.network_of(recipes.Model(name="deit_tiny"), 3, 224, 10)
        with pytest.raises(ValueError, match=r"'resnet10t' with options {'dept': 2} does not take .*dept"):
            networks.network_of(recipes.Model(name="resnet10t", options={"dept": 2}), 3, 32, 10)


class TestCommand:
    Run = Callable[..., str]

    @pytest.fixture
    def run(self) -> Run:
        def printed(*arguments: str) -> str:
            result = CliRunner().invoke(app, ["recipes", *arguments])
            assert result.exit_code == 0, result.output
            return str(result.stdout)

        return printed

    def test_lists_all(self, run: Run) -> None:
        assert [line.split()[0] for line in run().splitlines()] == ["name", *recipes.recipe_names()]
        listed = {row["name"]: row for row in json.loads(run("--json"))}
        assert listed["fractaldb-deit-tiny"]["epochs"] == 300
        assert listed["tiny-vit"]["steps"] == 5000

    def test_prints_one_that_reads_back(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "mine.yaml").write_text(run("finetune-deit", "--set", "schedule.epochs=2"))
        assert recipe_named(tmp_path / "mine.yaml") == recipe_named("finetune-deit", ["schedule.epochs=2"])
        assert json.loads(run("finetune-deit", "--json"))["schedule"]["epochs"] == 1000


def test_instances_may_be_a_range(tmp_path: Path) -> None:
    recipe = recipe_named("tiny-vit", ["data.instances=[0, 1000, 40]"])
    assert recipe.data.instance_numbers == range(0, 1000, 40)
    (tmp_path / "recipe.yaml").write_text(recipe.yaml())
    assert recipe_named(tmp_path) == recipe
    for bad in ("[5]", "[3, 3]", "0", "[0, 5, 0]", "-1", "[-2, 5]"):
        with pytest.raises(ValueError, match=r"--set data.instances=.*: data: instances is .*; expected"):
            recipe_named("tiny-vit", [f"data.instances={bad}"])


@pytest.fixture(scope="module")
def catalogs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of two categories of each family that recipes draw."""
    folder = tmp_path_factory.mktemp("catalogs")
    for family in ("fractaldb", "exfractaldb", "rcdb", "visualatom"):
        fdsl.search(family, categories=2).save(folder / f"{family}.safetensors")
    return {file.stem: file for file in folder.iterdir()}


# The runs at scale differ in the catalog alone.
@pytest.mark.parametrize("name", [name for name in TABLE if not name.startswith("scale") or name.endswith("-21k")])
@pytest.mark.filterwarnings("ignore:the run has 2 steps")
def test_two_steps_at_a_small_size(name: str, catalogs: dict[str, Path], tmp_path: Path) -> None:
    pretraining = pytest.importorskip("fdsl.train.pretraining")
    source = TABLE[name]["data"]
    family = source.partition("-")[0] if source in PRESETS else "fractaldb"
    changes = [f"data.source={catalogs[family]}", "data.size=32", "schedule.steps=2", "training.batch_size=8"]
    if recipe_named(name).data.crop_of is not None:
        changes.append("data.crop_of=48")
    if recipe_named(name).data.points is not None:
        changes.append("data.points=2000")
    if "resnet" in TABLE[name]["model"]:
        changes.append("model.options={layers: [1, 1, 1, 1], channels: [8, 8, 8, 8]}")
    else:
        changes += ["model.options.embed_dim=32", "model.options.depth=1", "model.options.num_heads=2"]
    report = pretraining.pretrain(recipe_named(name, changes), output=tmp_path / "run", device="cpu", progress=False)
    assert report.steps == 2
    assert report.train_loss > 0
