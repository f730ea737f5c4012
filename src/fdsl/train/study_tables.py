"""The table of a study, as the papers lay it out: for the terminal, as Markdown, CSV and JSON, and as a plot."""

from __future__ import annotations

import csv
import io
import itertools
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fdsl.train.intervals import half_width
from fdsl.train.study_files import Cell, Study
from fdsl.whole_files import whole_or_nothing

RESULTS = "results.json"


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


def report_of(what: Study, results: Sequence[tuple[Cell, Sequence[float]]]) -> StudyReport:
    """The table as far as its cells are done.

    Args:
        what: the study.
        results: cells that are done, and the measure for each seed of the last run in each.

    >>> report_of(study, [(cell, [0.8, 0.9])]).entries[0].mean  # doctest: +SKIP
    0.85
    """
    axes = (*what.rows, *what.columns)
    entries = []
    for levels in itertools.product(*(what.axes[axis] for axis in axes)):
        place = {axis: level.text for axis, level in zip(axes, levels, strict=True)}
        there = [
            list(values) for cell, values in results if all(cell.levels[axis] == text for axis, text in place.items())
        ]
        # Fine-tuning runs from the same weights are no independent ones beside others of other weights.
        values = there[0] if len(there) == 1 else [statistics.fmean(values) for values in there]
        mean = statistics.fmean(values) if values else None
        entries.append(Entry(place, mean, half_width(values) if len(values) > 1 else None, values))
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
    unit = " (%)" if is_share(report.measure) else ""
    heading = [heading_of(axis) for axis in report.rows]
    heading += [", ".join(map(shown, place)) or f"{heading_of(report.measure)}{unit}" for place in places]
    return heading, [
        [*map(shown, row), *(_figure(found[place], report.measure) for place in places)] for row, found in rows.items()
    ]


def heading_of(name: str) -> str:
    """What a table calls an axis or a measure.

    >>> heading_of("finetune.few_shot")
    'few shot'
    """
    return name.rpartition(".")[2].replace("_", " ")


def shown(text: str) -> str:
    """A level as people read it.

    >>> shown("10000")
    '10,000'
    """
    return f"{int(text):,}" if text.isdecimal() else text


def is_share(measure: str) -> bool:
    """Whether a figure is a share, which is shown in percent.

    >>> is_share("held_out_accuracy")
    True
    """
    return measure.endswith("accuracy")


def _figure(entry: Entry, measure: str) -> str:
    if entry.mean is None:
        return "–"
    factor, digits = (100, 1) if is_share(measure) else (1, 3)
    text = f"{factor * entry.mean:.{digits}f}"
    return text if entry.interval is None else f"{text} ± {factor * entry.interval:.{digits}f}"


def write_tables(report: StudyReport, folder: Path) -> None:
    """Writes `results.json`, `table.md` and `table.csv`.

    >>> write_tables(report, Path("runs/points"))  # doctest: +SKIP
    """
    heading, rows = table(report)
    lines = [heading, ["---"] * len(report.rows) + ["--:"] * (len(heading) - len(report.rows)), *rows]
    markdown = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    unit = ", %" if is_share(report.measure) else ""
    source = f"Source: {report.source}\n\n" if report.source else ""
    note = f"{heading_of(report.measure)}{unit}; ±: half of the 95 % interval over seeds"
    texts = {
        RESULTS: json.dumps(asdict(report), indent=2) + "\n",
        "table.md": f"# {report.title or 'Study'}\n\n{source}{markdown}\n{note}\n",
        "table.csv": _csv(report),
    }
    for name, text in texts.items():
        with whole_or_nothing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


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
