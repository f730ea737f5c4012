"""A user's own formula, from the decorator to the pictures; tests/formulas.py and examples/lissajous.py have some."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import formulas
import numpy as np
import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner

import fdsl
from fdsl import Catalog, Crop, Dataset, RandomView, RenderSpec, families
from fdsl.cli import app
from fdsl.families.user import import_formulas

EXAMPLE = Path(__file__).parents[1] / "examples" / "lissajous.py"
SMALL = RenderSpec(size=48)


@pytest.fixture(autouse=True)
def no_family_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "_FAMILIES", dict(families._FAMILIES))


@pytest.fixture
def lissajous() -> Catalog:
    import_formulas(str(EXAMPLE))
    fdsl.family("lissajous")(sys.modules["lissajous"].Lissajous)
    return fdsl.search("lissajous", categories=6, seed=2)


def family_of(returned: Any, kind: str = "points", name: str = "own", **methods: Any) -> Catalog:
    """Two categories of a family whose drawing method returns that, or calls it where it can be called."""

    def draw(self: object, params: dict, *at: Any) -> Any:
        return returned(params, *at) if callable(returned) else returned

    def sample(self: object, random: np.random.Generator) -> dict:
        return {"number": random.random()}

    fdsl.family(name)(type("Own", (), {"sample": sample, kind: draw, "__module__": __name__} | methods))
    return fdsl.search(name, categories=2)


def pictures(catalog: Catalog, spec: RenderSpec = SMALL, instances: object = 1, **keys: int) -> np.ndarray:
    dataset = Dataset(catalog, instances, spec)
    return dataset.batch(range(len(dataset)), **keys)[0]


def error_of(call: Callable[[], object]) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the message is the result)
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestExample:
    def test_from_search_to_feed_and_export(self, lissajous: Catalog, tmp_path: Path) -> None:
        from fdsl.export.folder import export_folder

        assert lissajous.params["a"].dtype == np.int64
        assert lissajous.params["phase"].dtype == np.float64
        assert (np.gcd(lissajous.params["a"], lissajous.params["b"]) == 1).all()
        lissajous.save(tmp_path / "curves.safetensors")
        opened = fdsl.catalog(tmp_path / "curves.safetensors")
        assert (opened.digest, opened.settings["largest"]) == (lissajous.digest, 9)
        dataset = Dataset(opened, 5, SMALL)
        images, labels = dataset.batch(range(30))
        assert labels.tolist() == sorted([*range(6)] * 5)
        assert len({image.tobytes() for image in images}) == 30
        assert np.array_equal(images, Dataset(lissajous, 5, SMALL).batch(range(30))[0])
        export_folder(dataset, tmp_path / "pictures", range(2))
        with Image.open(tmp_path / "pictures" / "00001" / "00001_instance_3.png") as picture:
            assert np.array_equal(np.asarray(picture.convert("L")), images[8, 0])
        pytest.importorskip("torch")
        for batch, batch_labels in fdsl.Feed(dataset, batch_size=30, shuffle_seed=None):
            assert np.array_equal(batch.numpy(), images)
            assert batch_labels.tolist() == labels.tolist()

    def test_a_search_is_the_same_in_blocks_of_any_size(
        self, lissajous: Catalog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fdsl.candidates, "_BLOCK", 4)
        assert fdsl.search("lissajous", categories=6, seed=2).digest == lissajous.digest
        more = fdsl.search("lissajous", categories=11, seed=2)
        assert np.array_equal(more.params["phase"][:6], lissajous.params["phase"])
        assert fdsl.search("lissajous", categories=6, seed=3).digest != lissajous.digest

    def test_settings_are_those_of_the_class(self, lissajous: Catalog) -> None:
        assert fdsl.search("lissajous", categories=20, largest=3).params["a"].max() == 3
        message = error_of(lambda: fdsl.search("lissajous", categories=1, smallest=3))
        assert message == "'smallest' is not a setting of lissajous; expected: largest"
        message = error_of(lambda: fdsl.search("lissajous", categories=1, largest=0))
        assert message.startswith("lissajous, candidate 0: sample() raised ValueError: low >")
        assert "expected what JSON can hold" in error_of(lambda: fdsl.search("lissajous", 1, largest=object()))

    def test_command_line(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

        def command(*arguments: object) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-m", "fdsl.cli", *map(str, arguments)], capture_output=True, text=True
            )

        small = ("--size", 32)
        shown = command("--formula", EXAMPLE, "show", "lissajous", "--categories", 3, *small)
        assert (shown.stdout, shown.stderr) == ("contact-sheet-lissajous.png\n", "")
        found = command("--formula", EXAMPLE, "search", "lissajous", "--categories", 3, "--json")
        file = json.loads(found.stdout)["out"]
        few = ("search", "lissajous", "--categories", 30, "--out", "few.safetensors", "--set", "largest=2")
        assert command("--formula", EXAMPLE, *few[:-1], "largest").returncode == 2
        assert command("--formula", EXAMPLE, *few).returncode == 0
        drawn = command("--formula", EXAMPLE, "render", file, "--out", "pictures", "--instances", 2, *small)
        assert drawn.stdout == "6 pictures in pictures\n"
        import_formulas(str(EXAMPLE))
        fdsl.family("lissajous")(sys.modules["lissajous"].Lissajous)
        assert fdsl.catalog("few.safetensors").params["a"].max() == 2
        lost = command("show", file, *small)
        assert lost.returncode == 1
        assert "family 'lissajous' does not exist" in lost.stderr
        assert "--formula FILE" in lost.stderr

    def test_it_draws_its_own_sheet(self, tmp_path: Path) -> None:
        subprocess.run([sys.executable, EXAMPLE], check=True, cwd=tmp_path)
        with Image.open(tmp_path / "lissajous.png") as sheet:
            assert sheet.width > 8 * 224


class TestPolylines:
    def test_they_are_lines_of_pillow_between_the_fitted_vertices(self) -> None:
        random = np.random.default_rng(0)
        lines = [np.float32(random.normal(0, 9, (count, 2))) for count in (2, 40, 3)]
        image = pictures(family_of(lines, "polylines"), RenderSpec(size=97, pad=4))[0, 0]
        vertices = np.concatenate(lines).astype(np.float64)
        low, high = vertices.min(0), vertices.max(0)
        sheet = Image.new("L", (97, 97))
        for line in lines:
            scale = (97 - 2 * 4 - 1) / (high - low)
            pixels = np.floor((line - low) * scale + (4 + 2.0**-8)).astype(int)
            ImageDraw.Draw(sheet).line([(x, 96 - y) for x, y in pixels.tolist()], fill=127)
        assert np.array_equal(image, np.asarray(sheet))

    def test_arrays_lists_and_tensors_are_alike(self) -> None:
        torch = pytest.importorskip("torch")
        lines = np.random.default_rng(1).random((3, 8, 2))
        kinds = [lines, list(lines), tuple(lines.tolist()), torch.from_numpy(lines), list(torch.from_numpy(lines))]
        kinds.append(torch.from_numpy(lines).requires_grad_())
        drawn = [pictures(family_of(kind, "polylines", f"kind{i}")).tobytes() for i, kind in enumerate(kinds)]
        assert len(set(drawn)) == 1
        one = [
            pictures(family_of(line, "polylines", f"one{i}")).tobytes() for i, line in enumerate([lines[0], lines[:1]])
        ]
        assert one[0] == one[1]

    def test_a_later_line_covers_and_one_vertex_is_a_dot(self) -> None:
        lines = [[[0, 0], [4, 4]], [[0, 4], [4, 0]], [[2, 1]]]
        image = pictures(family_of(lines, "polylines"), RenderSpec(size=5, pad=0, color="color"))[0]
        first, second, dot = image[:, 4, 0], image[:, 0, 0], image[:, 3, 2]
        assert len({tuple(color) for color in (first, second, dot)}) == 3
        assert np.array_equal(image[:, 2, 2], second)
        assert (image.max(0) > 0).sum() == 4 + 5 + 1

    def test_only_what_lies_in_the_padding_is_free(self) -> None:
        hit = pictures(fdsl.search("zigzags", categories=8), RenderSpec(size=60, pad=7), 4).max((0, 1)) > 0
        assert not hit[:7].any()
        assert hit[7].any()
        assert hit[-8].any()
        assert not hit[:, -7:].any()


class TestPoints:
    def test_a_pixel_is_the_floor_of_the_placement(self) -> None:
        points = np.float32(np.random.default_rng(2).normal(3, 40, (500, 2)))
        image = pictures(family_of(points), RenderSpec(size=53, pad=3, color="density"))[0, 0]
        exact = points.astype(np.float64)
        low, high = exact.min(0), exact.max(0)
        scale = (53 - 2 * 3 - 1) / (high - low)
        x, y = np.floor((exact - low) * scale + (3 + 2.0**-8)).astype(int).T
        counts = np.zeros((53, 53), int)
        np.add.at(counts, (52 - y, x), 1)
        assert np.array_equal(image, RenderSpec(color="density").palette[counts, 0])

    def test_the_last_point_has_the_hue_of_its_number(self) -> None:
        points = np.zeros((700, 2))
        points[:2] = [[0, 0], [1, 1]]
        points[2:] = [0.5, 0]
        spec = RenderSpec(size=3, pad=0, color="color")
        image, palette = pictures(family_of(points), spec)[0], spec.palette
        assert image[:, 2, 0].tolist() == palette[1].tolist()
        assert image[:, 2, 1].tolist() == palette[1 + 699 // 256].tolist()

    def test_a_patch_grows_each_point(self) -> None:
        catalog = fdsl.search("sparks", categories=2)
        points, patches = (pictures(catalog, replace(SMALL, draw=draw)) > 0 for draw in ("point", "patch"))
        assert (patches & points).sum() == points.sum() < patches.sum()
        near = np.lib.stride_tricks.sliding_window_view(
            np.pad(points, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), (2, 3)
        )
        assert not (patches & ~near.any((4, 5))).any()

    def test_equal_points_are_one_dot(self) -> None:
        for name, point in (("flat", [[0.1, 1e30]]), ("deep", [[7, -7, 1e-30]])):
            assert (pictures(family_of(np.repeat(point, 9, 0), name=name))[0] > 0).sum() == 1

    def test_points_in_space_are_seen_from_twelve_sides(self) -> None:
        points = np.float32(np.random.default_rng(3).normal(5, 2, (400, 3)) * [1, 2, 3])
        images = pictures(family_of(points), RenderSpec(size=64, pad=2), 13)
        exact = 2 * (points.astype(np.float64) - points.min()) / (np.float64(points.max()) - points.min()) - 1
        x, y, z = (exact - exact.mean(0)).T
        for number in range(12):
            angle = np.radians(30 * (1 + number))
            depth = (4 + np.cos(angle) * x - np.sin(angle) * z) * np.tan(np.radians(45 / 2))
            seen = np.stack([(np.sin(angle) * x + np.cos(angle) * z) / depth, y / depth])
            column, row = np.floor((seen + 1) / 2 * (64 - 2 * 2 - 1) + 2 + 2.0**-8).astype(int)
            expected = np.zeros((64, 64), bool)
            expected[63 - row, column] = True
            assert ((images[number, 0] > 0) != expected).sum() <= 2  # a sine that differs in the last bit
        assert np.array_equal(images[0], images[12])
        assert len({image.tobytes() for image in images}) == 12


class TestFields:
    def test_values_are_those_at_the_centres_of_the_pixels(self) -> None:
        seen = []

        def field(params: dict, x: np.ndarray, y: np.ndarray) -> np.ndarray:
            seen.append((x, y))
            return 1.5 * x - 0.2 * y - 0.1

        image = pictures(family_of(field, "field"), RenderSpec(size=20))[0, 0]
        centres = (np.arange(20) + 0.5) / 20
        x, y = np.meshgrid(centres, centres[::-1])
        assert np.array_equal(seen[0], [x, y])
        values = 1.5 * x - 0.2 * y - 0.1
        assert np.array_equal(image, np.floor(np.clip(values, 0, 1) * 255 + 0.5))

    @pytest.mark.parametrize("kind", [bool, np.float32, np.uint8, "torch"])
    def test_any_number_will_do(self, kind: Any) -> None:
        def field(params: dict, x: np.ndarray, y: np.ndarray) -> Any:
            if kind == "torch":
                return pytest.importorskip("torch").from_numpy(x > y).float()
            return (x > y).astype(kind)

        image = pictures(family_of(field, "field"), replace(SMALL, channels=3))[0]
        row, column = np.mgrid[:48, :48]
        assert np.array_equal(image, np.broadcast_to(np.where(column > 47 - row, 255, 0), (3, 48, 48)))

    def test_colours_go_round_with_the_value(self) -> None:
        catalog = family_of(lambda params, x, y: np.floor(x * 256) / 255, "field")
        image = pictures(catalog, RenderSpec(size=256, color="color"))[0]
        assert np.array_equal(image[:, 0].T, RenderSpec(color="color").palette[1 + np.arange(256) // 2])

    def test_a_view_moves_the_coordinates(self) -> None:
        spec = RenderSpec(size=32, view=RandomView(rotation=180, flip=0.5))
        corners = []

        def field(params: dict, x: np.ndarray, y: np.ndarray) -> np.ndarray:
            corners.append([[x[r, c], y[r, c]] for r in (0, -1) for c in (0, -1)])
            return x

        catalog = family_of(field, "field")
        for epoch in range(40):
            pictures(catalog, spec, epoch=epoch)
        top_left, top_right, low_left, low_right = np.array(corners).transpose(1, 0, 2)
        assert np.allclose(top_left + low_right, top_right + low_left)
        sides = np.hypot(*(top_right - top_left).T) * 32 / 31, np.hypot(*(low_left - top_left).T) * 32 / 31
        assert 0.08 <= (sides[0] * sides[1]).min() < 0.3 < (sides[0] * sides[1]).max() <= 1.0001
        (a, b), (c, d) = (top_right - top_left).T, (top_left - low_left).T
        turned = np.sign(a * d - b * c)
        assert set(turned) == {-1, 1}  # both plain and mirrored


@pytest.mark.parametrize("family", ["sparks", "sparks_in_space", "zigzags", "ripples"])
def test_a_crop_is_a_part_of_the_whole_picture(family: str) -> None:
    catalog = fdsl.search(family, categories=4)
    whole = pictures(catalog, RenderSpec(size=70), 3)
    for epoch in range(2):
        for large, small in zip(
            whole, pictures(catalog, RenderSpec(48, view=Crop(of=70)), 3, epoch=epoch), strict=True
        ):
            windows = np.lib.stride_tricks.sliding_window_view(large[0], (48, 48))
            assert (windows == small[0]).all((2, 3)).any()


@pytest.mark.parametrize("family", ["sparks", "zigzags", "ripples"])
def test_a_random_view_of_everything_is_nearly_the_picture(family: str) -> None:
    catalog = fdsl.search(family, categories=2)
    whole = pictures(catalog, SMALL) > 60
    viewed = pictures(catalog, replace(SMALL, view=RandomView((1.0, 1.0), (1.0, 1.0), flip=0.0))) > 60
    assert (whole & viewed).sum() > 0.9 * (whole | viewed).sum()


class TestRandom:
    def test_vary_is_keyed_by_seed_category_instance_and_epoch(self) -> None:
        draws: dict[tuple, float] = {}

        def vary(self: object, params: dict, random: np.random.Generator) -> dict:
            draws[key] = random.random()
            return params

        catalog = family_of([[0, 0]], vary=vary)
        for seed in (0, 1):
            for fresh in (False, True):
                for epoch in (0, 1):
                    dataset = Dataset(catalog, 2, SMALL, seed, fresh)
                    for index in (3, 0, 2, 1):
                        key = (seed, fresh, epoch, index)
                        dataset.batch([index], epoch=epoch)
        assert all(draws[seed, False, 0, i] == draws[seed, False, 1, i] for seed in (0, 1) for i in range(4))
        assert all(draws[seed, False, 0, i] == draws[seed, True, 0, i] for seed in (0, 1) for i in range(4))
        assert len(set(draws.values())) == 2 * 2 * 4

    def test_without_vary_instances_are_alike(self) -> None:
        images = pictures(family_of(np.eye(2)), instances=4)
        assert len({image.tobytes() for image in images}) == 1

    def test_params_come_back_as_they_were_given(self) -> None:
        given = {"whole": 3, "half": 0.5, "yes": True, "table": np.arange(6, dtype=np.int16).reshape(2, 3)}
        got: list[dict] = []
        catalog = family_of(lambda params: got.append(params) or [[0, 0]], sample=lambda self, random: given)
        pictures(catalog)
        assert {name: type(value) for name, value in got[0].items()} == {
            "whole": int, "half": float, "yes": int, "table": np.ndarray
        }  # fmt: skip
        assert np.array_equal(got[1]["table"], given["table"])
        assert not got[1]["table"].flags.writeable


class TestFillRate:
    def test_pictures_that_fill_less_are_rejected(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def field(params: dict, x: np.ndarray, y: np.ndarray) -> np.ndarray:
            return x < params["number"]

        family_of(field, "field", settings={"fill_rate": 0.5})
        catalog = fdsl.search("own", categories=20)
        assert 0.5 <= catalog.params["number"].min() < 0.6
        assert catalog.settings["fill_rate"] == 0.5
        assert fdsl.search("own", categories=20, fill_rate=0.9).params["number"].min() > 0.9
        assert "fill_rate is 2; expected a share" in error_of(lambda: fdsl.search("own", 1, fill_rate=2))
        # What Python draws the cpu judges, whatever else there is.
        monkeypatch.setattr(fdsl.candidates, "engine_for", lambda device, threads: object())
        assert fdsl.search("own", categories=20, device="cuda") == catalog

    def test_one_that_rejects_all_gives_up(self) -> None:
        fdsl.family("never")(type("Never", (), {"sample": lambda *_: None, "points": lambda *_: 0}))
        with pytest.raises(RuntimeError, match="found 0 of 1 categories among 50"):
            fdsl.search("never", categories=1, max_candidates=50)


def nan_last(count: int, width: int) -> np.ndarray:
    array = np.zeros((count, width))
    array[-1, -1] = np.nan
    return array


WHERE = "own, category 1, instance 2: "


@pytest.mark.parametrize(
    ("kind", "returned", "message"),
    [
        ("points", None, "points() returned None; expected (N, 2) or (N, 3) numbers"),
        ("points", nan_last(5, 2), "points() returned 1 numbers of 10 that are NaN or infinite; expected none"),
        ("points", [[1e300, 0]], "points() returned 1 numbers of 2 that are NaN or infinite"),
        ("points", np.zeros((3, 4)), "points() returned float64 (3, 4); expected (N, 2) or (N, 3)"),
        ("points", np.zeros(2), "points() returned float64 (2,)"),
        ("points", np.zeros((0, 2)), "points() returned float64 (0, 2); expected (N, 2) or (N, 3) numbers, N from 1"),
        ("points", [[1, 2], [3]], "points() returned [[1, 2], [3]]"),
        ("points", np.array([["a", "b"]]), "points() returned"),
        ("points", np.zeros((2, 2), complex), "points() returned"),
        ("points", "abc", "points() returned 'abc'"),
        ("points", 7, "points() returned 7"),
        ("points", lambda params: 1 / 0, "points() raised ZeroDivisionError: division by zero"),
        ("points", lambda params: params["x"], "points() raised KeyError: 'x'"),
        ("polylines", None, "polylines() returned None; expected a list of one or more (K, 2) arrays"),
        ("polylines", [], "polylines() returned no line"),
        ("polylines", np.zeros((0, 5, 2)), "polylines() returned no line"),
        ("polylines", [np.zeros((2, 2)), None], "polylines() returned None as line 1"),
        ("polylines", [np.zeros((2, 3))], "polylines() returned float64 (2, 3) as line 0"),
        ("polylines", [np.zeros((0, 2))], "polylines() returned float64 (0, 2) as line 0"),
        ("polylines", [nan_last(2, 2)], "polylines() returned line 0 with 1 numbers of 4 that are NaN or infinite"),
        ("polylines", np.zeros((2, 3, 3)), "polylines() returned float64 (3, 3) as line 0"),
        ("field", None, "field() returned None; expected numbers of the shape of x, (48, 48)"),
        ("field", lambda params, x, y: x[1:], "field() returned float64 (47, 48); expected numbers of the shape of x"),
        ("field", 0.5, "field() returned 0.5"),
        ("field", lambda params, x, y: x / 0 * 0, "field() returned 2304 values of 2304 that are NaN or infinite"),
        ("field", lambda params, x: x, "field() raised TypeError"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_makes_no_picture_is_named(kind: str, returned: Any, message: str) -> None:
    dataset = Dataset(family_of(returned, kind), 3, SMALL)
    text = error_of(lambda: dataset[5])
    assert text.startswith(WHERE + message)


def test_an_error_keeps_its_cause_and_the_epoch() -> None:
    dataset = Dataset(family_of(lambda params: 1 / 0), 3, SMALL, fresh=True)
    with pytest.raises(ValueError, match="category 0, instance 1, epoch 4: points") as caught:
        dataset.batch([1], epoch=4)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_failing_sample_or_vary_is_named() -> None:
    def error(sample: Any = None, **methods: Any) -> str:
        methods |= {"sample": sample} if sample else {}
        return error_of(lambda: pictures(family_of(np.eye(2), **methods)))

    def returning(value: Any) -> Any:
        return lambda self, *_: value(*_) if callable(value) else value

    assert error(vary=returning(None)).startswith("own, category 0, instance 0: vary() returned None; expected a dict")
    assert "instance 0: vary() raised ZeroDivisionError" in error(vary=returning(lambda *_: 1 / 0))
    assert error(returning(3)) == "own, candidate 0: sample() returned 3; expected a dict of numbers and arrays"
    assert "sample() returned {}" in error(returning({}))
    assert "sample() returned word 'a'; expected a number or an array" in error(returning({"word": "a"}))
    assert "sample() returned 5; expected a name" in error(returning({5: 5}))
    assert "sample() returned 'boxes'; expected a name" in error(returning({"boxes": 5}))
    assert "sample() raised TypeError" in error(lambda self: {})
    mixed = iter([{"a": 1, "b": 2}, {"a": 1.0, "b": 2}])
    text = error(returning(lambda random: next(mixed)))
    assert text == "own, candidate 1: sample() returned a float64 (); expected a int64 (), as for candidate 0"
    shapes = iter([{"a": [1, 2]}, {"c": [1]}])
    text = (
        error(returning(lambda random: next(shapes)), name="other")
        if False
        else error(returning(lambda random: next(shapes)))
    )
    assert "returned a missing, c int64 (1,); expected a int64 (2,), c missing, as for candidate 0" in text


@pytest.mark.parametrize(
    ("kind", "spec", "message"),
    [
        ("points", RenderSpec(points=5), "points is 5, but own has no points"),
        ("points", RenderSpec(fit="stored"), "fit is 'stored', but own has no probes"),
        ("polylines", RenderSpec(draw="patch"), "draw is 'patch', but own has no draw"),
        (
            "polylines",
            RenderSpec(color="density"),
            "color is 'density', but own has no density; expected one of gray, white, color",
        ),
        ("field", RenderSpec(pad=3), "pad is 3, but own has no pad"),
        ("field", RenderSpec(fit="own"), "fit is 'own', but own has no fit"),
        ("field", RenderSpec(color="white"), "color is 'white', but own has no white; expected one of gray, color"),
        ("field", RenderSpec(options={"a": 1}), "option 'a' is not one of own's"),
    ],
)
def test_what_a_formula_does_not_have_is_rejected(kind: str, spec: RenderSpec, message: str) -> None:
    catalog = family_of(np.eye(2), kind)
    assert message in error_of(lambda: Dataset(catalog, 1, spec))


class TestRegistration:
    @pytest.mark.parametrize("name", ["", "Own", "own-1", "1own", "a b", "../own", None])
    def test_bad_names(self, name: Any) -> None:
        assert "expected lower-case letters, digits and _" in error_of(lambda: fdsl.family(name))

    @pytest.mark.parametrize(
        ("members", "message"),
        [
            ({"points": lambda *_: 0}, "Own has no method sample(self, random)"),
            ({"sample": lambda *_: 0}, "Own has none of points, polylines, field; expected one of them"),
            ({"sample": lambda *_: 0, "points": lambda *_: 0, "field": lambda *_: 0}, "Own has points and field of"),
            ({"sample": lambda *_: 0, "points": lambda *_: 0, "settings": 3}, "settings is 3; expected a dict"),
            ({"sample": lambda *_: 0, "points": lambda *_: 0, "settings": {"x": {1}}}, "x is {1}; expected what JSON"),
            ({"sample": lambda *_: 0, "points": lambda *_: 0, "settings": {"fill_rate": 0}}, "fill_rate is 0"),
            ({"sample": lambda *_: 0, "points": lambda *_: 0, "settings": {"variation": 0}}, "expected another name"),
            ({"sample": lambda *_: 0, "points": lambda *_: 0, "__init__": lambda self, x: None}, "Own() raised TypeE"),
        ],
    )
    def test_bad_classes(self, members: dict, message: str) -> None:
        assert message in error_of(lambda: fdsl.family("own")(type("Own", (), members)))
        assert "own" not in families.family_names()
        assert "expected a class" in error_of(lambda: fdsl.family("own")(lambda: 0))  # type: ignore[type-var]

    def test_a_name_is_one_class_which_may_be_defined_again(self) -> None:
        fdsl.family("sparks")(formulas.Sparks)
        again = type("Sparks", (formulas.Sparks,), {"__module__": "formulas", "__qualname__": "Sparks"})
        fdsl.family("sparks")(again)
        assert families.family_named("sparks").formula is again
        message = error_of(lambda: fdsl.family("sparks")(formulas.Zigzags))
        assert message == "family 'sparks' is formulas.Sparks already; expected another name"
        assert "is fdsl.families.fractaldb.FractalDB already" in error_of(
            lambda: fdsl.family("fractaldb")(formulas.Sparks)
        )

    def test_a_catalog_of_an_unknown_family_says_how_to_register_it(self, tmp_path: Path) -> None:
        file = tmp_path / "own.safetensors"
        family_of(np.eye(2)).save(file)
        del families._FAMILIES["own"]
        message = error_of(lambda: Catalog.load(file))
        assert message.startswith(f"{file}: family 'own' does not exist; expected one of: fractaldb, ")
        assert "import the module that has @fdsl.family('own')" in message
        assert "entry point in 'fdsl.families'" in message

    def test_catalogs_need_a_row_for_each_category(self) -> None:
        family_of(np.eye(2))
        for params in ({}, {"a": np.zeros(2), "b": np.zeros(3)}, {"a": np.array(1.0)}, {"a": np.zeros(0)}):
            assert "expected arrays of one row for each category" in error_of(
                lambda params=params: Catalog("own", params)
            )

    def test_files_that_cannot_be_imported(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("broken_formula.py").write_text("import fdsl\n1 / 0\n")
        Path("json.py").write_text("")
        monkeypatch.setattr(sys, "path", list(sys.path))
        for source, message in (
            ("missing.py", "missing.py is not a file"),
            ("broken_formula.py", "broken_formula.py raised ZeroDivisionError: division by zero when it was imported"),
            ("no.module", "no.module raised ModuleNotFoundError"),
            ("json.py", "json.py: there is another module 'json'"),
        ):
            assert message in error_of(lambda source=source: import_formulas(source))
            result = CliRunner().invoke(app, ["--formula", source, "show", "own"])
            assert result.exit_code == 1
            assert message in result.stderr


class TestEntryPoint:
    @pytest.fixture
    def plug_in(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        entries = ["plugged = plugged_formula:Plugged", "broken = plugged_formula:Missing", "other = plugged_formula"]
        info = tmp_path / "plugged_formula-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged-formula\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[fdsl.families]\n" + "\n".join(entries) + "\n")
        (tmp_path / "plugged_formula.py").write_text(
            "import fdsl\n@fdsl.family('plugged')\nclass Plugged:\n"
            "    def sample(self, random): return {'x': random.random()}\n"
            "    def points(self, params): return [[0, 0], [params['x'], 1]]\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        yield tmp_path
        sys.modules.pop("plugged_formula", None)

    def test_it_is_loaded_when_its_name_is_asked_for(self, plug_in: Path) -> None:
        fdsl.search("fractaldb", categories=1)
        assert "plugged_formula" not in sys.modules
        assert len(fdsl.search("plugged", categories=3)) == 3
        Path("sheet.png").unlink(missing_ok=True)
        result = CliRunner().invoke(app, ["show", "plugged", "--size", "16", "--out", str(plug_in / "sheet.png")])
        assert result.exit_code == 0, result.output

    def test_a_broken_one_is_named(self, plug_in: Path) -> None:
        message = error_of(lambda: fdsl.search("broken", categories=1))
        assert message.startswith(
            "entry point broken = plugged_formula:Missing of plugged-formula cannot be loaded (Attr"
        )
        message = error_of(lambda: fdsl.search("other", categories=1))
        assert message.startswith("entry point other = plugged_formula of plugged-formula registers no family 'other'")
        (plug_in / "plugged_formula.py").write_text("import not_there\n")
        sys.modules.pop("plugged_formula", None)
        del families._FAMILIES["plugged"]
        assert "(ModuleNotFoundError: No module named 'not_there')" in error_of(lambda: fdsl.search("plugged", 1))


class TestProcesses:
    @pytest.mark.parametrize("start_method", ["fork", "spawn"])
    @pytest.mark.parametrize("from_file", [False, True])
    def test_loader_workers_find_the_family(self, start_method: str, from_file: bool, tmp_path: Path) -> None:
        torch = pytest.importorskip("torch")
        catalog = fdsl.search("zigzags", categories=3)
        if from_file:
            catalog.save(tmp_path / "zigzags.safetensors")
            catalog = Catalog.load(tmp_path / "zigzags.safetensors")
        dataset = Dataset(catalog, 4, SMALL)
        loader = torch.utils.data.DataLoader(
            dataset, batch_size=6, num_workers=1, multiprocessing_context=multiprocessing.get_context(start_method)
        )
        images = torch.cat([batch for batch, _ in loader]).numpy()
        assert np.array_equal(images, dataset.batch(range(12))[0])

    def test_a_pickle_registers_the_family_in_another_process(self) -> None:
        dataset = Dataset(fdsl.search("ripples", categories=2), 3, SMALL)
        script = (
            "import pickle, sys, hashlib\n"
            "dataset = pickle.load(sys.stdin.buffer)\n"
            "print(hashlib.sha256(dataset.batch(range(6))[0].tobytes()).hexdigest())\n"
        )
        ran = subprocess.run(
            [sys.executable, "-c", script],
            input=pickle.dumps(dataset),
            capture_output=True,
            check=True,
            env={"PYTHONPATH": ":".join([str(Path(__file__).parent), *sys.path])},
        )
        import hashlib

        assert ran.stdout.decode().strip() == hashlib.sha256(dataset.batch(range(6))[0].tobytes()).hexdigest()
