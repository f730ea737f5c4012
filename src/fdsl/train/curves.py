"""The curves of a run's log, as a picture."""

from __future__ import annotations

import csv
from pathlib import Path


def draw_curves(log: Path, image: Path, chance: float | None = None) -> None:
    """Draws loss and, where it was measured, held-out accuracy over the steps of a `log.csv`.

    Args:
        log: with the columns step, loss and held_out_accuracy (0 to 1), empty where a row has none.
        image: the PNG file.
        chance: accuracy of guessing, 0 to 1: a dashed line.

    Raises:
        OSError: the log cannot be read, or the image not be written.
        ValueError: nothing was logged yet.

    >>> draw_curves(Path("runs/demo/log.csv"), Path("curves.png"), chance=0.01)  # doctest: +SKIP
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with log.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    kinds = [("loss", 1.0, "training loss (nats)", "-"), ("held_out_accuracy", 100.0, "held-out accuracy (%)", "o-")]
    measured = {
        column: [(int(row["step"]), factor * float(row[column])) for row in rows if row.get(column)]
        for column, factor, _, _ in kinds
    }
    kinds = [kind for kind in kinds if measured[kind[0]]]
    if not kinds:
        raise ValueError(f"{log}: no row with a loss; expected the log of a run")
    figure = Figure(figsize=(4.5 * len(kinds), 3.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    for panel, (column, _, label, style) in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        points = measured[column]
        accuracy = column == "held_out_accuracy"
        style = style if len(points) > 1 else "o"
        panel.plot(*zip(*points, strict=True), style, color="#2a6f97", markersize=4, linewidth=1.5)
        panel.set(xlabel="step", ylabel=label, xlim=(0, None), ylim=(0, 100 if accuracy else None))
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", color="#e5e5e5", linewidth=0.8)
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.set_axisbelow(True)
        if accuracy and chance is not None:
            panel.axhline(100 * chance, color="#999999", linewidth=1, linestyle="--")
            panel.text(points[-1][0], 100 * chance + 1, "chance", color="#777777", horizontalalignment="right")
    figure.savefig(image)
