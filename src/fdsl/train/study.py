"""Studies: a grid of pre-training and fine-tuning runs, which are done once each, and their table."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fdsl.train.finetuning import finetune  # first: it names what is missing
from fdsl.train.pretraining import pretrain
from fdsl.train.recipes import parsed_yaml
from fdsl.train.run_folder import LOCK, LOG, REPORT, alone_in, differences
from fdsl.train.study_files import Cell, Settings, Study, is_seed, study_named
from fdsl.train.study_plots import plot
from fdsl.train.study_tables import StudyReport, report_of, shown, write_tables

# isort: split
import numpy as np
from rich.progress import Progress

import fdsl
from fdsl.datasets import held_out_instances
from fdsl.families import family_named
from fdsl.presets import PRESETS
from fdsl.train.progress import progress_bars
from fdsl.whole_files import whole_or_nothing

RESULT, _COPY = "result.json", ".study.yaml"


@dataclass(frozen=True)
class Planned:
    """What a cell takes.

    Args:
        cell: its name.
        done: whether it is.
        run: the pre-training run that it needs; None where it starts from other weights.
        run_state: "to do", "done", or "shared" with an earlier cell that is to do; None without one.
        steps, images: of that run; None where the clock or the data decides.
        finetunes: fine-tuning runs.
        hours: of pre-training, at the speed of the runs of that model that are done; None where there are none.
    """

    cell: str
    done: bool
    run: str | None
    run_state: str | None
    steps: int | None
    images: int | None
    finetunes: int
    hours: float | None


def plan(source: str | os.PathLike[str], output: str | os.PathLike[str]) -> list[Planned]:
    """What each cell of a study takes, and what of it is done in `output`; nothing is run or written.

    Raises:
        ValueError: as `study_named`.

    >>> sum(planned.images for planned in plan("points-small", "runs/points"))  # doctest: +SKIP
    537600
    """
    folder, found, seen = Path(output), [], set()
    speeds = _speeds(folder)
    for cell in study_named(source).cells:
        run = None if cell.settings["from"] else cell.run
        steps, images = (None, None) if run is None else _length(cell)
        state, done = None, (folder / "cells" / cell.name / RESULT).is_file()
        if run is not None:
            ended = done or (folder / "runs" / run / REPORT).is_file()
            state = "done" if ended else "shared" if run in seen else "to do"
            if not ended:
                seen.add(run)
        recipe = cell.recipe()
        speed = speeds.get((recipe.model.name, recipe.data.size)) if run else None
        finetunes = len(cell.finetuning.get("seeds", (0,))) if cell.finetuning else 0
        found.append(
            Planned(
                cell=cell.name,
                done=done,
                run=run,
                run_state=state,
                steps=steps,
                images=images,
                finetunes=finetunes,
                hours=None if not speed or images is None or state != "to do" else round(images / speed / 3600, 3),
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
        to_do = cell.run_state == "to do"
        run = _counted(cell.steps) if to_do else cell.run_state or ""
        images = _counted(cell.images) if to_do else ""
        hours = "" if cell.hours is None or cell.done else f"{cell.hours:.2f}"
        rows.append([cell.cell, "done" if cell.done else "to do", run, images, hours, str(cell.finetunes)])
    runs = [cell for cell in new if cell.run_state == "to do"]
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
    `catalogs/`, and after each cell `results.json`, `table.csv` and `table.md`; at the end `plot.png`, where
    there is something to draw. The same call goes on with what was interrupted: a cell that is done is not run again,
    and pre-training continues from its checkpoint. A study may be given more levels meanwhile.

    Args:
        source: one of `study_names()`, or a file; see `study_named`.
        output: a folder: new, empty, or this study's.
        device: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:1".
        progress: show a bar; or a Rich display to add it to.

    Raises:
        ValueError: as `study_named`; or a cell or run there is of other settings.
        FileExistsError: `output` holds something else, or the study of another title.
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
        results: list[tuple[Cell, list[float]]] = []
        # Before any is run: a cell of other settings is found at once.
        done = {cell.name: _done(folder / "cells" / cell.name, cell.identity) for cell in what.cells}
        for cell in what.cells:
            bars.update(task, note=cell.name)
            try:
                result = done[cell.name] or _run(cell, folder, device, bars if progress else False)
                results.append((cell, _values(result, what.measure)))
            except KeyboardInterrupt:
                raise KeyboardInterrupt(f"interrupted in {cell.name}; the same command goes on") from None
            except (ValueError, MemoryError, RuntimeError, OSError) as error:
                kind = next(
                    kind for kind in (ValueError, MemoryError, RuntimeError, OSError) if isinstance(error, kind)
                )
                raise kind(f"{cell.name}: {error}") from error
            report = report_of(what, results)
            write_tables(report, folder)
            bars.advance(task)
        plot(report, what, _logs(what, folder), folder / "plot.png")
    return report


@contextlib.contextmanager
def _claimed(folder: Path, what: Study) -> Iterator[None]:
    """The study's folder, for this process alone."""
    copy = folder / _COPY
    if folder.is_dir() and not copy.is_file() and any(file.name != LOCK for file in folder.iterdir()):
        raise FileExistsError(f"{folder} holds something else; expected a new or empty folder, or this study's")
    with alone_in(folder):
        title = (parsed_yaml(copy.read_text("utf-8"), str(copy)) or {}).get("title") if copy.is_file() else None
        if str(title or what.title) != what.title:
            raise FileExistsError(
                f"{folder} is of the study {title!r}; expected that of {what.title!r}, or a new folder"
            )
        with whole_or_nothing(copy) as temporary:
            temporary.write_text(what.text, encoding="utf-8")
        yield


def _done(place: Path, identity: Settings) -> Settings | None:
    """What a cell came to, of an earlier session; None where it is not done."""
    file = place / RESULT
    if not file.is_file():
        return None
    try:
        result: Settings = json.loads(file.read_text())
        there = dict(result["settings"])
        result["pretrained"], result["finetuned"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(
            f"{file} cannot be read; expected what a cell came to: remove it to run the cell again"
        ) from None
    for name, was, wanted in differences(there, identity):
        raise ValueError(
            f"{place} was run with {name} {was!r}, and the study says {wanted!r}; expected the same, or another folder"
        )
    return result


def _run(cell: Cell, folder: Path, device: str, bars: Progress | bool) -> Settings:
    place, arguments = folder / "cells" / cell.name, cell.finetuning
    start = cell.start or folder / "runs" / cell.run
    result: Settings = {"settings": cell.identity, "pretrained": None, "finetuned": None}
    if cell.start is None:
        recipe = cell.recipe(_catalog(cell, folder))
        # Of a run that has ended it gives the report.
        result["pretrained"] = asdict(pretrain(recipe, output=start, resume=True, device=device, progress=bars))
    if arguments:
        data = arguments.pop("data")
        result["finetuned"] = asdict(finetune(start, data, output=place, device=device, progress=bars, **arguments))
    place.mkdir(parents=True, exist_ok=True)
    with whole_or_nothing(place / RESULT) as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n")
    return result


def _values(result: Settings, measure: str) -> list[float]:
    """The measure of a cell, one for each seed of its last run."""
    if measure == "accuracy":
        return list(result["finetuned"]["results"][0]["accuracies"])
    value = result["pretrained"].get(measure)
    if value is None:
        raise ValueError(f"measure is {measure}, which is None; expected a run that has it")
    return [float(value)]


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


def _logs(what: Study, folder: Path) -> dict[str, list[Path]]:
    """The logs of pre-training, by what is varied in it beside seeds."""
    found: dict[str, list[Path]] = {}
    for cell in what.cells:
        name = ", ".join(shown(cell.levels[axis]) for axis in cell.pretraining if not is_seed(axis))
        log = folder / "runs" / cell.run / LOG
        if not cell.settings["from"] and log.is_file() and log not in found.setdefault(name, []):
            found[name].append(log)
    return found


def _length(cell: Cell) -> tuple[int | None, int | None]:
    """Steps and pictures of a cell's pre-training, where they can be told without opening its data."""
    recipe = cell.recipe()
    batch, schedule = recipe.training.batch_size, recipe.schedule
    if schedule.steps is not None:
        return schedule.steps, schedule.steps * batch
    catalog, data = cell.group("catalog"), recipe.data
    if not catalog and data.source in PRESETS:
        catalog = dict(zip(("family", "categories"), PRESETS[data.source], strict=True))
    if not catalog or schedule.epochs is None:
        return None, None
    seen, numbers = len(data.instance_numbers), np.asarray(data.instance_numbers)
    if data.held_out:
        share = round(1 - data.held_out, 12)
        seen -= held_out_instances(family_named(catalog["family"]), numbers, share, data.seed).sum()
    images = int(seen) * int(catalog.get("categories", 1000))
    steps = schedule.epochs * (images // batch)
    return steps, steps * batch


def _speeds(folder: Path) -> dict[tuple[str, int], float]:
    """Images/s of the runs that are done, by model and pixels of a side."""
    found = {}
    for file in folder.glob(f"runs/*/{REPORT}"):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            report = json.loads(file.read_text())
            found[report["model"], report["recipe"]["data"]["size"]] = float(report["images_per_s"])
    return found
