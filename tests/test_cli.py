from __future__ import annotations

import contextlib
import json
import os
import pty
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import fdsl
from fdsl import bench
from fdsl.cli import app

_SHEET = Image.new("RGB", (8, 8))
COMMANDS = (
    "search",
    "catalog",
    "show",
    "render",
    "export",
    "bench",
    "bench render",
    "bench feed",
    "plan",
    "pretrain",
    "recipes",
    "finetune",
    "inspect",
    "demo",
    "publish",
    "pull",
    "study",
)
SMALL = ("--size", "32", "--points", "1000")


def run(*arguments: object) -> str:
    """Standard output of a command that succeeds."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="fdsl")
    assert result.exit_code == 0, result.output
    assert not result.stderr
    return result.stdout


def error_of(*arguments: object, code: int = 1) -> str:
    """The one line of a command that fails."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="fdsl")
    assert result.exit_code == code, result.output
    assert not result.stdout
    return one_line(result.stderr)


def one_line(text: str) -> str:
    assert text.count("\n") == 1, text
    assert text.endswith("\n"), text
    assert text.startswith(("error: ", "interrupted")), text
    return text.strip()


@contextlib.contextmanager
def process(*arguments: object, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A real one, with its own standard output and error; ended with the test, however that ends."""
    command = [sys.executable, "-m", "fdsl.cli", *map(str, arguments)]
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    with subprocess.Popen(command, **settings) as started:
        try:
            yield started
        finally:
            started.kill()


@pytest.fixture(scope="module")
def saved(catalog: fdsl.Catalog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("catalog") / "four.safetensors"
    catalog.save(file)
    return file


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class TestHelp:
    @pytest.mark.parametrize("command", ["", *COMMANDS])
    def test_each_command_has_an_example(self, command: str) -> None:
        text = run(*command.split(), "--help")
        assert f"Example: fdsl {command}" in text
        # Rich would show ":B:" and the like as pictures.
        assert text.isascii() or set(text) - set(map(chr, range(128))) <= set("╭╮╰╯─│…")

    def test_version_and_no_arguments(self) -> None:
        assert run("--version") == f"fdsl {fdsl.__version__}\n"
        with process() as started:
            text, errors = started.communicate()
        assert (started.returncode, errors) == (0, "")
        assert "pretrain" in text

    def test_start_up_imports_nothing_heavy(self) -> None:
        heavy = ("torch", "lightning", "timm", "matplotlib", "PIL", "rich.progress")
        code = f"import sys, fdsl.cli; print([name for name in {heavy} if name in sys.modules])"
        assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


class TestSearch:
    def test_file(self) -> None:
        figures = json.loads(run("search", "fractaldb", "--categories", 2, "--seed", 1, "--json"))
        catalog = fdsl.catalog("fractaldb-2.safetensors")
        assert figures.pop("seconds") > 0
        assert figures == {
            "categories": 2,
            "candidates": catalog.settings["candidates"],
            "digest": fdsl.search("fractaldb", categories=2, seed=1).digest,
            "out": "fractaldb-2.safetensors",
        }
        assert catalog.digest == figures["digest"]

    @pytest.mark.parametrize("out", ["csv", "csv/", "new/folder", "sigma-0.4/"])
    def test_csv_folder(self, out: str) -> None:
        text = run("search", "fractaldb", "--categories", 2, "--sampler", "sigma", "--variation", 0.2, "--out", out)
        assert out.rstrip("/") in text
        expected = fdsl.search("fractaldb", categories=2, sampler="sigma", variation=0.2)
        assert fdsl.catalog(out, variation=0.2).digest == expected.digest

    def test_what_exists_is_refused_before_the_search(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fdsl, "search", lambda *_, **__: pytest.fail("searched"))
        Path("old.safetensors").write_bytes(b"mine")
        Path("full").mkdir()
        Path("full/file").touch()
        for out in ("old.safetensors", "full", "old.safetensors/"):
            assert "exists; expected a new" in error_of("search", "fractaldb", "--out", out)
        assert "expected that instead of rcdb" in error_of("search", "rcdb", "--out", "csv/")
        assert "is not a folder" in error_of("search", "fractaldb", "--out", "old.safetensors/below/new.safetensors")
        assert Path("old.safetensors").read_bytes() == b"mine"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("fractal",), "error: family 'fractal' does not exist"),
            (("fractaldb", "--fill-rate", "0.8"), "error: fill_rate 0.8 can't be reached"),
            (("fractaldb", "--fill-rate", "0.3", "--max-candidates", "50"), "acceptance rate"),
            (("fractaldb", "--categories", "0"), "error: categories is 0"),
            (("fractaldb", "--device", "gpu"), "error: device is 'gpu'; expected 'auto', 'cpu', 'cuda' or 'cuda:N'"),
            (("rcdb", "--categories", "5000000000"), "expected a whole number from 1 to 4294967295"),
            (("rcdb", "--fill-rate", "0.2"), "'fill_rate' is not a setting of rcdb; expected: vertices, lines"),
            (("rcdb", "--set", "vertices=[2, 1e99]"), "vertices is [2, 1e+99]; expected a pair of whole numbers"),
            (("fractaldb", "--sampler", "sigma", "--set", 'sigma_factor="a"'), "sigma_factor is 'a'; expected over 0"),
        ],
    )
    def test_errors(self, arguments: tuple[str, ...], message: str) -> None:
        assert message in error_of("search", *arguments)
        assert not list(Path().iterdir())

    def test_wrong_calls(self) -> None:
        assert "(see fdsl search --help)" in error_of("search", "fractaldb", "--categories", "x", code=2)
        assert "(see fdsl --help)" in error_of("sarch", code=2)
        for name in ("family", "categories", "seed", "progress"):
            wrong = error_of("search", "fractaldb", "--set", f"{name}=1", code=2)
            assert f"'{name}' is no setting of a family" in wrong
        assert "(see fdsl bench --help)" in error_of("bench", code=2)
        assert "expected a name in .safetensors" in error_of("search", "fractaldb", "--out", "x.csv", code=2)


class TestShow:
    def test_a_catalog_and_a_family(self, saved: Path) -> None:
        assert run("show", saved, *SMALL) == "contact-sheet-four.png\n"
        run(
            "show",
            "fractaldb",
            "--categories",
            2,
            "--columns",
            3,
            "--color",
            "density",
            "--out",
            "new/sheet.png",
            *SMALL,
        )
        with Image.open("contact-sheet-four.png") as four, Image.open("new/sheet.png") as two:
            assert four.height - two.height == 2 * 35
            assert four.width - two.width == 5 * 35

    def test_a_family_with_viewpoints_shows_all_its_weight_rows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        shown: list[fdsl.Dataset] = []
        monkeypatch.setattr("fdsl.contact_sheet.contact_sheet", lambda dataset, *_: shown.append(dataset) or _SHEET)
        run("show", "exfractaldb", "--categories", 1, "--out", "all.png")
        run("show", "exfractaldb", "--categories", 1, "--instances", 24, "--out", "two.png")
        run("show", "pcfractaldb", "--categories", 1, "--out", "clouds.png")
        assert [len(dataset.instances) for dataset in shown] == [145 * 12, 24, 1000]

    def test_options_of_a_family(self) -> None:
        for number, name in ((0, "plain.png"), (2000, "broken.png")):
            flags = ("--option", f"broken_contours={number}") if number else ()
            run("show", "rcdb", "--categories", 1, "--size", 64, "--out", name, *flags)
        assert Path("plain.png").read_bytes() != Path("broken.png").read_bytes()
        wrong = error_of("show", "visualatom", "--option", "broken_contours=5")
        assert "option 'broken_contours' is not one of visualatom's" in wrong
        assert "expected NAME=VALUE" in error_of("show", "rcdb", "--option", "broken", code=2)
        assert not Path("contact-sheet-visualatom.png").exists()

    def test_a_long_range_is_not_walked(self) -> None:
        assert "under 2**32" in error_of("show", "rcdb", "--instances", f"0:{10**15}")

    @pytest.mark.parametrize("family", ["bezier", "perlin"])
    def test_a_family_whose_categories_are_a_grid(self, family: str) -> None:
        assert run("show", family, "--categories", 3, "--size", 32) == f"contact-sheet-{family}.png\n"

    def test_errors(self, saved: Path) -> None:
        Path("sheet.png").touch()
        assert "sheet.png exists" in error_of("show", saved, "--out", "sheet.png")
        assert "'fractaldb-2k' is no catalog (did you mean fractaldb-" in error_of("show", "fractaldb-2k")
        assert "missing.safetensors: No such file" in error_of("show", "missing.safetensors")
        assert "category 4 is out of range" in error_of("show", saved, "--categories", "4:5", *SMALL)
        assert "variation is 0.9" in error_of("show", "fractaldb", "--variation", 0.9)
        assert "a range such as 0:20" in error_of("show", saved, "--categories", "5:2", code=2)


class TestRender:
    def test_names_are_the_published_ones(self, saved: Path) -> None:
        run("render", saved, "--out", "new/pictures", "--categories", "1:3", "--instances", "40:1100:333", *SMALL)
        names = sorted(str(file.relative_to("new/pictures")) for file in Path("new/pictures").rglob("*.png"))
        assert names == [
            f"{category}/{category}{rest}.png"
            for category in ("00001", "00002")
            # 40, 373 = (9 * 10 + 3) * 4 + 1, 706 = (17 * 10 + 6) * 4 + 2, 1,039
            for rest in ("_01_count_0_flip0", "_09_count_3_flip1", "_17_count_6_flip2", "_instance_1039")
        ]
        assert os.listdir("new") == ["pictures"]

    @pytest.mark.parametrize(
        ("flags", "spec", "mode"),
        [
            ((), {}, "P"),
            (("--channels", "3", "--draw", "point", "--pad", "0"), {"channels": 3, "draw": "point", "pad": 0}, "P"),
            (("--color", "density", "--fit", "stored"), {"color": "density", "fit": "stored"}, "L"),
            (("--color", "color", "--draw", "patch_per_point"), {"color": "color", "draw": "patch_per_point"}, "RGB"),
            (("--crop-of", "50"), {"view": fdsl.Crop(of=50)}, "P"),
            (("--view-scale", "0.2", "0.5"), {"view": fdsl.RandomView(scale=(0.2, 0.5))}, "P"),
        ],
    )
    def test_files_hold_the_pixels_of_the_dataset(
        self, saved: Path, flags: Sequence[str], spec: dict[str, Any], mode: str
    ) -> None:
        run("render", saved, "--out", "pictures", "--instances", 3, "--seed", 5, *SMALL, *flags)
        dataset = fdsl.Dataset(fdsl.catalog(saved), 3, fdsl.RenderSpec(**{"size": 32, "points": 1000} | spec), seed=5)
        files = sorted(Path("pictures").rglob("*.png"))
        assert len(files) == len(dataset)
        for file, (pixels, _) in zip(files, dataset, strict=True):
            with Image.open(file) as image:
                assert image.mode == mode
                decoded = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
            # Byte 24 is the bit depth.
            assert file.read_bytes()[24] == (1 if mode == "P" else 8)
            np.testing.assert_array_equal(decoded, np.broadcast_to(pixels, decoded.shape))

    def test_coco(self, saved: Path) -> None:
        flags = ("--labels", "coco", "--categories", "1:3", "--instances", "0:4:2", *SMALL)
        assert run("render", saved, "--out", "coco", *flags) == "4 pictures in coco\n"
        content = json.loads(Path("coco/annotations.json").read_text())
        spec = fdsl.RenderSpec(size=32, points=1000)
        dataset = fdsl.Dataset(fdsl.catalog(saved), range(0, 4, 2), spec, labels=("class", "mask", "boxes"))
        assert content["info"]["digest"] == dataset.digest
        assert [row["id"] for row in content["images"]] == [2, 3, 4, 5]
        run("show", saved, "--labels", *SMALL)

    def test_errors(self, saved: Path) -> None:
        Path("full").mkdir()
        Path("full/file").touch()
        cases = {
            ("--out", "full"): "exists; expected a new or an empty folder",
            ("--out", "full/file/below"): "full/file is not a folder",
            ("--out", "new", "--categories", "5"): "category 4 is out of range for a catalog of 4",
            ("--out", "new", "--size", "0"): "size is 0; expected",
            ("--out", "new", "--size", "100000"): "size is 100000; expected",
            ("--out", "new", "--color", "color", "--channels", "1"): "channels is 1 but color is 'color'",
            ("--out", "new", "--variation", "0.2"): "its variation is 0.4; expected 0.2",
            ("--out", "new", "--labels", "coco", "--crop-of", "300"): "composed pictures have none; expected None",
        }
        for arguments, message in cases.items():
            assert message in error_of("render", saved, *arguments)
        both = ("--out", "new", "--crop-of", "300", "--view-scale", "0.1", "1")
        assert "expected one of --crop-of and --view-scale" in error_of("render", saved, *both, code=2)
        Path("damaged.safetensors").write_bytes(saved.read_bytes()[:-8])
        assert "damaged.safetensors: " in error_of("render", "damaged.safetensors", "--out", "new")
        assert sorted(os.listdir()) == ["damaged.safetensors", "full"]


class TestBench:
    def test_render(self, saved: Path) -> None:
        figures = json.loads(
            run("bench", "render", saved, "--threads", 2, "--threads", 1, "--seconds", 0.1, "--json", *SMALL)
        )
        assert figures["spec"]["size"] == 32
        assert [row["threads"] for row in figures["results"]] == [1, 2]
        assert all(row["images_per_s"] > 0 for row in figures["results"])
        assert "images/s" in run("bench", "render", saved, "--seconds", 0.1, *SMALL)

    def test_feed(self, saved: Path) -> None:
        arguments = ("bench", "feed", saved, "--batch-size", 8, "--seconds", 0.3, *SMALL)
        figures = json.loads(run(*arguments, "--step-ms", 30, "--json"))
        assert 0 < figures["images_per_s"] <= 8 / 0.03
        assert figures["waiting_share"] < 0.5
        assert figures["first_batch_s"] > 0
        assert figures["render_images_per_s"] > figures["images_per_s"]
        assert 0 < figures["queue_depth"] <= 2
        assert figures["queue_empty_share"] < 0.5
        drawn = ("--channels", 3, "--pad", 1, "--crop-of", 48, "--instances", "0:100:5", "--ahead", 3, "--threads", 1)
        assert "waiting share" in run(*arguments, *drawn)

    def test_a_feed_is_measured_over_the_end_of_its_epoch(self, catalog: fdsl.Catalog) -> None:
        dataset = fdsl.Dataset(catalog, 2, fdsl.RenderSpec(size=16, points=10))
        assert bench.feed_speed(dataset, batch_size=3, seconds=0.1).images > len(dataset)

    def test_errors(self, saved: Path) -> None:
        for command in ("render", "feed"):
            assert "seconds is 0.0; expected a number over 0" in error_of("bench", command, saved, "--seconds", 0)
        assert "step_s is -0.001" in error_of("bench", "feed", saved, "--step-ms", -1)
        assert "ahead is 0" in error_of("bench", "feed", saved, "--ahead", 0)


class TestPlan:
    """The command line alone; what it measures has tests of its own."""

    def test_a_model_that_is_known(self, saved: Path) -> None:
        arguments = ("plan", saved, "--images-per-s", 10, "--images", 7200, "--epochs", 10, "--ranks", 2)
        figures = json.loads(run(*arguments, "--seconds", 0.05, "--json", *SMALL))
        assert figures["hours"] == 1
        assert figures["sources"]["model_images_per_s"] == "given"
        assert figures["verdict"].startswith("the feed is ")
        text = run(*arguments, "--seconds", 0.05, *SMALL)
        assert "the model needs   10 images/s per rank" in text
        assert "60.0 minutes on 2 ranks" in text
        assert all(len(line) < 120 for line in text.splitlines())

    def test_a_shortfall_is_no_failure(self, saved: Path) -> None:
        text = run("plan", saved, "--images-per-s", 1e9, "--cores", 1, "--seconds", 0.05, *SMALL)
        assert "the feed is the bottleneck: " in text

    def test_errors(self, saved: Path) -> None:
        one = "expected one of --model and --images-per-s"
        assert one in error_of("plan", saved, code=2)
        assert one in error_of("plan", saved, "--model", "resnet18", "--images-per-s", 5, code=2)
        assert "ranks is 0; expected a whole number of at least 1" in error_of(
            "plan", saved, "--images-per-s", 5, "--ranks", 0
        )


class TestTraining:
    """The command line alone; the loop has tests of its own."""

    def test_pretrain_passes_on_what_was_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pretraining = pytest.importorskip("fdsl.train.pretraining")
        calls: list[tuple[Any, dict[str, Any]]] = []

        def train(recipe: Any, **settings: Any) -> Any:
            calls.append((recipe, settings))
            print("what a library prints")
            names = pretraining.PretrainReport.__dataclass_fields__
            changes = {"model": recipe.model.name, "versions": {"torch": "2"}, "recipe": {"title": "long"}}
            return pretraining.PretrainReport(**dict.fromkeys(names, 1) | changes)

        monkeypatch.setattr(pretraining, "pretrain", train)
        arguments = ["pretrain", "--recipe", "fractaldb-deit-tiny", "--data", "imagefolder:/a: b", "--steps", "7"]
        arguments += ["--model", "vit", "--set", "optimizer.learning_rate=1e-4", "--set", "data.size=32"]
        arguments += ["--devices", "2", "--log", "tensorboard", "--log", "wandb"]
        result = CliRunner().invoke(app, [*arguments, "--json"])
        assert result.exit_code == 0, result.output
        assert result.stderr == "what a library prints\n"
        figures = json.loads(result.stdout)
        assert (figures["out"], figures["recipe"]) == ("runs/fractaldb-deit-tiny", {"title": "long"})
        assert "long" not in CliRunner().invoke(app, arguments).stdout
        recipe, settings = calls[0]
        assert (recipe.data.source, recipe.data.size, recipe.model.name) == ("imagefolder:/a: b", 32, "vit")
        assert (recipe.schedule.steps, recipe.schedule.epochs, recipe.optimizer.learning_rate) == (7, None, 1e-4)
        assert settings == {
            "output": Path("runs/fractaldb-deit-tiny"),
            "resume": False,
            "device": "auto",
            "devices": 2,
            "nodes": 1,
            "progress": False,
            "loggers": ["tensorboard", "wandb"],
            "skip_corrupt": False,
        }
        Path("old").mkdir()
        Path("old/recipe.yaml").write_text(recipe.yaml())
        result = CliRunner().invoke(app, ["pretrain", "--resume", "--out", "old"])
        assert result.exit_code == 0, result.output
        assert calls[-1][0] == recipe
        assert (calls[-1][1]["resume"], calls[-1][1]["output"]) == (True, Path("old"))
        monkeypatch.setenv("RANK", "1")
        monkeypatch.setenv("WORLD_SIZE", "2")
        result = CliRunner().invoke(app, ["pretrain", "--resume", "--out", "old"])
        assert (result.exit_code, result.stdout) == (0, "")

    def test_errors(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("pydantic")
        Path("old").mkdir()
        Path("old/log.csv").touch()
        arguments = ("pretrain", "--recipe", "fractaldb-deit-tiny")
        assert "old exists" in error_of(*arguments, "--out", "old")
        assert "expected one, or --resume" in error_of("pretrain", "--out", "old", code=2)
        assert "there is no recipe 'fractaldb-dait'" in error_of("pretrain", "--recipe", "fractaldb-dait")
        assert "--set data.sise=3: unknown key 'data.sise'; did you mean data.size?" in error_of(
            *arguments, "--set", "data.sise=3"
        )
        monkeypatch.setenv("RANK", "1")
        monkeypatch.setenv("WORLD_SIZE", "2")
        result = CliRunner().invoke(app, ["pretrain", "--recipe", "fractaldb-dait"])
        assert (result.exit_code, result.output) == (1, "")

    def test_demo_prints_its_report(self, monkeypatch: pytest.MonkeyPatch) -> None:
        demo = pytest.importorskip("fdsl.train.demo")

        def report(output: Path, progress: bool) -> dict[str, object]:
            print("a table")
            return {"output": str(output), "progress": progress}

        monkeypatch.setattr(demo, "demo", report)
        assert run("demo") == "a table\n"
        result = CliRunner().invoke(app, ["demo", "--out", "here", "--json"])
        assert json.loads(result.stdout) == {"output": "here", "progress": False}


class TestTrouble:
    @pytest.mark.parametrize(
        "arguments",
        [
            ("search", "fractaldb", "--categories", 1_000_000),
            ("render", "{saved}", "--out", "pictures", "--size", 512),
            ("bench", "render", "{saved}", "--seconds", 100),
            ("bench", "feed", "{saved}", "--seconds", 100),
            ("plan", "{saved}", "--images-per-s", 10, "--seconds", 100),
        ],
        ids=["search", "render", "bench render", "bench feed", "plan"],
    )
    def test_ctrl_c(self, arguments: tuple[object, ...], saved: Path, tmp_path: Path) -> None:
        terminal, stderr = pty.openpty()  # so that the bar shows when the work is under way
        with process(*(str(part).format(saved=saved) for part in arguments), stderr=stderr, cwd=tmp_path) as started:
            os.close(stderr)
            text = os.read(terminal, 4096)
            while b"\x1b[0m" not in text:
                text += os.read(terminal, 4096)
            time.sleep(0.3)
            started.send_signal(signal.SIGINT)
            assert started.stdout is not None
            assert started.stdout.read() == ""
            with contextlib.suppress(OSError):  # the end of a terminal
                while part := os.read(terminal, 4096):
                    text += part
            os.close(terminal)
            assert started.wait() == 130
        # The bar is wiped, and one line is left.
        assert text.decode().rpartition("\x1b[2K")[2].splitlines()[-1] == "interrupted"
        assert b"Traceback" not in text
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        "arguments", [("search", "fractaldb", "--categories", 50), ("render", "{saved}", "--out", "p")]
    )
    def test_full_disk(self, arguments: tuple[object, ...], saved: Path, tmp_path: Path) -> None:
        def allow_little() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))

        parts = [str(part).format(saved=saved) for part in arguments]
        with process(*parts, preexec_fn=allow_little) as started:
            text, errors = started.communicate()
        assert (started.returncode, text) == (1, "")
        assert "cannot write (File too large)" in one_line(errors)
        assert "[Errno" not in errors
        assert not list(tmp_path.iterdir())

    def test_full_standard_output(self) -> None:
        with open("/dev/full", "w") as full, process("--version", stdout=full) as started:
            _, errors = started.communicate()
        assert started.returncode == 1
        assert one_line(errors).endswith(": No space left on device")

    @pytest.mark.parametrize("arguments", [("--version",), ("--help",), ("search", "fractaldb", "--categories", "1")])
    def test_closed_pipe(self, arguments: tuple[str, ...]) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        with process(*arguments, stdout=writing) as started:
            os.close(writing)
            _, errors = started.communicate()
        assert errors == ""
        assert started.returncode == 1

    def test_missing_package_is_named(self, saved: Path, tmp_path: Path) -> None:
        (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
        with process("bench", "feed", saved, env=os.environ | {"PYTHONPATH": str(tmp_path)}) as started:
            _, errors = started.communicate()
        assert started.returncode == 1
        assert "pip install 'fdsl[torch]'" in one_line(errors)

    def test_a_warning_is_one_line(self, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import warnings

        def warn(*_: object) -> fdsl.Catalog:
            warnings.warn("not kept", stacklevel=2)
            return fdsl.Catalog.load(saved)

        monkeypatch.setattr(fdsl, "catalog", warn)
        result = CliRunner().invoke(app, ["show", "anything", "--categories", "1", *SMALL])
        assert (result.exit_code, result.stderr) == (0, "warning: not kept\n")
