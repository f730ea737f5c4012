"""Fine-tuning: what weights are worth on another dataset, over several seeds, beside training from scratch."""

from __future__ import annotations

import contextlib
import csv
import functools
import json
import os
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

try:
    import timm
    import torch
    from timm.models import group_parameters
except ImportError as error:
    raise ImportError(f"fine-tuning needs {error.name}, which is not installed; pip install 'fdsl[train]'") from error

from rich.progress import Progress

from fdsl.ranks import this_rank
from fdsl.train.augmentation import Augment
from fdsl.train.frozen_features import features_of, linear_accuracy, neighbour_accuracy
from fdsl.train.intervals import images_interval, seeds_interval
from fdsl.train.networks import device_named
from fdsl.train.pretraining import pretrain
from fdsl.train.progress import progress_bars, reports_to
from fdsl.train.recipes import Data, Model, Recipe, recipe_named
from fdsl.train.run_folder import CHECKPOINT, LOCK, alone_in, claim, differences
from fdsl.train.sources import Source, open_source
from fdsl.train.stored import StoredSource
from fdsl.train.weights import WeightsInfo, digest_of, file_of, info_of, network_from
from fdsl.whole_files import whole_or_nothing

RESULT, RESULTS = "result.json", "results.json"
_SCRATCH = "scratch"
_FEATURES_AT_ONCE = 256
# What an override of the recipe would be overridden by.
_ARGUMENTS = {"model.name": "model", "training.seed": "seeds", "data.source": "data"}


@dataclass(frozen=True)
class Method:
    """How weights are measured; see `finetune`."""

    freeze: int = 0
    linear: bool = False
    knn: int | None = None
    knn_temperature: float | None = 0.07
    few_shot: int | None = None

    def __post_init__(self) -> None:
        temperature = self.knn_temperature
        if not isinstance(self.linear, bool):
            raise ValueError(f"linear is {self.linear!r}; expected True or False")
        if temperature is not None and not (isinstance(temperature, (int, float)) and temperature > 0):
            raise ValueError(f"knn_temperature is {temperature!r}; expected a number over 0, or None")
        for name, least in (("freeze", 0), ("knn", 1), ("few_shot", 1)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise ValueError(f"{name} is {value!r}; expected a whole number of at least {least}")
        chosen = [name for name in ("freeze", "linear", "knn") if getattr(self, name)]
        if len(chosen) > 1:
            raise ValueError(f"{' and '.join(chosen)} are set; expected one of them")

    @property
    def frozen(self) -> bool:
        """Whether features are all that the network gives."""
        return self.linear or self.knn is not None

    def __str__(self) -> str:
        if self.frozen:
            return "linear" if self.linear else f"{self.knn}-NN"
        return f"fine-tuned behind {self.freeze} frozen stage{'s' * (self.freeze > 1)}" if self.freeze else "fine-tuned"


@dataclass(frozen=True)
class SourceResult:
    """What the weights of one source came to.

    Args:
        source: as it was asked for.
        model: timm's name.
        seeds: of the runs.
        accuracies: top-1 on the test pictures at the end of each, 0 to 1.
        mean: of them.
        low, high: the 95 % confidence interval.
        interval: what it is over: "seeds" (Student's t), or "images" where there is one seed (Wilson's).
    """

    source: str
    model: str
    seeds: list[int]
    accuracies: list[float]
    mean: float
    low: float
    high: float
    interval: str


@dataclass(frozen=True)
class FinetuneReport:
    """The comparison of sources; `results.json` holds the same.

    Args:
        data: what was fine-tuned on.
        how: "fine-tuned", "fine-tuned behind N frozen stages", "linear" or "N-NN".
        few_shot: training pictures of a class; None is all.
        classes, train_images, test_images: of the data.
        results: one for each source.
    """

    data: str
    how: str
    few_shot: int | None
    classes: int
    train_images: int
    test_images: int
    results: list[SourceResult]

    def table(self) -> str:
        """The results as a Markdown table, in percent.

        >>> print(report.table())  # doctest: +SKIP
        | cifar10, fine-tuned | model                 | accuracy | 95 % interval | over    |
        | ------------------- | --------------------- | -------- | ------------- | ------- |
        | runs/fractaldb      | deit_tiny_patch16_224 | 96.50    | 96.21 - 96.79 | 5 seeds |
        """
        shots = "" if self.few_shot is None else f", {self.few_shot} a class"
        rows: list[tuple[str, ...]] = [
            (f"{self.data}, {self.how}{shots}", "model", "accuracy", "95 % interval", "over")
        ]
        for result in self.results:
            over = f"{len(result.seeds)} seeds" if result.interval == "seeds" else f"{self.test_images:,} images"
            span = f"{100 * result.low:.2f} - {100 * result.high:.2f}"
            rows.append((result.source, result.model, f"{100 * result.mean:.2f}", span, over))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        rows.insert(1, tuple("-" * width for width in widths))
        return "\n".join(f"| {' | '.join(map(str.ljust, row, widths))} |" for row in rows)


def finetune(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    data: str,
    *,
    output: str | os.PathLike[str],
    model: str | None = None,
    recipe: str | os.PathLike[str] | None = None,
    set: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    freeze: int = 0,
    linear: bool = False,
    knn: int | None = None,
    knn_temperature: float | None = 0.07,
    few_shot: int | None = None,
    device: str = "auto",
    devices: int = 1,
    skip_corrupt: bool = False,
    progress: bool | Progress = True,
) -> FinetuneReport:
    """Measures the weights of each source on a dataset of real pictures: top-1 accuracy on its test pictures.

    The network is fine-tuned whole, behind frozen stages, or not at all (`linear`, `knn`). The accuracy is that of the
    end of a run, not its best. The folder `output` gets `results.md`, `results.csv`, `results.json` and a folder for
    each run, `SOURCE/seed-N`. A call that is repeated in the same folder does what is left: it resumes the run that
    was interrupted, and takes over what is done. The tables are of the last call's sources and seeds.

    Args:
        source: what `network_from` takes, or "scratch" for no weights and the model of the first other source; or
            several of them.
        data: "cifar10", "cifar100", "flowers102", "stanford-cars", "digits", "imagefolder:FOLDER" or "hf:NAME".
        output: the folder.
        model: timm's name, where a source does not say it.
        recipe: a recipe; None is "finetune-resnet" for a convolutional network, else "finetune-deit". Its picture size
            becomes that of the weights, unless `set` has it; its `crop_of` grows or shrinks with the size.
        set: overrides of the recipe, such as "schedule.epochs=10".
        seeds: each keys a run's head, order and augmentation, the few pictures, and the weights from scratch.
        freeze: stages that keep their weights; see `freeze_stages`.
        linear: train a linear classifier alone, on frozen features; see `linear_accuracy`.
        knn: no training: vote of so many nearest neighbours on frozen features; see `neighbour_accuracy`.
        knn_temperature: of the votes' weights; None weighs all votes the same.
        few_shot: train on so many pictures of each class, chosen by the seed. A batch is at most all of them.
        device: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:1".
        devices: processes on this machine that fine-tune, each with a GPU of its own.
        skip_corrupt: leave out picture files that cannot be decoded, with a warning that names them.
        progress: show bars; or a Rich display to add them to.

    Linear and k-NN see pictures with the mean and std of the weights' pre-training; of weights that are fixed, without
    `few_shot`, all seeds give the same, and only the first one is measured.

    Raises:
        FileExistsError: `output` holds something else.
        RuntimeError: another process is at work on it.
        OSError: a file cannot be read or written.
        ValueError: an argument is out of its range, weights do not fit, or `output` holds results of other settings.

    >>> finetune(["runs/fractaldb", "scratch"], "cifar10", output="runs/cifar10", seeds=range(5))  # doctest: +SKIP
    """
    names = [os.fspath(one) for one in ([source] if isinstance(source, (str, os.PathLike)) else source)]
    method = Method(freeze, linear, knn, knn_temperature if knn else None, few_shot)
    if not names:
        raise ValueError("source is empty; expected weights, or 'scratch'")
    check_seeds(seeds)
    rank = this_rank()
    if max(devices, rank.world_size) > 1 and (method.frozen or few_shot):
        raise ValueError(f"devices is {max(devices, rank.world_size)}; expected 1 for linear, knn and few_shot")
    where, folder = device_named(device), Path(output)
    if rank.rank == 0 and folder.exists() and not all(map(_is_ours, folder.iterdir())):
        raise FileExistsError(f"{folder} is not empty; expected a new or empty folder, or one of earlier results")
    with progress_bars(progress if rank.rank == 0 else False) as bars:
        open_pictures = functools.cache(functools.partial(_pictures, skip_corrupt, bars))
        entries = [_entry(name, names, model, data, recipe, set, open_pictures) for name in names]
        for number, entry in enumerate(entries):
            entry.check(method)
            for other in entries[:number]:
                if entry.folder == other.folder:
                    raise ValueError(f"source {entry.name} is {other.name} again; expected each once")
        runs = {(entry, seed): folder / entry.folder / f"seed-{seed}" for entry in entries for seed in seeds}
        if method.frozen and few_shot is None:
            runs = {(entry, seed): run for (entry, seed), run in runs.items() if entry.untrained or seed == seeds[0]}
        settings = {entry: entry.settings(method) for entry in entries}
        with alone_in(folder) if rank.rank == 0 else contextlib.nullcontext():
            # Read before the first run begins, so that results of other settings show at once.
            done = {key: _earlier(run / RESULT, settings[key[0]]) for key, run in runs.items()}
            task = bars.add_task(f"{data}, {method}", total=len(runs), note="")
            for (entry, seed), run in runs.items():
                bars.update(task, note=f"{entry.name}, seed {seed}")
                if done[entry, seed] is None:
                    try:
                        if method.frozen:
                            accuracy = entry.frozen(seed, method, where, bars)
                        else:
                            if rank.rank == 0:
                                claim(run, resume=True)
                                _store(None, settings[entry], run)  # no other settings go on with its checkpoint
                            accuracy = entry.fine_tuned(seed, method, run, bars, device, devices, skip_corrupt)
                    except KeyboardInterrupt:
                        raise KeyboardInterrupt(f"interrupted in {run}; the same call again goes on there") from None
                    done[entry, seed] = accuracy
                    if rank.rank == 0:
                        _store(accuracy, settings[entry], run)
                report = _report(data, method, entries, done)
                if rank.rank == 0:
                    _write(report, folder)
                bars.advance(task)
            bars.remove_task(task)
    return report


def check_seeds(seeds: object) -> None:
    """Refuses what is no list of seeds.

    Raises:
        ValueError: says what is expected.

    >>> check_seeds(range(5))
    """
    numbers = list(seeds) if isinstance(seeds, Sequence) else []
    if not (numbers and all(isinstance(one, int) and one >= 0 for one in numbers) and len({*numbers}) == len(numbers)):
        raise ValueError(f"seeds is {seeds!r}; expected a list of one or more different whole numbers, from 0")


def recipe_for(
    model: str, size: int, data: str, recipe: str | os.PathLike[str] | None = None, set: Sequence[str] = ()
) -> Recipe:
    """The recipe that a model is fine-tuned by; the options of the weights' network are not in it yet.

    Args:
        model: timm's name.
        size: of the pictures, in pixels, unless `set` has it.
        data, recipe, set: as `finetune` takes them.

    Raises:
        ValueError: as `recipe_named`; or `set` has what is an argument of `finetune`.

    >>> recipe_for("resnet50", 112, "cifar10").data.crop_of
    128
    """
    keys = [override.partition("=")[0].strip() for override in set]
    for key, argument in _ARGUMENTS.items():
        if key in keys:
            raise ValueError(f"--set {key} has no effect in fine-tuning; expected {argument} (--{argument})")
    recipe = recipe or ("finetune-resnet" if _is_convolutional(model) else "finetune-deit")
    own = recipe_named(recipe).data
    fixed = [f"data.size={size}", *set, f"data.source={json.dumps(data)}"]
    if own.crop_of is None or any(key.startswith(("data.crop_of", "data.view")) for key in keys):
        return recipe_named(recipe, set=fixed)
    # A window of a picture that did not grow or shrink with it would show another part of it.
    found = recipe_named(recipe, set=["data.crop_of=null", *fixed]).data
    return recipe_named(recipe, set=[*fixed, f"data.crop_of={round(own.crop_of * found.size / own.size)}"])


def freeze_stages(network: torch.nn.Module, stages: int) -> list[str]:
    """Freezes the first stages of a timm network: they get no gradients, and their batch norms stay as they are.

    | stages | ResNet (the layer table of FractalDB) | vision transformer |
    | --- | --- | --- |
    | 0 | nothing | nothing |
    | 1 | the stem: conv1, bn1 | patch and position embeddings, class token |
    | 2 | and layer1 (conv2_x) | and block 1 |
    | 3 | and layer2 (conv3_x) | and block 2 |
    | 4 | and layer3 (conv4_x) | and block 3 |
    | 5 | and layer4 (conv5_x): only the head learns | and block 4 |
    | depth + 1 | | and the last block with the final norm: only the head learns |

    Other models have the stages that timm groups them into (`group_matcher`).

    Returns:
        The names of the frozen parameters.

    Raises:
        ValueError: the network has not so many stages in front of its head, or timm does not say which.

    >>> len(freeze_stages(timm.create_model("resnet18"), 1))
    3
    """
    if not hasattr(network, "group_matcher"):
        raise ValueError(f"freeze is {stages}; expected 0, as timm knows no stages of {type(network).__name__}")
    groups = group_parameters(network, network.group_matcher(coarse=True))
    if not 0 <= stages < len(groups):
        raise ValueError(f"freeze is {stages}; expected 0 to {len(groups) - 1}, the stages in front of the head")
    frozen = [name for stage in range(stages) for name in groups[stage]]
    for name in frozen:
        network.get_parameter(name).requires_grad_(False)
    for module in network.modules():
        parameters = list(module.parameters(recurse=False))
        if (
            isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
            and parameters
            and not any(parameter.requires_grad for parameter in parameters)
        ):
            module.eval()
            module.train = functools.partial(_stay, module)  # which the training loop calls
    return frozen


def _stay(module: torch.nn.Module, mode: bool = True) -> torch.nn.Module:
    return module


@dataclass(frozen=True, eq=False)
class _Entry:
    """One source of weights, the recipe for it, and the pictures as the recipe has them."""

    name: str
    source: str
    info: WeightsInfo
    recipe: Recipe
    pictures: Source

    @functools.cached_property
    def weights(self) -> str:
        """What they are told apart by."""
        return digest_of(self.source)

    @property
    def folder(self) -> str:
        """That of its runs; two of other weights have two, wherever they lie."""
        if file_of(self.source) is None:
            return self.name.replace(":", "-")
        plain = re.sub(r"[^\w.-]+", "-", Path(self.source).resolve().name)
        return f"{plain[:60].strip('-.')}-{self.weights[:8]}"

    @property
    def untrained(self) -> bool:
        return self.source.startswith("scratch:")

    def check(self, method: Method) -> None:
        data = self.recipe.data.source
        if not self.pictures.held_out_images:
            raise ValueError(f"{data} has no test pictures; expected some, such as by data.held_out=0.2 in set")
        if (method.frozen or method.few_shot) and not isinstance(self.pictures, StoredSource):
            raise ValueError(f"data is {data!r}; expected stored pictures for linear, knn and few_shot")
        images = self._training_pictures(method, seed=0).images
        if method.knn and method.knn > images:
            raise ValueError(f"knn is {method.knn}; expected at most the {images} training pictures")
        network = self._network(0, self.pictures.classes)  # or weights that do not fit would show after other runs
        if method.freeze:
            freeze_stages(network, method.freeze)

    def settings(self, method: Method) -> dict[str, Any]:
        """What decides a result, beside the seed; as JSON has it."""
        settings = {
            "weights": self.weights,
            "pictures": self.pictures.digest,
            **asdict(method),
            "recipe": self.recipe.model_dump(mode="json", exclude={"title", "source"}),
        }
        return dict(json.loads(json.dumps(settings)))

    def fine_tuned(
        self,
        seed: int,
        method: Method,
        output: Path,
        bars: Progress,
        device: str,
        devices: int,
        skip_corrupt: bool,
    ) -> float:
        pictures = self._training_pictures(method, seed)
        training = {"seed": seed, "held_out_images": pictures.held_out_images}
        if method.few_shot is not None:
            training["batch_size"] = min(self.recipe.training.batch_size, pictures.images)
        recipe = self.recipe.model_copy(update={"training": self.recipe.training.model_copy(update=training)})
        network = self._network(seed, pictures.classes)
        if method.freeze:
            freeze_stages(network, method.freeze)
        report = pretrain(
            recipe,
            source=pictures if devices == 1 else None,  # several processes open their own
            network=network,
            output=output,
            resume=True,
            device=device,
            devices=devices,
            skip_corrupt=skip_corrupt,
            progress=bars,
        )
        assert report.held_out_accuracy is not None
        return report.held_out_accuracy

    def frozen(self, seed: int, method: Method, device: torch.device, bars: Progress) -> float:
        pictures, network = self._training_pictures(method, seed), self._network(seed, 0).to(device)
        assert isinstance(pictures, StoredSource)
        own = not self.untrained and len(self.info.mean) in (1, pictures.channels)
        seen = self.info if own else self.recipe.data
        augment = Augment(self.recipe.augmentation, len(pictures.classes), seen.mean, seen.std, seed).to(device)
        held_out = pictures.held_out(_FEATURES_AT_ONCE, device)
        assert held_out is not None
        train, test = (
            features_of(network, loader, augment.normalize, bars, what)
            for what, loader in (
                ("training pictures", pictures.train_as_measured(_FEATURES_AT_ONCE, device)),
                ("test pictures", held_out),
            )
        )
        if method.knn is None:
            return linear_accuracy(train, test)
        return neighbour_accuracy(train, test, method.knn, method.knn_temperature)

    def _training_pictures(self, method: Method, seed: int) -> Source:
        if method.few_shot is None:
            return self.pictures
        assert isinstance(self.pictures, StoredSource)
        return self.pictures.few_shot(method.few_shot, seed)

    def _network(self, seed: int, classes: list[str] | int) -> torch.nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network, _ = network_from(
                self.source,
                classes=classes,
                size=self.pictures.size,
                channels=self.pictures.channels,
                model=self.info.model,
                options=self.recipe.model.options,
            )
        return network.to(memory_format=torch.channels_last)  # faster, for convolutions


def _entry(
    name: str,
    names: Sequence[str],
    model: str | None,
    data: str,
    recipe: str | os.PathLike[str] | None,
    overrides: Sequence[str],
    open_pictures: Callable[[str], Source],
) -> _Entry:
    source = name
    if name == _SCRATCH:
        weights = next((other for other in names if other != name and not other.startswith("scratch:")), None)
        if weights is None and model is None:
            raise ValueError("source is 'scratch'; expected model, or a source whose model it takes")
        # The size and the options of the weights that it stands beside, too.
        info = info_of(f"scratch:{model}") if weights is None else info_of(weights, model=_fitting(weights, model))
        source = f"scratch:{info.model}"
    else:
        info = info_of(source, model=_fitting(source, model))
    settings = recipe_for(info.model, info.size, data, recipe, overrides)
    # What kept pre-training from overfitting is no part of the weights: fine-tuning has its recipe's own.
    options = {option: 0.0 if "drop" in option else value for option, value in info.options.items()}
    settings = settings.model_copy(update={"model": Model(name=info.model, options=options | settings.model.options)})
    return _Entry(name, source, info, settings, open_pictures(settings.data.model_dump_json()))


def _pictures(skip_corrupt: bool, bars: Progress, data: str) -> Source:
    return open_source(Data.model_validate_json(data), progress=reports_to(bars), skip_corrupt=skip_corrupt)


def _fitting(source: str, model: str | None) -> str | None:
    """The model that is asked for, of a source that does not name its own."""
    return None if file_of(source) is None else model


def _is_convolutional(model: str) -> bool:
    """Whether its recipe is the ResNet's: its first weights are a convolution of the picture, and not of patches."""
    first = (timm.get_pretrained_cfg(model) or timm.models.PretrainedCfg()).first_conv
    return not str(first).startswith("patch_embed")


def _store(accuracy: float | None, settings: dict[str, Any], run: Path) -> None:
    """Writes what a run is of, and what it came to; None until it has ended."""
    run.mkdir(parents=True, exist_ok=True)
    with whole_or_nothing(run / RESULT) as temporary:
        temporary.write_text(json.dumps({"accuracy": accuracy, "settings": settings}, indent=2) + "\n")


def _earlier(file: Path, settings: dict[str, Any]) -> float | None:
    """The accuracy that is there already, of a run of these settings that has ended."""
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text())
        earlier, accuracy = dict(found["settings"]), found["accuracy"]
        if accuracy is None and not (file.parent / CHECKPOINT).is_file():
            return None  # nothing to go on from, whatever it was of
        accuracy = None if accuracy is None else float(accuracy)
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{file}: not a result of fdsl; expected another output folder") from None
    for name, was, wanted in differences(earlier, settings):
        raise ValueError(f"{file}: its {name} is {was!r}, and {wanted!r} was asked for; expected another output folder")
    return accuracy


def _is_ours(path: Path) -> bool:
    """Whether that may lie in a folder of results: tables, sources with their runs, and what a killed write left."""
    return path.name.startswith(("results.", ".results.", LOCK)) or any(path.glob("seed-*"))


def _report(
    data: str, method: Method, entries: Sequence[_Entry], done: dict[tuple[_Entry, int], float | None]
) -> FinetuneReport:
    pictures, results = entries[0].pictures, []
    for entry in entries:
        accuracies = {seed: found for (of, seed), found in done.items() if of is entry and found is not None}
        if not accuracies:
            continue
        values = list(accuracies.values())
        mean, over = statistics.fmean(values), "seeds" if len(values) > 1 else "images"
        low, high = seeds_interval(values) if len(values) > 1 else images_interval(mean, pictures.held_out_images)
        figures = (round(mean, 6), round(low, 6), round(high, 6))
        results.append(SourceResult(entry.name, entry.info.model, list(accuracies), values, *figures, over))
    few_shot, classes = method.few_shot, len(pictures.classes)
    images = pictures.images if few_shot is None else few_shot * classes
    return FinetuneReport(data, str(method), few_shot, classes, images, pictures.held_out_images, results)


def _write(report: FinetuneReport, folder: Path) -> None:
    with whole_or_nothing(folder / RESULTS) as temporary:
        temporary.write_text(json.dumps(asdict(report), indent=2) + "\n")
    with whole_or_nothing(folder / "results.md") as temporary:
        temporary.write_text(report.table() + "\n")
    with whole_or_nothing(folder / "results.csv") as temporary, temporary.open("w", newline="") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(("source", "model", "data", "how", "few_shot", "seed", "accuracy", "test_images"))
        for result in report.results:
            for seed, accuracy in zip(result.seeds, result.accuracies, strict=True):
                few = "" if report.few_shot is None else report.few_shot
                row = (result.source, result.model, report.data, report.how, few, seed, accuracy, report.test_images)
                writer.writerow(row)
