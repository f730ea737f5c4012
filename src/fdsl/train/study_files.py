"""Studies as files: a grid of settings, read and checked before anything is run."""

from __future__ import annotations

import difflib
import hashlib
import inspect
import itertools
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, get_type_hints

from fdsl.train.finetuning import Method, check_seeds, finetune, recipe_for  # first: it names what is missing
from fdsl.train.pretraining import PretrainReport
from fdsl.train.recipes import Recipe, parsed_yaml, recipe_named
from fdsl.train.weights import digest_of, file_of, info_of

# isort: split
import fdsl
from fdsl.families import family_named, family_names
from fdsl.presets import PRESETS
from fdsl.train import downstream

# Settings that are names or paths.
_TEXTS = ("recipe", "from", "finetune.data", "finetune.model", "finetune.recipe")
_KEYS = ("title", "source", "recipe", "from", "catalog", "set", "vary", "finetune", "rows", "columns", "measure")
_GROUPS = tuple(name for name in Recipe.model_fields if name not in ("title", "source"))
# What a cell decides by itself: `from` in place of source, "set." before each override.
_OWN = ("source", "output", "device", "progress", "set")
_FINETUNE = tuple(name for name in inspect.signature(finetune).parameters if name not in _OWN)
_SEARCH = tuple(
    name
    for name, parameter in inspect.signature(fdsl.search).parameters.items()
    if parameter.kind is not parameter.VAR_KEYWORD and name not in ("threads", "device", "progress")
)
# What of a report of pre-training is a number.
_FIGURES = tuple(name for name, kind in get_type_hints(PretrainReport).items() if kind in (int, float, float | None))

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

    @property
    def start(self) -> str | None:
        """What it is fine-tuned from in place of a run of pre-training."""
        start: str | None = self.settings["from"]
        return f"scratch:{self.recipe().model.name}" if start == "scratch" else start

    @property
    def finetuning(self) -> Settings:
        """The arguments of `finetune` that it says; none where it is not fine-tuned."""
        said = self.group("finetune")
        overrides = {key: said.pop(key) for key in list(said) if key.startswith("set.")}
        texts = tuple(f"{key.removeprefix('set.')}={json.dumps(value)}" for key, value in overrides.items())
        return said | ({"set": texts} if texts else {})

    def finetuning_recipe(self) -> Recipe:
        """What it is fine-tuned by."""
        tuned = self.finetuning
        if self.start is None:
            recipe = self.recipe()
            model, size = recipe.model.name, recipe.data.size
        else:
            info = info_of(self.start, model=tuned.get("model") if file_of(self.start) else None)
            model, size = info.model, info.size
        return recipe_for(model, size, tuned["data"], tuned.get("recipe"), tuned.get("set", ()))

    @property
    def identity(self) -> Settings:
        """What decides its result, as JSON has it: recipes as they are read and weights by content, as files change."""
        found: Settings = {"catalog": self.group("catalog"), "recipe": self.recipe()}
        if self.start is not None:
            found = {"from": digest_of(self.start)}
        if tuned := self.finetuning:
            tuned.pop("set", None)  # which the recipe has
            found["finetune"] = tuned | {"recipe": self.finetuning_recipe()}
        return dict(json.loads(json.dumps(found, default=_of_recipe)))


def _of_recipe(recipe: Recipe) -> Settings:
    return recipe.model_dump(mode="json", exclude={"title", "source"})


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
        """All combinations of levels, the last axis first; once where the seeds of a missing pre-training differ."""
        before = tuple(
            axis
            for axis, levels in self.axes.items()
            if any(not key.startswith("finetune.") for level in levels for key in level.settings)
        )
        found: list[Cell] = []
        unlike: list[tuple[dict[str, str], Settings]] = []
        for levels in itertools.product(*self.axes.values()):
            settings = dict(self.settings)
            for level in levels:
                settings.update(level.settings)
            texts = {axis: level.text for axis, level in zip(self.axes, levels, strict=True)}
            used = (
                {axis: text for axis, text in texts.items() if not is_seed(axis)},
                {key: value for key, value in settings.items() if key.startswith("finetune.") or not is_seed(key)},
            )
            if settings["from"] is None or used not in unlike:
                found.append(Cell(texts, settings, before))
                unlike.append(used)
        return found


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
    fine-tuning ("finetune.few_shot", "finetune.set.schedule.steps"), or `recipe`, or `from` (weights to start from
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
        return _read(json.loads(json.dumps(said, default=str)), text)  # dates are text
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from None
    except ValueError as error:
        raise ValueError(f"{where}: {str(error).removeprefix('--set ')}") from None


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
    for some in (settings, *(level.settings for levels in axes.values() for level in levels)):
        for key, value in some.items():
            _check_key(key, value)
    rows, columns = _axes_of(said, axes, "rows"), _axes_of(said, axes, "columns")
    if not rows:
        rows = tuple(axis for axis in axes if axis not in columns and not is_seed(axis))
    for axis in axes:
        if axis not in (*rows, *columns) and not is_seed(axis):
            raise ValueError(f"{axis} is varied, and neither in rows nor in columns; expected it in one of them")
    finetuned = any(key.startswith("finetune.") for key in settings)
    measure = said.get("measure") or ("accuracy" if finetuned else "held_out_accuracy")
    if measure == "accuracy" and not finetuned:
        raise ValueError("measure is accuracy, which fine-tuning has; expected finetune, or held_out_accuracy")
    _known(measure, ("accuracy", *_FIGURES), "measure")
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
    names = value if isinstance(value, list) else [value]
    for name in names:
        _known(name, tuple(axes), f"axis in {key}")
    return tuple(names)


def _check_key(key: str, value: Any) -> None:
    root, dot, rest = key.partition(".")
    if key in _TEXTS and not (isinstance(value, str) or (value is None and key != "finetune.data")):
        raise ValueError(f"{key} is {value!r:.40}; expected text")
    if key in ("recipe", "from"):
        return
    _known(root, ("catalog", "finetune", *_GROUPS), f"setting {key!r}:")
    if not dot:
        raise ValueError(f"setting {key!r} has no dot; expected one of the settings in it, such as {key}.NAME")
    if root == "finetune" and not rest.startswith("set."):
        _known(rest, _FINETUNE, "setting finetune.")


def _check_cell(cell: Cell, measure: str) -> None:
    """Says what is wrong before the first run; recipes complain by themselves."""
    recipe, searched = cell.recipe(), cell.group("catalog")
    if searched and cell.start is None:
        family = searched.get("family")
        if family is None:
            raise ValueError("catalog.family is missing; expected one of " + ", ".join(family_names()))
        for key in searched:
            _known(key, (*_SEARCH, *family_named(family).settings), f"setting of {family} catalog.")
    if tuned := cell.finetuning:
        if "data" not in tuned:
            raise ValueError("finetune.data is missing; expected what to fine-tune on, such as cifar10")
        if ":" not in tuned["data"] and tuned["data"] not in PRESETS and not Path(tuned["data"]).exists():
            _known(tuned["data"], downstream.NAMES, "dataset in finetune.data:")
        Method(**{key: tuned[key] for key in get_type_hints(Method) if key in tuned})
        check_seeds(tuned.get("seeds", (0,)))
    if cell.settings["from"] == "scratch" and "finetune.set.data.size" not in cell.settings:
        raise ValueError("from is scratch, which has no size of its own; expected data.size in finetune.set")
    if cell.start is not None and measure != "accuracy":
        raise ValueError(f"from is {cell.settings['from']!r}, which is not pre-trained; expected measure: accuracy")
    drawn = searched or recipe.data.source in PRESETS
    if measure == "held_out_accuracy" and drawn and not recipe.data.held_out:
        raise ValueError("data.held_out is 0, and held_out_accuracy is measured; expected a share, such as 0.1")
    if tuned:
        cell.finetuning_recipe()  # it complains by itself, too


def _known(name: Any, known: Sequence[str], what: str) -> None:
    if name not in known:
        space = "" if what.endswith(".") else " "
        raise ValueError(f"no {what}{space}{name}{_near(name, known)}; expected one of {', '.join(known)}")


def _near(name: Any, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name), known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def is_seed(axis: str) -> bool:
    """Whether what is varied is a seed, over which a table takes means.

    >>> is_seed("training.seed")
    True
    """
    return axis.rpartition(".")[2] == "seed"


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return value if isinstance(value, str) else json.dumps(value)


def _folder_name(levels: Mapping[str, str], axes: Sequence[str]) -> str:
    """`points=10000,seed=0`: the last part of a key, where no other axis has the same."""
    last = [axis.rpartition(".")[2] for axis in levels]
    parts = []
    for axis in axes:
        short = axis.rpartition(".")[2]
        parts.append(f"{short if last.count(short) == 1 else axis}={levels[axis]}")
    name = ",".join(parts) or "all"
    plain = re.sub(r"[^\w=.,+-]+", "-", name)
    # Else two levels might have one folder, or its name be too long for a file system.
    return (
        plain if plain == name and len(name) < 150 else f"{plain[:150]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    )
