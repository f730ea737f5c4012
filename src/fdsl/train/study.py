"""Studies: a grid of pre-training and fine-tuning runs, which are done once each, and their table."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fdsl.train.finetuning import finetune  # first: it names what is missing
from fdsl.train.pretraining import pretrain
from fdsl.train.run_folder import LOG, REPORT
from fdsl.train.study_files import Cell, Settings, Study, is_seed, study_named
from fdsl.train.study_plots import plot
from fdsl.train.study_tables import StudyReport, report_of, shown, write_tables

# isort: split
from rich.progress import Progress

import fdsl
from fdsl.presets import PRESETS
from fdsl.train.progress import progress_bars
from fdsl.whole_files import whole_or_nothing

RESULT, _COPY = "result.json", "study.yaml"


@dataclass(frozen=True)
class Planned:
    """What a cell takes.

    Args:
        cell: its name.
        done: whether it is.
        run: the pre-training run that it needs; None where it starts from other weights.
        run_state: "to do", "done", or "shared" with an earlier cell; None without one.
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
        run = None if cell.settings.get("from") else cell.run
        steps, images = (None, None) if run is None else _length(cell)
        state = None
        if run is not None:
            done = (folder / "runs" / run / REPORT).is_file()
            state = "done" if done else "shared" if run in seen else "to do"
            seen.add(run)
        recipe = cell.recipe()
        speed = speeds.get((recipe.model.name, recipe.data.size)) if run else None
        finetunes = len(cell.settings.get("finetune.seeds") or (0,)) if cell.group("finetune") else 0
        found.append(
            Planned(
                cell=cell.name,
                done=(folder / "cells" / cell.name / RESULT).is_file(),
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
        results: list[tuple[Cell, list[float]]] = []
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
            results.append((cell, result["values"]))
            report = report_of(what, results)
            write_tables(report, folder)
            bars.advance(task)
        plot(report, what, _logs(what, folder), folder / "plot.png")
    return report


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


def _logs(what: Study, folder: Path) -> dict[str, list[Path]]:
    """The logs of pre-training, by what is varied in it beside seeds."""
    found: dict[str, list[Path]] = {}
    for cell in what.cells:
        name = ", ".join(shown(cell.levels[axis]) for axis in cell.pretraining if not is_seed(axis))
        log = folder / "runs" / cell.run / LOG
        if not cell.settings["from"] and log not in found.setdefault(name, []):
            found[name].append(log)
    return {name: logs for name, logs in found.items() if logs}


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
    images = round(categories * len(recipe.data.instance_numbers) * (1 - recipe.data.held_out))
    steps = schedule.epochs * (images // batch)
    return steps, steps * batch


def _speeds(folder: Path) -> dict[tuple[str, int], float]:
    """Images/s of the runs that are done, by model and pixels of a side."""
    found = {}
    for file in folder.glob(f"runs/*/{REPORT}"):
        with contextlib.suppress(ValueError, KeyError):
            report = json.loads(file.read_text())
            found[report["model"], report["recipe"]["data"]["size"]] = float(report["images_per_s"])
    return found
