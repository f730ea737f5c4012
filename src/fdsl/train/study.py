"""Studies: one file says a grid of pre-training and fine-tuning runs, and the table that they make."""

from __future__ import annotations

import contextlib
import csv
import difflib
import fcntl
import hashlib
import inspect
import io
import itertools
import json
import math
import os
import re
import shutil
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from fdsl.train.finetuning import finetune  # first: it names what is missing
from fdsl.train.intervals import student_t
from fdsl.train.pretraining import pretrain
from fdsl.train.recipes import Recipe, parsed_yaml, recipe_named
from fdsl.train.run_folder import LOG, REPORT

# isort: split
from rich.progress import Progress

import fdsl
from fdsl.families import family_named, family_names
from fdsl.presets import PRESETS
from fdsl.train.progress import progress_bars
from fdsl.whole_files import whole_or_nothing

RESULT, RESULTS, _COPY = "result.json", "results.json", "study.yaml"
_KEYS = ("title", "source", "recipe", "from", "catalog", "set", "vary", "finetune", "rows", "columns", "measure")
_GROUPS = tuple(name for name in Recipe.model_fields if name not in ("title", "source"))
# What a cell decides by itself: `from` in place of source and scratch, "set." before each override.
_OWN = ("source", "output", "device", "progress", "scratch", "set")
_FINETUNE = tuple(name for name in inspect.signature(finetune).parameters if name not in _OWN)
_SEARCH = tuple(
    name
    for name, parameter in inspect.signature(fdsl.search).parameters.items()
    if parameter.kind is not parameter.VAR_KEYWORD and name not in ("threads", "progress")
)

Settings = dict[str, Any]


@dataclass(frozen=True)
class Level:
    """One value of what is varied: what the table calls it, and the settings that it stands for."""

    text: str
    settings: Settings


@dataclass(frozen=True)
class Cell:
    """One run of the grid: its level on each axis, and all of its settings by dotted key."""

    levels: dict[str, str]
    settings: Settings
    # Axes that pre-training knows of; cells that are alike on these share a run.
    pretraining: tuple[str, ...]

    @property
    def name(self) -> str:
        """A folder's name, of the levels."""
        return _folder_name(self.levels, tuple(self.levels))

    @property
    def run(self) -> str:
        """The name of the pre-training run that it starts from."""
        return _folder_name(self.levels, self.pretraining)

    def group(self, root: str) -> Settings:
        """The settings under `root`, without it."""
        return {
            key.removeprefix(f"{root}."): value for key, value in self.settings.items() if key.startswith(f"{root}.")
        }

    def recipe(self, source: str | None = None) -> Recipe:
        """What it is pre-trained by; with another `data.source` where its catalog is searched."""
        settings = {key: value for key, value in self.settings.items() if key.partition(".")[0] in _GROUPS}
        if source is not None:
            settings["data.source"] = source
        return recipe_named(self.settings["recipe"], [f"{key}={json.dumps(value)}" for key, value in settings.items()])


@dataclass(frozen=True)
class Study:
    """What a study's file says.

    Args:
        title, source: what it repeats, and where that was published.
        axes: the levels of each thing that is varied.
        settings: of all cells, by dotted key; a level's go before them.
        rows, columns: axes of the table; the other ones are seeds, over which it takes means.
        measure: "accuracy" after fine-tuning, or a figure of pre-training's report, such as "held_out_accuracy".
        text: the file itself.
    """

    title: str
    source: str
    axes: dict[str, list[Level]]
    settings: Settings
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    measure: str
    text: str = field(repr=False)

    @property
    def cells(self) -> list[Cell]:
        """All combinations of levels, the last axis first."""
        before = tuple(
            axis
            for axis, levels in self.axes.items()
            if any(not key.startswith("finetune.") for level in levels for key in level.settings)
        )
        found = []
        for levels in itertools.product(*self.axes.values()):
            settings = dict(self.settings)
            for level in levels:
                settings.update(level.settings)
            texts = {axis: level.text for axis, level in zip(self.axes, levels, strict=True)}
            found.append(Cell(texts, settings, before))
        return found


@dataclass(frozen=True)
class Entry:
    """One place of the table.

    Args:
        levels: by axis.
        mean: of the measure; None where no cell of it is done.
        interval: half of the 95 % confidence interval (Student's t) over seeds; None of fewer than two.
        values: one a seed: of pre-training where those are varied, each a mean over fine-tuning's; else of fine-tuning.
    """

    levels: dict[str, str]
    mean: float | None
    interval: float | None
    values: list[float]


@dataclass(frozen=True)
class StudyReport:
    """The table of a study; `results.json` holds the same."""

    title: str
    source: str
    measure: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    entries: list[Entry]


@dataclass(frozen=True)
class Planned:
    """What a cell takes.

    Args:
        cell: its name.
        done: whether it is.
        run: the pre-training run that it needs; None where it starts from other weights.
        run_done: whether that is done, or an earlier cell's.
        steps, images: of that run; None where the clock or the data decides.
        finetunes: fine-tuning runs.
        hours: of pre-training, at the speed of the runs of that model that are done; None where there are none.
    """

    cell: str
    done: bool
    run: str | None
    run_done: bool
    steps: int | None
    images: int | None
    finetunes: int
    hours: float | None


def study_names() -> list[str]:
    """The studies of this package.

    >>> "points-small" in study_names()
    True
    """
    return sorted(file.name.removesuffix(".yaml") for file in _packaged().iterdir() if file.name.endswith(".yaml"))


def study_named(name_or_path: str | os.PathLike[str]) -> Study:
    """A study of this package by its name, or one from a YAML file.

    The file has `recipe` (a name or a file), `set` (settings of all runs), `vary` (the grid) and, unless pre-training
    itself is measured, `finetune` (arguments of `fdsl.train.finetuning.finetune`). A setting is a dotted key of the
    recipe ("data.points"), of a search whose catalog takes the place of `data.source` ("catalog.family"), of
    fine-tuning ("finetune.few_shot", "finetune.set.training.seed"), or `recipe`, or `from` (weights to start from
    instead of pre-training: scratch, timm:NAME, a run). In `vary` a setting has a list of values; a name of one's own
    has a list of mappings, each of settings that change together, with a `name` for the table.

    Raises:
        ValueError: there is no such study, or what it says cannot be run; names the file, the key and the near one.
        OSError: the file cannot be read.

    >>> study_named("points-small").rows
    ('data.points',)
    """
    name = os.fspath(name_or_path)
    if name in study_names():
        where, text = f"study {name}", _packaged().joinpath(f"{name}.yaml").read_text("utf-8")
    elif not Path(name).suffix and not Path(name).exists():
        near = difflib.get_close_matches(name, study_names(), n=3, cutoff=0.3) or study_names()
        raise ValueError(f"there is no study {name!r}; expected a YAML file or a name such as {', '.join(near)}")
    else:
        where, text = name, Path(name).read_text("utf-8")
    said = parsed_yaml(text, where)
    if not isinstance(said, dict):
        raise ValueError(f"{where}: expected keys such as recipe and vary, found {said!r:.40}")
    try:
        return _read(said, text)
    except ValueError as error:
        raise ValueError(f"{where}: {str(error).removeprefix('--set ')}") from None


def plan(source: str | os.PathLike[str], output: str | os.PathLike[str]) -> list[Planned]:
    """What each cell of a study takes, and what of it is done in `output`; nothing is run or written.

    Raises:
        ValueError: as `study_named`.

    >>> sum(planned.images for planned in plan("points-small", "runs/points"))  # doctest: +SKIP
    64000
    """
    folder, found, seen = Path(output), [], set()
    speeds = _speeds(folder)
    for cell in study_named(source).cells:
        run = None if cell.settings.get("from") else cell.run
        steps, images = (None, None) if run is None else _length(cell)
        run_done = run is not None and (run in seen or (folder / "runs" / run / REPORT).is_file())
        seen.add(run)
        speed = speeds.get(cell.recipe().model.name) if run else None
        finetunes = len(cell.settings.get("finetune.seeds") or (0,)) if cell.group("finetune") else 0
        found.append(
            Planned(
                cell=cell.name,
                done=(folder / "cells" / cell.name / RESULT).is_file(),
                run=run,
                run_done=run_done,
                steps=steps,
                images=images,
                finetunes=finetunes,
                hours=None if not speed or images is None or run_done else round(images / speed / 3600, 3),
            )
        )
    return found


def plan_table(planned: Sequence[Planned]) -> tuple[list[str], list[list[str]]]:
    """Heading and rows of a plan, with the sum at the end.

    >>> heading, rows = plan_table(plan("points-small", "runs/points"))  # doctest: +SKIP
    """
    rows = []
    new = [cell for cell in planned if not cell.done]
    for cell in planned:
        run = "" if cell.run is None else "done" if cell.run_done else _counted(cell.steps)
        images = "" if cell.run is None or cell.run_done else _counted(cell.images)
        hours = "" if cell.hours is None or cell.done else f"{cell.hours:.2f}"
        rows.append([cell.cell, "done" if cell.done else "to do", run, images, hours, str(cell.finetunes)])
    runs = [cell for cell in new if cell.run is not None and not cell.run_done]
    all_images, all_hours = sum(cell.images or 0 for cell in runs), sum(cell.hours or 0 for cell in runs)
    total = [f"{len(planned)} cells", f"{len(new)} to do", f"{len(runs)} runs", f"{all_images:,}"]
    rows.append([*total, f"{all_hours:.2f}" if all_hours else "", str(sum(cell.finetunes for cell in new))])
    return ["cell", "state", "steps", "images", "hours", "fine-tunes"], rows


def _counted(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def study(
    source: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str],
    device: str = "auto",
    progress: bool | Progress = True,
) -> StudyReport:
    """Runs the cells of a study that are not done, and writes its table.

    `output` gets `runs/` (pre-training; cells that differ in fine-tuning share one), `cells/NAME/result.json`,
    `catalogs/`, and after each cell `results.json`, `table.csv`, `table.md` and, where an axis is of numbers,
    `plot.png`. The same call goes on with what was interrupted: a cell that is done is not run again, and pre-training
    continues from its checkpoint. A study may be given more levels meanwhile.

    Args:
        source: one of `study_names()`, or a file; see `study_named`.
        output: a folder: new, empty, or this study's.
        device: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:1".
        progress: show a bar; or a Rich display to add it to.

    Raises:
        ValueError: as `study_named`; or a cell there was run with other settings.
        FileExistsError: `output` holds something else.
        RuntimeError: another process is at work on it.
        OSError: it cannot be written.
        KeyboardInterrupt: Ctrl-C.

    >>> study("points-small", output="runs/points").entries[0].mean  # doctest: +SKIP
    0.41
    """
    what = study_named(source)
    folder = Path(output)
    with _claimed(folder, what), progress_bars(progress) as bars:
        task = bars.add_task("cells", total=len(what.cells), note="")
        results: list[tuple[Cell, Settings]] = []
        # Before any is run: a cell of other settings is found at once.
        done = {cell.name: _done(cell, folder) for cell in what.cells}
        for cell in what.cells:
            bars.update(task, note=cell.name)
            try:
                result = done[cell.name] or _run(cell, what, folder, device, bars if progress else False)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(f"interrupted in {cell.name}; the same command goes on") from None
            except (ValueError, MemoryError, RuntimeError, OSError) as error:
                kind = next(
                    kind for kind in (ValueError, MemoryError, RuntimeError, OSError) if isinstance(error, kind)
                )
                raise kind(f"{cell.name}: {error}") from error
            results.append((cell, result))
            report = _report(what, results)
            _write(report, what, folder)
            bars.advance(task)
    return report


# Reading --------------------------------------------------------------------------------------------------------------


def _packaged() -> Any:
    return files("fdsl.train").joinpath("studies")


def _read(said: Settings, text: str) -> Study:
    for key in said:
        _known(key, _KEYS, "key")
    settings: Settings = {"recipe": said.get("recipe"), "from": said.get("from")}
    if settings["recipe"] is None:
        raise ValueError("recipe is missing; expected a name such as fractaldb-resnet50, or a file")
    for root in ("catalog", "finetune"):
        settings.update(_flat(said.get(root) or {}, root))
    settings.update(_mapping(said.get("set") or {}, "set"))
    axes = {}
    for axis, values in _mapping(said.get("vary") or {}, "vary").items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"vary: {axis} is {values!r:.40}; expected a list of values")
        axes[axis] = [_level(axis, value) for value in values]
        texts = [level.text for level in axes[axis]]
        if len(set(texts)) < len(texts):
            raise ValueError(f"vary: {axis} has two levels called {max(texts, key=texts.count)}; expected one of each")
    if not axes:
        raise ValueError("vary is missing; expected what differs, such as data.points: [10000, 50000]")
    for key in itertools.chain(settings, *(level.settings for levels in axes.values() for level in levels)):
        _check_key(key)
    rows, columns = _axes_of(said, axes, "rows"), _axes_of(said, axes, "columns")
    if not rows:
        rows = tuple(axis for axis in axes if axis not in columns and not _is_seed(axis))
    for axis in axes:
        if axis not in (*rows, *columns) and not _is_seed(axis):
            raise ValueError(f"{axis} is varied, and neither in rows nor in columns; expected it in one of them")
    finetuned = any(key.startswith("finetune.") for key in settings)
    measure = said.get("measure") or ("accuracy" if finetuned else "held_out_accuracy")
    if measure == "accuracy" and not finetuned:
        raise ValueError("measure is accuracy, which fine-tuning has; expected finetune, or held_out_accuracy")
    title, source = str(said.get("title") or ""), str(said.get("source") or "")
    found = Study(title, source, axes, settings, rows, columns, measure, text)
    names: dict[str, Settings] = {}
    for cell in found.cells:
        _check_cell(cell, measure)
        if names.setdefault(cell.name, cell.settings) != cell.settings:
            raise ValueError(f"two cells would be called {cell.name}; expected shorter names, by mappings with a name")
    return found


def _level(axis: str, value: Any) -> Level:
    if "." in axis or axis in ("recipe", "from"):
        return Level(_text(value), {axis: value})
    if not isinstance(value, dict):
        expected = "mappings of settings, for a name without a dot is no setting"
        near = _near(axis, [*_GROUPS, "recipe", "from"])
        raise ValueError(f"vary: {axis} has {value!r:.40}{near}; expected {expected}")
    settings = {key: entry for key, entry in value.items() if key != "name"}
    text = str(value["name"]) if "name" in value else ", ".join(map(_text, settings.values()))
    return Level(text, settings)


def _flat(said: Any, root: str) -> Settings:
    """`{"data": "digits", "set": {"training.seed": 1}}` of fine-tuning as dotted keys."""
    found: Settings = {}
    for key, value in _mapping(said, root).items():
        if root == "finetune" and key == "set":
            found.update({f"finetune.set.{name}": entry for name, entry in _mapping(value, "finetune.set").items()})
        else:
            found[f"{root}.{key}"] = value
    return found


def _mapping(value: Any, key: str) -> Settings:
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"{key} is {value!r:.40}; expected a mapping of settings to values")
    return value


def _axes_of(said: Settings, axes: Mapping[str, object], key: str) -> tuple[str, ...]:
    value = said.get(key) or []
    names = [value] if isinstance(value, str) else value
    for name in names:
        _known(name, tuple(axes), f"axis in {key}")
    return tuple(names)


def _check_key(key: str) -> None:
    root, dot, rest = key.partition(".")
    if key in ("recipe", "from"):
        return
    _known(root, ("catalog", "finetune", *_GROUPS), f"setting {key!r}:")
    if not dot:
        raise ValueError(f"setting {key!r} has no dot; expected one of the settings in it, such as {key}.NAME")
    if root == "finetune" and not rest.startswith("set."):
        _known(rest, _FINETUNE, "setting finetune.")


def _check_cell(cell: Cell, measure: str) -> None:
    """Says what is wrong before the first run; recipes complain by themselves."""
    cell.recipe()
    searched = cell.group("catalog")
    if searched and not cell.settings["from"]:
        family = searched.get("family")
        if family is None:
            raise ValueError("catalog.family is missing; expected one of " + ", ".join(family_names()))
        for key in searched:
            _known(key, (*_SEARCH, *family_named(family).settings), f"setting of {family} catalog.")
    if any(key.startswith("finetune.") for key in cell.settings) and "finetune.data" not in cell.settings:
        raise ValueError("finetune.data is missing; expected what to fine-tune on, such as cifar10")
    if cell.settings["from"] == "scratch" and "finetune.set.data.size" not in cell.settings:
        raise ValueError("from is scratch, which has no size of its own; expected data.size in finetune.set")
    if cell.settings["from"] and measure != "accuracy":
        raise ValueError(f"from is {cell.settings['from']!r}, which is not pre-trained; expected measure: accuracy")


def _known(name: Any, known: Sequence[str], what: str) -> None:
    if name not in known:
        space = "" if what.endswith(".") else " "
        raise ValueError(f"no {what}{space}{name}{_near(name, known)}; expected one of {', '.join(known)}")


def _near(name: Any, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name), known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _is_seed(axis: str) -> bool:
    return axis.rpartition(".")[2] == "seed"


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, (int, float)):
        return f"{value:,}"
    return value if isinstance(value, str) else json.dumps(value)


def _folder_name(levels: Mapping[str, str], axes: Sequence[str]) -> str:
    """`points=10000,seed=0`: the last part of a key, where no other axis has the same."""
    last = [axis.rpartition(".")[2] for axis in levels]
    parts = []
    for axis in axes:
        short = axis.rpartition(".")[2]
        parts.append(f"{short if last.count(short) == 1 else axis}={levels[axis].replace(',', '')}")
    name = ",".join(parts) or "all"
    plain = re.sub(r"[^\w=.,+-]+", "-", name)
    # Else two levels might have one folder, or its name be too long for a file system.
    return (
        plain if plain == name and len(name) < 150 else f"{plain[:150]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    )


# Running --------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _claimed(folder: Path, what: Study) -> Iterator[None]:
    """The study's folder, for this process alone."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / _COPY).is_file():
        raise FileExistsError(f"{folder} holds something else; expected a new or empty folder, or this study's")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _COPY).open("a+") as copy:
        try:
            fcntl.flock(copy, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(f"another process is at work on {folder}; expected a folder of its own") from None
        copy.truncate(0)
        copy.write(what.text)
        copy.flush()
        yield


def _identity(cell: Cell) -> Settings:
    # Through JSON, as it is stored.
    return dict(json.loads(json.dumps(cell.settings)))


def _done(cell: Cell, folder: Path) -> Settings | None:
    file = folder / "cells" / cell.name / RESULT
    if not file.is_file():
        return None
    try:
        result: Settings = json.loads(file.read_text())
        there, wanted = result["settings"], _identity(cell)
        result["values"], result["measure"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(
            f"{file} cannot be read; expected what a cell came to: remove it to run the cell again"
        ) from None
    for key in sorted(there.keys() | wanted.keys()):
        if there.get(key) != wanted.get(key):
            raise ValueError(
                f"{file.parent} was run with {key} {there.get(key)!r}, and the study says {wanted.get(key)!r}; "
                "expected the same, or another folder"
            )
    return result


def _run(cell: Cell, what: Study, folder: Path, device: str, bars: Progress | bool) -> Settings:
    arguments = cell.group("finetune")
    start, report = cell.settings.get("from"), None
    if not start:
        start = folder / "runs" / cell.run
        report = _pretrained(cell, folder, start, device, bars)
    elif start == "scratch":
        start = f"scratch:{cell.recipe().model.name}"
    place = folder / "cells" / cell.name
    result: Settings = {"settings": _identity(cell), "measure": what.measure, "pretrained": report}
    if arguments:
        overrides = {key: value for key, value in arguments.items() if key.startswith("set.")}
        arguments = {key: value for key, value in arguments.items() if key not in overrides}
        if overrides:
            arguments["set"] = tuple(f"{key[4:]}={json.dumps(value)}" for key, value in overrides.items())
        if not (place / "results.json").is_file():  # of a session that was interrupted: it goes on where there is one
            shutil.rmtree(place, ignore_errors=True)
        tuned = finetune(start, arguments.pop("data"), output=place, device=device, progress=bars, **arguments)
        result["finetuned"] = asdict(tuned)
    if what.measure == "accuracy":
        values = tuned.results[0].accuracies
    else:
        value = (report or {}).get(what.measure)
        if not isinstance(value, (int, float)):
            numbers = [key for key, entry in (report or {}).items() if isinstance(entry, (int, float))]
            raise ValueError(f"measure is {what.measure!r}, which is {value!r}; expected one of {', '.join(numbers)}")
        values = [float(value)]
    result["values"] = values
    place.mkdir(parents=True, exist_ok=True)
    with whole_or_nothing(place / RESULT) as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n")
    return result


def _pretrained(cell: Cell, folder: Path, run: Path, device: str, bars: Progress | bool) -> Settings:
    """The report of a pre-training run, of an earlier session where there is one."""
    if not (run / REPORT).is_file():
        run.parent.mkdir(exist_ok=True)
        recipe = cell.recipe(_catalog(cell, folder))
        pretrain(recipe, output=run, resume=(run / LOG).is_file(), device=device, progress=bars)
    report: Settings = json.loads((run / REPORT).read_text())
    return report


def _catalog(cell: Cell, folder: Path) -> str | None:
    """The file of the catalog that a cell's search finds; None where it searches none."""
    settings = cell.group("catalog")
    if not settings:
        return None
    short = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    file = (
        folder.resolve() / "catalogs" / f"{settings['family']}-{settings.get('categories', 1000)}-{short}.safetensors"
    )
    if not file.is_file():
        file.parent.mkdir(exist_ok=True)
        fdsl.search(**settings).save(file)
    return str(file)


def _length(cell: Cell) -> tuple[int | None, int | None]:
    """Steps and pictures of a cell's pre-training, where they can be told without opening its data."""
    recipe = cell.recipe()
    batch, schedule, source = recipe.training.batch_size, recipe.schedule, recipe.data.source
    if schedule.steps is not None:
        return schedule.steps, schedule.steps * batch
    categories = cell.group("catalog").get("categories", 1000) if cell.group("catalog") else None
    if categories is None and source in PRESETS:
        categories = PRESETS[source][1]
    if categories is None or schedule.epochs is None:
        return None, None
    steps = schedule.epochs * (round(categories * recipe.data.instances * (1 - recipe.data.held_out)) // batch)
    return steps, steps * batch


def _speeds(folder: Path) -> dict[str, float]:
    """Images/s of the runs that are done, by model."""
    found = {}
    for file in folder.glob(f"runs/*/{REPORT}"):
        with contextlib.suppress(ValueError, KeyError):
            report = json.loads(file.read_text())
            found[report["model"]] = float(report["images_per_s"])
    return found


# The table ------------------------------------------------------------------------------------------------------------


def interval(values: Sequence[float]) -> float | None:
    """Half of the 95 % confidence interval of a mean (Student's t); None of fewer than two values.

    >>> round(interval([0.5, 0.6, 0.7]), 3)
    0.248
    """
    if len(values) < 2:
        return None
    return student_t(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))


def _report(what: Study, results: Sequence[tuple[Cell, Settings]]) -> StudyReport:
    axes = (*what.rows, *what.columns)
    entries = []
    for levels in itertools.product(*(what.axes[axis] for axis in axes)):
        place = {axis: level.text for axis, level in zip(axes, levels, strict=True)}
        there = [
            result["values"]
            for cell, result in results
            if all(cell.levels[axis] == text for axis, text in place.items())
        ]
        # Fine-tuning runs from the same weights are no independent ones beside others of other weights.
        values = there[0] if len(there) == 1 else [statistics.fmean(values) for values in there]
        mean = statistics.fmean(values) if values else None
        entries.append(Entry(place, mean, interval(values), values))
    return StudyReport(what.title, what.source, what.measure, what.rows, what.columns, entries)


def table(report: StudyReport) -> tuple[list[str], list[list[str]]]:
    """Heading and rows, as in the papers: mean ± half of the 95 % interval, accuracies in %.

    >>> table(report)  # doctest: +SKIP
    (['points', 'digits'], [['10,000', '31.0 ± 2.2'], ['50,000', '64.3 ± 1.8']])
    """
    rows: dict[tuple[str, ...], dict[tuple[str, ...], Entry]] = {}
    for entry in report.entries:
        row = tuple(entry.levels[axis] for axis in report.rows)
        rows.setdefault(row, {})[tuple(entry.levels[axis] for axis in report.columns)] = entry
    places = list(next(iter(rows.values())))
    unit = " (%)" if _is_share(report.measure) else ""
    heading = [axis.rpartition(".")[2].replace("_", " ") for axis in report.rows]
    heading += [", ".join(place) or f"{report.measure.replace('_', ' ')}{unit}" for place in places]
    return heading, [
        [*row, *(_figure(found[place], report.measure) for place in places)] for row, found in rows.items()
    ]


def _is_share(measure: str) -> bool:
    return measure.endswith("accuracy")


def _figure(entry: Entry, measure: str) -> str:
    if entry.mean is None:
        return "–"
    factor, digits = (100, 1) if _is_share(measure) else (1, 3)
    text = f"{factor * entry.mean:.{digits}f}"
    return text if entry.interval is None else f"{text} ± {factor * entry.interval:.{digits}f}"


def _write(report: StudyReport, what: Study, folder: Path) -> None:
    heading, rows = table(report)
    lines = [heading, ["---"] * len(report.rows) + ["--:"] * (len(heading) - len(report.rows)), *rows]
    markdown = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    unit = ", %" if _is_share(report.measure) else ""
    source = f"Source: {report.source}\n\n" if report.source else ""
    note = f"{report.measure.replace('_', ' ')}{unit}; ±: half of the 95 % interval over seeds"
    texts = {
        RESULTS: json.dumps(asdict(report), indent=2) + "\n",
        "table.md": f"# {report.title or 'Study'}\n\n{source}{markdown}\n{note}\n",
        "table.csv": _csv(report),
    }
    for name, text in texts.items():
        with whole_or_nothing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    axis = next((axis for axis in (*what.rows, *what.columns) if _numbers(what, axis)), None)
    if axis:
        with whole_or_nothing(folder / "plot.png") as temporary:
            _plot(report, axis, _numbers(what, axis), temporary)


def _csv(report: StudyReport) -> str:
    axes = [*report.rows, *report.columns]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*axes, report.measure, "interval_95", "seeds", "values"])
    for entry in report.entries:
        values = " ".join(f"{value:.6g}" for value in entry.values)
        figures = ["" if figure is None else f"{figure:.6g}" for figure in (entry.mean, entry.interval)]
        writer.writerow([*(entry.levels[axis] for axis in axes), *figures, len(entry.values), values])
    return text.getvalue()


def _numbers(what: Study, axis: str) -> dict[str, float]:
    """The number of each level, where all of an axis are numbers and there are at least two."""
    values = {level.text: level.settings.get(axis) for level in what.axes[axis]}
    numbers = {text: v for text, v in values.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
    return numbers if len(values) == len(numbers) > 1 else {}


def _plot(report: StudyReport, axis: str, numbers: Mapping[str, float], image: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    others = [name for name in (*report.rows, *report.columns) if name != axis]
    lines: dict[str, list[tuple[float, float, float]]] = {}
    factor = 100 if _is_share(report.measure) else 1
    for entry in report.entries:
        if entry.mean is not None:
            point = (numbers[entry.levels[axis]], factor * entry.mean, factor * (entry.interval or 0))
            lines.setdefault(", ".join(entry.levels[name] for name in others), []).append(point)
    figure = Figure(figsize=(6, 4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    for name, points in lines.items():
        x, y, error = zip(*sorted(points), strict=True)
        panel.errorbar(x, y, error, marker="o", markersize=5, linewidth=1.5, capsize=3, label=name)
    unit = " (%)" if factor == 100 else ""
    panel.set(xlabel=axis.rpartition(".")[2].replace("_", " "), ylabel=f"{report.measure.replace('_', ' ')}{unit}")
    if report.title:
        panel.set_title(report.title, fontsize=10, loc="left", wrap=True)
    if min(numbers.values()) > 0 and max(numbers.values()) >= 8 * min(numbers.values()):
        panel.set_xscale("log")
    panel.set_xticks(sorted(numbers.values()), [f"{number:,}" for number in sorted(numbers.values())])
    panel.minorticks_off()
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(axis="y", color="#e5e5e5", linewidth=0.8)
    panel.set_axisbelow(True)
    if len(lines) > 1:
        panel.legend(frameon=False)
    figure.savefig(image, format="png")
