"""A study as a picture: its measure over an axis of numbers, and the loss of its pre-training runs."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fdsl.train.study_files import Study
from fdsl.train.study_tables import StudyReport, heading_of, is_share, shown
from fdsl.whole_files import whole_or_nothing

# More lines than matplotlib has colours cannot be told apart.
_MOST_LINES = 10


def plot(report: StudyReport, what: Study, logs: Mapping[str, Sequence[Path]], image: Path) -> None:
    """Draws the measure over the first axis of numbers, with intervals, beside the loss of pre-training over its steps.

    The first panel is left out where no axis is of numbers, the second where runs do not differ or are over ten;
    without either there is no picture.

    Args:
        report: the table.
        what: the study.
        logs: `log.csv` of the runs, one for each seed, by what tells them apart.
        image: the PNG file.

    >>> plot(report, study, {"10,000": [Path("runs/points=10000/log.csv")]}, Path("plot.png"))  # doctest: +SKIP
    """
    axes = (*report.rows, *report.columns)
    axis = next((axis for axis in axes if _numbers(what, axis)), None)
    curves = 1 < len(logs) <= _MOST_LINES
    if axis is None and not curves:
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * ((axis is not None) + curves), 3.8), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(1, (axis is not None) + curves, squeeze=False)[0])
    if report.title:
        figure.suptitle(report.title, fontsize=11)
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", color="#e5e5e5", linewidth=0.8)
        panel.set_axisbelow(True)
    if axis is not None:
        _draw_measure(panels[0], report, axis, _numbers(what, axis))
    if curves:
        _draw_losses(panels[-1], logs)
    with whole_or_nothing(image) as temporary:
        figure.savefig(temporary, format="png")


def _draw_measure(panel: Any, report: StudyReport, axis: str, numbers: Mapping[str, float]) -> None:
    others = [name for name in (*report.rows, *report.columns) if name != axis]
    factor = 100 if is_share(report.measure) else 1
    lines: dict[str, list[tuple[float, float, float]]] = {}
    for entry in report.entries:
        if entry.mean is not None:
            point = (numbers[entry.levels[axis]], factor * entry.mean, factor * (entry.interval or 0))
            lines.setdefault(", ".join(shown(entry.levels[name]) for name in others), []).append(point)
    for name, points in lines.items():
        x, y, error = zip(*sorted(points), strict=True)
        panel.errorbar(x, y, error, marker="o", markersize=5, linewidth=1.5, capsize=3, label=name)
    ticks = sorted(numbers.values())
    if ticks[0] > 0 and ticks[-1] >= 8 * ticks[0]:
        panel.set_xscale("log")
    panel.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    panel.minorticks_off()
    if factor == 100:
        panel.set_ylim(0, 100)
    panel.set(xlabel=heading_of(axis), ylabel=f"{heading_of(report.measure)}{' (%)' if factor == 100 else ''}")
    if len(lines) > 1:
        panel.legend(frameon=False, title=", ".join(map(heading_of, others)))


def _draw_losses(panel: Any, logs: Mapping[str, Sequence[Path]]) -> None:
    for number, (name, files) in enumerate(logs.items()):
        for file in files:
            with file.open(newline="") as lines:
                points = [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(lines) if row["loss"]]
            label = name if file == files[0] else None  # one for all seeds
            panel.plot(*zip(*points, strict=True), color=f"C{number}", linewidth=1, label=label)
    panel.set(xlabel="step of pre-training", ylabel="training loss (nats)", xlim=(0, None))
    panel.xaxis.get_major_locator().set_params(integer=True)
    panel.legend(frameon=False)


def _numbers(what: Study, axis: str) -> dict[str, float]:
    """The number of each level, where all of an axis are numbers and there are at least two."""
    values = {level.text: level.settings.get(axis) for level in what.axes[axis]}
    numbers = {text: v for text, v in values.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
    return numbers if len(values) == len(numbers) > 1 else {}
