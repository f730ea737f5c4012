#!/usr/bin/env python3
"""What 300 million pictures cost to open, what the catalogs cost to search, and FractalDB-1k from nothing to shards.

Each part runs in processes of its own, and leaves the results of the other parts in the JSON as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rounds import count, machine, new_table, rounded_to_five_digits, timed, versions

import fdsl

MILLION = 1_000_000
INSTANCES = 1000  # of each category
FIRST_BATCH_TARGET, MEMORY_TARGET = 1.0, 1000.0
EXAMPLE = """\
examples:
  python benchmarks/scale.py --parts opening search --catalog fractaldb-300k
  python benchmarks/scale.py --parts export --folder /data/fractaldb-1k --pictures 10000    # to try it out
"""


def main() -> None:
    arguments = parse_arguments()
    report: dict[str, Any] = {"benchmark": "scale"}
    if arguments.output.exists():
        report = json.loads(arguments.output.read_text(encoding="utf-8"))
    for name in arguments.parts:
        began, busy_before = datetime.now(UTC), os.getloadavg()[0]
        report[name] = {
            "date": began.isoformat(timespec="seconds"),
            "machine": machine() | {"load_average_before": busy_before},
            "versions": versions(("fdsl", "numpy", "torch"), {}),
            **rounded_to_five_digits(PARTS[name](arguments)),
        }
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2)) if arguments.json else print_tables(report, arguments.output)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=f"of {', '.join(PARTS)}")
    add("--catalog", default="fractaldb-300k", metavar="NAME", help="what opening opens: a preset, or a file")
    add("--rounds", type=count, default=5, metavar="N", help="of opening and search; medians count (default 5)")
    add("--batches", type=count, default=1000, metavar="N", help="of 64 pictures, while memory is watched")
    add("--pictures", type=count, default=MILLION, metavar="N", help="to export, up to 1,000,000 (default)")
    add("--workers", type=count, default=2, metavar="N", help="processes that export (default 2)")
    add("--folder", type=Path, metavar="FOLDER", help="new, for the shards; a temporary one unless said")
    add("--output", type=Path, default=Path(__file__).with_name("results") / "scale.json", metavar="FILE")
    add("--json", action="store_true", help="print the JSON and nothing else")
    arguments = parser.parse_args()
    if MILLION % arguments.pictures or arguments.pictures < INSTANCES:
        parser.error(f"--pictures {arguments.pictures} is not 1,000,000 divided by 1 to 1,000 without a rest")
    return arguments


# --- opening ----------------------------------------------------------------------------------------------------------

# A rank, as it starts: torch is there, and everything after that counts.
RANK = """
import json, re, sys, time
from pathlib import Path

def megabytes():
    status = Path("/proc/self/status").read_text()
    names = {"VmRSS": "all", "RssAnon": "own", "RssFile": "of_files", "VmHWM": "peak"}
    return {name: int(re.search(rf"{key}:\\s+(\\d+)", status)[1]) / 1e3 * 1.024 for key, name in names.items()}

def mapped(file):
    parts = re.findall(rf"{re.escape(str(file))}\\n(?:.*\\n)*?Rss:\\s+(\\d+)", Path("/proc/self/smaps").read_text())
    return sum(map(int, parts)) / 1e3 * 1.024

start = time.perf_counter()
import torch
imported = time.perf_counter()
before = megabytes()
import fdsl
began = time.perf_counter()
catalog = fdsl.catalog(sys.argv[1])
opened = time.perf_counter()
dataset = fdsl.Dataset(catalog, instances=1000, spec=fdsl.RenderSpec(size=224))
images, labels = next(iter(fdsl.Feed(dataset, batch_size=256)))
first = time.perf_counter()
assert images.shape[0] == 256 and len(dataset) == 1000 * len(catalog)
result = {
    "import_torch_s": imported - start, "import_fdsl_s": began - imported, "open_s": opened - began,
    "first_batch_s": first - began, "torch_mb": before["all"], "memory": [],
}
batches = int(sys.argv[2])
for number, batch in enumerate(fdsl.Feed(dataset, batch_size=64), 1):
    if batches and number in (1, batches // 10, batches // 2, batches):
        more = {name: value - before[name] for name, value in megabytes().items()}
        result["memory"].append({"batches": number} | more | {"of_the_catalog": mapped(catalog.path)})
    if number >= batches:
        break
result["seconds"] = time.perf_counter() - first
print(json.dumps(result))
"""


def opening(arguments: argparse.Namespace) -> dict[str, Any]:
    """A rank's first batch with the file in the page cache and without, and its memory over many batches."""
    catalog = fdsl.catalog(arguments.catalog)
    file = catalog.path
    assert file is not None, "the catalog has no file"

    def rank(batches: int = 0, cold: bool = False) -> dict[str, Any]:
        if cold:
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        command = [sys.executable, "-c", RANK, arguments.catalog, str(batches)]
        result: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        return result

    families = len(catalog), len(catalog) * INSTANCES, file.stat().st_size, catalog.digest
    figures = dict(zip(("categories", "pictures", "bytes", "digest"), families, strict=True))
    del catalog  # what is mapped stays in the page cache
    watched = rank(arguments.batches)
    starts = {"cached": [rank() for _ in range(arguments.rounds)]}
    starts["not_cached"] = [rank(cold=True) for _ in range(arguments.rounds)]
    keys = ("import_torch_s", "import_fdsl_s", "open_s", "first_batch_s")
    return figures | {
        "of": Path(arguments.catalog).stem,
        **{how: {key: median(one[key] for one in several) for key in keys} for how, several in starts.items()},
        "rounds": {how: [one["first_batch_s"] for one in several] for how, several in starts.items()},
        "torch_mb": watched["torch_mb"],
        "memory_mb_over_torch": watched["memory"],
        "images_per_s": 64 * arguments.batches / watched["seconds"],
    }


# --- search -----------------------------------------------------------------------------------------------------------


def search(arguments: argparse.Namespace) -> dict[str, Any]:
    """Categories a second, their variations probed, on all cores; and what a preset takes at that rate."""
    found = {}
    for family, categories in {"fractaldb": 1000, "exfractaldb": 1000, "rcdb": 100_000, "visualatom": 100_000}.items():
        seconds = [timed(partial(fdsl.search, family, categories)) for _ in range(arguments.rounds)]
        rate = categories / median(seconds)
        found[family] = {"categories_per_s": rate, "s_of_300k": 300_000 / rate, "of": categories, "rounds_s": seconds}
    return {"families": found}


# --- export -----------------------------------------------------------------------------------------------------------


def export(arguments: argparse.Namespace) -> dict[str, Any]:
    """The published search and FractalDB-1k in tar shards, by the command line, with an empty cache."""
    with tempfile.TemporaryDirectory(prefix="scale-") as temporary:
        folder = arguments.folder or Path(temporary, "shards")
        environment = os.environ | {"FDSL_CACHE": str(Path(temporary, "cache"))}

        def seconds_of(*command: str) -> float:
            line = [sys.executable, "-m", "fdsl.cli", *command, "--json"]
            return timed(lambda: subprocess.run(line, env=environment, stdout=subprocess.DEVNULL, check=True))

        searching = seconds_of("catalog", "fractaldb-1k")
        chosen = ("--instances", f"0:{INSTANCES}:{MILLION // arguments.pictures}", "--size", "256")
        workers = ("--workers", str(arguments.workers))
        writing = seconds_of("export", "fractaldb-1k", "--to", "webdataset", "--out", str(folder), *chosen, *workers)
        sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    return {
        "pictures": arguments.pictures,
        "workers": arguments.workers,
        "search_s": searching,
        "export_s": writing,
        "together_s": searching + writing,
        "pictures_per_s": arguments.pictures / writing,
        "bytes": sum(sizes),
        "bytes_per_picture": sum(sizes) / arguments.pictures,
        "files": len(sizes),
    }


def print_tables(report: dict[str, Any], output: Path) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = 120
    table = new_table("Scale", "what", "figure", "target")

    def row(what: str, value: float, target: float | None = None) -> None:
        table.add_row(what, f"{value:,.4g}" if value < 1e4 else f"{value:,.0f}", f"{target:g}" if target else "")

    if opened := report.get("opening"):
        what = f"{opened['of']}, {opened['pictures']:,} pictures"
        for how in ("cached", "not_cached"):
            seconds = opened[how]["first_batch_s"]
            row(f"{what}, file {how.replace('_', ' ')}: s from the name to a batch of 256", seconds, FIRST_BATCH_TARGET)
        for entry in opened["memory_mb_over_torch"]:
            row(f"{what}, batch {entry['batches']:,}: MB over torch's own", entry["all"], MEMORY_TARGET)
            row(f"{what}, batch {entry['batches']:,}: of that the process's own, not files'", entry["own"])
    for family, entry in report.get("search", {"families": {}})["families"].items():
        row(f"{family}: categories a second", entry["categories_per_s"])
    if exported := report.get("export"):
        for name in ("search_s", "export_s", "pictures_per_s", "bytes_per_picture", "files"):
            row(f"{exported['pictures']:,} pictures: {name.replace('_', ' ')}", exported[name])
    console.print(table)
    console.print(f"All figures: {output}")


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "opening": opening, "search": search, "export": export
}  # fmt: skip

if __name__ == "__main__":
    main()
