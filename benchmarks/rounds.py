"""Contestants timed in rounds beside each other, and the report of it: what the benchmarks share.

Every round times every contestant, so that each ratio compares times of the same minute; the figure is the median
of the rounds' ratios of bests, because a machine whose other cores work now and then is fast or slow for seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import time
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from fdsl.engines import cpu

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Contestant:
    """Something timed: `go()` gives the images/s of one try by name; a round takes the best of `tries`."""

    label: str
    go: Callable[[], dict[str, float]]
    tries: int


@dataclass(frozen=True)
class Ratio:
    """`numerator` / `denominator` in images/s; `beside` says the latter in the table."""

    numerator: str
    denominator: str
    beside: str
    target: float | None = None


@dataclass
class Record:
    """What the rounds gave: a list with one value a round, by name."""

    images_per_s: dict[str, list[float]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)


def one_round(contestants: list[Contestant], record: Record, step: Callable[[str], None]) -> None:
    """All contestants in turn, again and again; who has fewer tries than others has them spread over the round."""
    bests: dict[str, float] = {}
    turns = max(contestant.tries for contestant in contestants)
    for turn in range(turns):
        for contestant in contestants:
            if turn * contestant.tries % turns < contestant.tries:
                step(contestant.label)
                for name, speed in contestant.go().items():
                    bests[name] = max(speed, bests.get(name, 0.0))
    for name, speed in bests.items():
        record.images_per_s.setdefault(name, []).append(speed)


def progress_bar() -> Progress:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@functools.cache
def memory(shape: tuple[int, ...]) -> np.ndarray:
    return np.zeros(shape, np.uint8)


def import_file(name: str, file: Path) -> types.ModuleType:
    specification = importlib.util.spec_from_file_location(name, file)
    if specification is None or specification.loader is None:
        raise SystemExit(f"{file} is no Python file")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def speeds(record: Record) -> dict[str, dict[str, Any]]:
    """Best, median and all rounds of each contestant."""
    return {
        name: {"best": max(values), "median": median(values), "rounds": values}
        for name, values in record.images_per_s.items()
    }


def compared(record: Record, ratios: Iterable[Ratio]) -> list[dict[str, Any]]:
    """The ratios whose both sides ran."""
    ran = record.images_per_s.keys()
    return [ratio_entry(ratio, record) for ratio in ratios if {ratio.numerator, ratio.denominator} <= ran]


def ratio_entry(ratio: Ratio, record: Record) -> dict[str, Any]:
    pairs = zip(record.images_per_s[ratio.numerator], record.images_per_s[ratio.denominator], strict=True)
    values = [numerator / denominator for numerator, denominator in pairs]
    return {
        "of": ratio.numerator,
        "to": ratio.denominator,
        "beside": ratio.beside,
        "ratio": median(values),
        "target": ratio.target,
        "met": None if ratio.target is None else median(values) >= ratio.target,
        "rounds": values,
    }


def rounded_to_five_digits(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: rounded_to_five_digits(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded_to_five_digits(item) for item in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def machine() -> dict[str, Any]:
    return {
        "cpu": cpu_model(),
        "cores": CORES,
        "kernel": cpu.kernel_name(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def versions(packages: Iterable[str], checkouts: dict[str, Path | None]) -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found | {peer: revision(checkout) for peer, checkout in checkouts.items() if checkout}


def revision(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    with contextlib.suppress(OSError):
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
    return "unknown"


def new_table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
    for number, column in enumerate(columns):
        words = number == 0 or column == "to"
        table.add_column(column, justify="left" if words else "right", no_wrap=not words)
    return table


def speed_table(title: str, report: dict[str, Any], unit: str = "images/s") -> Table:
    table = new_table(title, "what", unit, "ratio", "to", "target", "met")
    for name, speed in report["images_per_s"].items():
        rate = f"{speed['median']:,.0f}" if speed["median"] >= 100 else f"{speed['median']:.2f}"
        entries = [entry for entry in report["ratios"] if entry["of"] == name]
        for number, entry in enumerate(entries or [None]):
            cells = ("", "") if number else (name, rate)
            table.add_row(*cells, *(ratio_cells(entry) if entry else ()))
    return table


def ratio_cells(entry: dict[str, Any]) -> tuple[str, str, str, str]:
    ratio = f"{entry['ratio']:,.0f}" if entry["ratio"] >= 100 else f"{entry['ratio']:.2f}"
    target = "" if entry["target"] is None else f"≥ {entry['target']:,}"
    return f"{ratio} x", entry["beside"], target, met_cell(entry)


def met_cell(entry: dict[str, Any]) -> str:
    return {None: "", True: "[green]yes[/green]", False: "[red]no[/red]"}[entry["met"]]
