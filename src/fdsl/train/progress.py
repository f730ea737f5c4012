"""The bars that training shows on the standard error."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

import fdsl.progress


@contextlib.contextmanager
def progress_bars(progress: bool | Progress) -> Iterator[Progress]:
    """A Rich display for tasks with a `note`; one that is given passes through, and False gives one that is silent.

    >>> with progress_bars(False) as bars:
    ...     task = bars.add_task("searching", total=100, note="")
    """
    if isinstance(progress, Progress):
        yield progress
        return
    columns = (TextColumn("{task.description}"), BarColumn(20), TextColumn("{task.percentage:>3.0f} %"))
    note = TextColumn("{task.fields[note]}")
    with Progress(*columns, TimeElapsedColumn(), note, console=Console(stderr=True), disable=not progress) as bars:
        yield bars


def reports_to(bars: Progress) -> fdsl.progress.Progress:
    """What long work calls with (what, done, total): a bar for each thing that is done."""
    tasks: dict[str, TaskID] = {}

    def report(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bars.add_task(what, total=total, note="")
        bars.update(tasks[what], completed=done, total=total)

    return report
