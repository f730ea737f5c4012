"""Recipes: everything about a training run, as YAML, each a published setting with its source."""

from __future__ import annotations

import copy
import difflib
import json
import os
import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self, get_args

try:
    import yaml
    from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
except ImportError as error:
    name = {"yaml": "pyyaml"}.get(error.name or "", error.name)
    raise ImportError(f"recipes need {name}, which is not installed; pip install 'fdsl[train]'") from error

from fdsl.rendering import RandomView

RECIPE = "recipe.yaml"
# Of each group at most one is set, and an override of one replaces the others.
_LENGTHS = ("epochs", "steps", "seconds")
_WARM_UPS = ("warmup_epochs", "warmup_steps", "warmup_share")
_WINDOWS = ("crop_of", "view")
_ALTERNATIVES = {"schedule": (_LENGTHS, _WARM_UPS), "data": (_WINDOWS,)}


class Settings(BaseModel):
    """A group of settings; unknown names and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _at_most_one(settings: Settings, names: tuple[str, ...]) -> None:
    chosen = [f"{name} is {getattr(settings, name)}" for name in names if getattr(settings, name) is not None]
    if len(chosen) > 1:
        raise ValueError(f"{' and '.join(chosen)}; expected one of {', '.join(names)}")


class View(Settings):
    """A random-resized-crop: in the formula's plane where pictures are drawn, by torchvision where they are files.

    Args:
        scale: smallest and largest share of the picture's area.
        ratio: smallest and largest width / height.
        rotation: largest angle either way, in degrees.
        flip: chance of a left-right flip.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    rotation: float = 0.0
    flip: float = 0.0

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        RandomView(self.scale, self.ratio, self.rotation, self.flip)
        return self


class Data(Settings):
    """What is seen.

    Args:
        source: what `fdsl.catalog` takes, "shards:PATTERN", "imagefolder:FOLDER", or a downstream dataset.
        instances: of each category, of what is drawn: the first so many, or [start, stop, step] of a range.
        held_out: share of the weight rows (or of a folder's files) that training does not see; it is measured on them.
        size, points, draw, color, pad, fit, options: `RenderSpec`'s, of what is drawn.
        channels: 1 or 3.
        crop_of: draw (or resize) so many pixels and take a random window of `size`, unscaled.
        view: a random-resized-crop. None of the two: the whole picture; of a file that has not the size already, the
            middle.
        mean, std: pixels in 0 to 1 are shifted and scaled by them; one number, or one for each channel.
        repeats: how often a picture comes, each time with another view: repeated augmentation. An epoch of the
            schedule is as many pictures as there are all the same, as published.
        seed: of the dataset.
    """

    source: str = "fractaldb-1k"
    instances: int | tuple[int, ...] = 1000
    held_out: float = Field(default=0.0, ge=0, lt=1)
    size: int = Field(default=224, ge=1)
    points: int | None = Field(default=None, ge=1)
    draw: str | None = None
    color: str | None = None
    channels: Literal[1, 3] = 3
    pad: int | None = Field(default=None, ge=0)
    fit: str | None = None
    options: dict[str, Any] = {}
    crop_of: int | None = None
    view: View | None = None
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    repeats: int = Field(default=1, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**64)

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        _at_most_one(self, _WINDOWS)
        if isinstance(self.instances, tuple) and (len(self.instances) not in (2, 3) or 0 in self.instances[2:]):
            raise ValueError(f"instances is {self.instances}; expected a number, or [start, stop, step] of a range")
        if not (numbers := self.instance_numbers) or min(numbers[0], numbers[-1]) < 0:
            raise ValueError(f"instances is {self.instances}; expected one instance at least, numbered from 0")
        if self.crop_of is not None and self.crop_of < self.size:
            raise ValueError(f"crop_of is {self.crop_of}; expected at least the size, {self.size}")
        for name in ("mean", "std"):
            numbers = getattr(self, name)
            if len(numbers) not in (1, self.channels):
                raise ValueError(f"{name} has {len(numbers)} numbers; expected one, or one for each channel")
        if min(self.std) <= 0:
            raise ValueError(f"std is {self.std}; expected numbers over 0")
        return self

    @property
    def instance_numbers(self) -> range:
        """The numbers of a category's instances.

        >>> Data(instances=(0, 1000, 40)).instance_numbers
        range(0, 1000, 40)
        """
        return range(*self.instances) if isinstance(self.instances, tuple) else range(self.instances)


class Model(Settings):
    """A timm model: its name there, and options that `timm.create_model` takes (drop_path_rate, ...)."""

    name: str = "deit_tiny_patch16_224"
    options: dict[str, Any] = {}


class Optimizer(Settings):
    """The optimizer.

    Args:
        name: AdamW or SGD.
        learning_rate: at its highest.
        per_batch: the batch size it is for; it is scaled in proportion to the run's. None: it is as it is.
        momentum, nesterov: of SGD. timm's "sgd" is the one with Nesterov's, its "momentum" the one without.
        weight_decay: not of biases and norms, as timm does it. Or:
        decay_all: of these too, as torch does it.
        clip_norm: gradients are clipped to it.
    """

    name: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0)
    per_batch: int | None = Field(default=None, ge=1)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(default=0.05, ge=0)
    decay_all: bool = False
    clip_norm: float | None = Field(default=None, gt=0)


class Schedule(Settings):
    """How long a run is, and its learning rate.

    Args:
        epochs, steps, seconds: the length: one of them. With seconds the rate follows the clock.
        shape: "cosine" to `end`, or "steps": times `factor` at each of `milestones`.
        per: whether the rate changes every step or every epoch.
        warmup_epochs, warmup_steps, warmup_share: of a linear rise from `warmup_from`: one of them, or none. It is a
            part of the cosine's length, as in timm. With seconds: the share.
        warmup_from, end: learning rates; they are not scaled by the batch size.
        milestones: epochs, counted from 0.
        factor: of each milestone.
    """

    epochs: int | None = Field(default=None, ge=1)
    steps: int | None = Field(default=None, ge=1)
    seconds: float | None = Field(default=None, gt=0)
    shape: Literal["cosine", "steps"] = "cosine"
    per: Literal["step", "epoch"] = "step"
    warmup_epochs: float | None = Field(default=None, ge=0)
    warmup_steps: int | None = Field(default=None, ge=0)
    warmup_share: float | None = Field(default=None, ge=0, lt=1)
    warmup_from: float = Field(default=0.0, ge=0)
    end: float = Field(default=0.0, ge=0)
    milestones: tuple[int, ...] = ()
    factor: float = Field(default=0.1, gt=0)

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        _at_most_one(self, _LENGTHS)
        _at_most_one(self, _WARM_UPS)
        if self.epochs is None and self.steps is None and self.seconds is None:
            raise ValueError("expected one of epochs, steps and seconds")
        if self.seconds is not None and (self.warmup_epochs or self.warmup_steps):
            raise ValueError("the clock decides where seconds is set; expected a warm-up in warmup_share")
        if list(self.milestones) != sorted(self.milestones):
            raise ValueError(f"milestones is {self.milestones}; expected growing numbers of epochs")
        if bool(self.milestones) != (self.shape == "steps"):
            raise ValueError(f"shape is {self.shape!r}; expected 'steps' with milestones, and 'cosine' without")
        return self


class Augmentation(Settings):
    """What is done to pixel values and labels, on the device, keyed by sample.

    Args:
        rand_augment: magnitude (0 to 10), or None for none; timm's "rand-mM-mstdS-incI".
        rand_augment_std: of the magnitude, drawn for each operation.
        rand_augment_layers: operations a picture.
        rand_augment_increasing: of timm's operations those that grow stronger with the magnitude.
        color_jitter: largest change of brightness, contrast and saturation. timm leaves it out beside RandAugment.
        erasing: chance of a random rectangle of noise.
        mixup, cutmix: alpha of the beta distribution; 0 is never. Where both are over 0, each batch takes one of them.
        label_smoothing: share that is spread over all classes.
    """

    rand_augment: float | None = Field(default=None, ge=0, le=10)
    rand_augment_std: float = Field(default=0.5, ge=0)
    rand_augment_layers: int = Field(default=2, ge=1)
    rand_augment_increasing: bool = False
    color_jitter: float = Field(default=0.0, ge=0)
    erasing: float = Field(default=0.0, ge=0, le=1)
    mixup: float = Field(default=0.0, ge=0)
    cutmix: float = Field(default=0.0, ge=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)


class Training(Settings):
    """How a run goes.

    Args:
        batch_size: pictures of a step, of all ranks together.
        precision: "auto" is bf16 where the device is fast at it.
        compile: with torch.compile.
        ema: decay of an exponential moving average of the weights, which is then what is measured and saved.
        seed: keys weights, order, dropout and augmentation.
        checkpoint_every: steps; there is always one at the end.
        evaluations: how many, evenly over the run, the last one at its end.
        held_out_images: at most so many in each.
    """

    batch_size: int = Field(default=256, ge=1)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    compile: bool = False
    ema: float | None = Field(default=None, gt=0, lt=1)
    seed: int = Field(default=0, ge=0, lt=2**64)
    checkpoint_every: int = Field(default=1000, ge=1)
    evaluations: int = Field(default=10, ge=1)
    held_out_images: int = Field(default=10_000, ge=1)


class Recipe(Settings):
    """A whole run; `title` and `source` say what it repeats, and where that was published.

    >>> Recipe(schedule=Schedule(steps=100)).optimizer.name
    'adamw'
    """

    title: str = ""
    source: str = ""
    data: Data = Data()
    model: Model = Model()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule(epochs=300)
    augmentation: Augmentation = Augmentation()
    training: Training = Training()

    def yaml(self) -> str:
        """The recipe with all that is set, which `recipe_named` reads back to an equal one."""
        settings = self.model_dump(mode="json", exclude_none=True)
        return str(yaml.dump(settings, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True))


def recipe_names() -> list[str]:
    """The recipes of this package, by name.

    >>> "fractaldb-resnet50" in recipe_names()
    True
    """
    return sorted(
        _packaged(), key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
    )


def recipe_named(name_or_path: str | os.PathLike[str], set: Sequence[str] = ()) -> Recipe:
    """A recipe of this package by its name, or one from a YAML file or a run's folder.

    Args:
        name_or_path: one of `recipe_names()`, which goes before a path; a file; or a folder with a recipe.yaml.
        set: overrides such as "optimizer.learning_rate=1e-4", whose value is YAML. The length in `schedule.steps`
            replaces the one in `schedule.epochs`; so do the other settings of which there is but one.

    Raises:
        ValueError: there is no such recipe (names the near ones), it is no YAML (names the line), or a setting is
            unknown (names the near one), of another type, or out of its range.
        OSError: the file cannot be read.

    >>> recipe_named("fractaldb-resnet50", set=["schedule.steps=100"]).schedule.epochs is None
    True
    """
    settings, where = _settings_of(name_or_path)
    options = []
    for text in set:
        key, equals, value = text.partition("=")
        path = key.strip().split(".")
        if not equals or not all(path):
            raise ValueError(f"--set {text}: expected KEY=VALUE, such as optimizer.learning_rate=1e-4")
        _override(settings, path, parsed_yaml(value, f"--set {text}"), text)
        options.append((path, f"--set {text}"))
    try:
        return Recipe.model_validate_json(json.dumps(settings, default=str))
    except ValidationError as error:
        raise ValueError(_complaint(error, options, where)) from None


@cache
def _packaged() -> dict[str, tuple[str, dict[str, Any]]]:
    """File and settings of each recipe; a file with `variants` has one for each, which overrides the file's."""
    found = {}
    for file in files("fdsl.train").joinpath("recipes").iterdir():
        name, dot, _ = file.name.partition(".yaml")
        if not dot:
            continue
        settings = parsed_yaml(file.read_text("utf-8"), file.name)
        variants: dict[str, dict[str, Any]] = settings.pop("variants", None) or {"": {}}
        for suffix, overrides in variants.items():
            variant = copy.deepcopy(settings)
            for key, value in overrides.items():
                _override(variant, key.split("."), value, f"{key}={value}")
            found[f"{name}-{suffix}" if suffix else name] = (file.name, variant)
    return found


def _settings_of(name_or_path: str | os.PathLike[str]) -> tuple[dict[str, Any], str]:
    name, packaged = os.fspath(name_or_path), _packaged()
    if name in packaged:
        file, settings = packaged[name]
        return copy.deepcopy(settings), f"recipe {name} ({file})"
    path = Path(name)
    if path.is_dir():
        path = path / RECIPE
    elif not path.exists() and path.suffix not in (".yaml", ".yml"):
        near = difflib.get_close_matches(name, packaged, n=3, cutoff=0.3) or sorted(packaged)
        raise ValueError(f"there is no recipe {name!r}; expected a YAML file or a name such as {', '.join(near)}")
    settings = parsed_yaml(path.read_bytes(), str(path))
    if not isinstance(settings, dict):
        raise ValueError(f"{path}: expected settings such as 'data:' and 'model:', found {settings!r:.40}")
    data = settings.get("data")
    if isinstance(data, dict) and (beside := path.parent / str(data.get("source"))).is_file():
        data["source"] = str(beside)  # a catalog that came with the recipe
    return settings, str(path)


def _override(settings: dict[str, Any], path: list[str], value: Any, text: str) -> None:
    for group in _ALTERNATIVES.get(path[0], ()) if value is not None and len(path) > 1 else ():
        if path[1] in group and isinstance(settings.get(path[0]), dict):
            for other in group:
                if other != path[1]:
                    settings[path[0]].pop(other, None)
    for depth, key in enumerate(path[:-1], 1):
        if settings.get(key) is None:
            settings[key] = {}
        settings = settings[key]
        if not isinstance(settings, dict):
            raise ValueError(
                f"--set {text}: {'.'.join(path[:depth])} is {settings!r}, which has no settings of its own"
            )
    settings[path[-1]] = value


def _complaint(error: ValidationError, options: list[tuple[list[str], str]], where: str) -> str:
    """The first thing that is wrong, in one line that begins with the option or file it comes from."""
    first = error.errors(include_url=False)[0]
    loc = [str(part) for part in first["loc"]]
    for path, option in options:
        if path == loc[: len(path)] or loc == path[: len(loc)]:
            where = option
    key = ".".join(loc)
    if first["type"] == "extra_forbidden":
        known = list(_keys(Recipe))
        group = [one for one in known if one.rpartition(".")[0] == ".".join(loc[:-1])]
        # The near name in its group, else the key of that name in another.
        near = difflib.get_close_matches(key, group, n=1, cutoff=0.7) or [
            one for one in known if one.rpartition(".")[2] == loc[-1]
        ]
        hint = f"did you mean {near[0]}? " if near else ""
        return f"{where}: unknown key {key!r}; {hint}expected one of {', '.join(group)}"
    message = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    if first["type"] == "value_error":
        return f"{where}: {f'{key}: ' * bool(key)}{message}"
    if first["type"] in ("model_type", "model_attributes_type"):
        message = "expected settings of its own"
    return f"{where}: {key} is {first['input']!r}; {message}"


def _keys(settings: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in settings.model_fields.items():
        yield prefix + name
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, Settings):
                yield from _keys(kind, f"{prefix}{name}.")


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML, in which 1e-4 is a number as in YAML 1.2; PyYAML's is 1.1, which wants 1.0e-4."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Lists in one line."""


_Dumper.add_representer(
    list, lambda dumper, values: dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=True)
)


def parsed_yaml(text: str | bytes, where: str) -> Any:
    """What YAML says, in which 1e-4 is a number.

    Raises:
        ValueError: it is no YAML; begins with `where`, and names the line.

    >>> parsed_yaml("end: 1e-4", "my.yaml")
    {'end': 0.0001}
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise ValueError(f"{where}{line}: not YAML: {reason}") from None
