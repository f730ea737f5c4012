#!/usr/bin/env python3
"""How fast the cpu engine draws, searches and opens, beside a machine's limit and public renderers, all in one run."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import io
import json
import os
import subprocess
import sys
import tempfile
import types
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table
from rounds import (
    CORES,
    Contestant,
    Ratio,
    Record,
    compared,
    count,
    import_file,
    machine,
    memory,
    met_cell,
    new_table,
    one_round,
    progress_bar,
    rounded_to_five_digits,
    speed_table,
    speeds,
    timed,
    versions,
)

import fdsl
from fdsl.engines import cpu

POINTS = 100_000
SIZES = (512, 224)
DRAWS = ("point", "patch", "patch_per_point")
FITS = ("own", "stored")
PAD = 6
PICTURES_OF_EACH = 3
EXAMPLE = """\
example, with every contestant:
  python benchmarks/render_cpu.py --categories fractaldb-1k-first100 --limit limit/measure_limit.py \\
      --fractaldb FractalDB-Pretrained-ResNet-PyTorch --fractal-pretraining fractal-pretraining --published-search

checkouts: https://github.com/hirokatsukataoka16/FractalDB-Pretrained-ResNet-PyTorch (needs nothing more)
           https://github.com/catalys1/fractal-pretraining (needs numba)
"""

# The names of what is compared, in the table and in the JSON alike.
TWO_PASS, KNOWN_BOX = "limit two-pass {size}", "limit known-box {size}"
FRACTALDB = "FractalDB {draw}_gray 512"
NUMBA = "fractal-pretraining {draw} {size}"


def ours(draw: str, size: int, fit: str, threads: int = 1, more: str = "") -> str:
    return f"fdsl {draw} {size} {fit} {threads} thread{'s' * (threads > 1)}{' ' * bool(more)}{more}"


def main() -> None:
    arguments = parse_arguments()
    # Numba keeps compiled code beside the source unless told: a peer's checkout stays as it is.
    with tempfile.TemporaryDirectory(prefix="render_cpu-") as folder:
        os.environ["NUMBA_CACHE_DIR"] = str(Path(folder, "numba"))
        sys.dont_write_bytecode = True
        report = run(arguments, Path(folder))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if arguments.json:
        print(json.dumps(report, indent=2))
    else:
        print_tables(report, arguments.output)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--categories", type=Path, required=True, metavar="FOLDER", help="CSV files as published, one a category")
    add("--limit", type=Path, metavar="FILE", help="measure_limit.py: what one core could do (needs gcc and AVX-512)")
    add("--fractaldb", type=Path, metavar="CHECKOUT", help="the published FractalDB code")
    add("--fractal-pretraining", type=Path, metavar="CHECKOUT", help="fractal-pretraining, which draws with Numba")
    add("--published-search", action="store_true", help="also time the exact published search, once")
    add("--rounds", type=count, default=5, metavar="N", help="interleaved rounds (default 5)")
    add("--tries", type=count, default=9, metavar="N", help="tries a round; its best counts (default 9)")
    add("--peer-tries", type=count, default=3, metavar="N", help="likewise for public renderers (default 3)")
    add("--published-pictures", type=count, default=2, metavar="N", help="by FractalDB, a try (default 2)")
    add("--output", type=Path, default=Path(__file__).with_name("results") / "render_cpu.json", metavar="FILE")
    add("--json", action="store_true", help="print the JSON and nothing else")
    arguments = parser.parse_args()
    for name, path in (
        ("--categories", arguments.categories),
        ("--limit", arguments.limit),
        ("--fractaldb", arguments.fractaldb and arguments.fractaldb / "fractal_renderer" / "ifs_function.py"),
        ("--fractal-pretraining", arguments.fractal_pretraining and numba_source(arguments.fractal_pretraining)),
    ):
        if path is not None and not path.exists():
            parser.error(f"{name}: {path} does not exist")
    return arguments


# --- the run ----------------------------------------------------------------------------------------------------------


def run(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Every round, and the report of them."""
    began = datetime.now(UTC)
    busy_before = os.getloadavg()[0]
    try:
        catalog = fdsl.Catalog.from_csv(arguments.categories)
    except (OSError, ValueError) as error:
        raise SystemExit(f"--categories: {error}") from None
    record = Record()
    with progress_bar() as progress:
        note = progress.add_task("preparing", total=None)
        contestants = list(all_contestants(catalog, arguments))
        many = folder / "many.safetensors"
        save_many(catalog, many)
        progress.update(note, total=arguments.rounds * (sum(c.tries for c in contestants) + 2))
        for number in range(arguments.rounds):
            say = f"round {number + 1} of {arguments.rounds}: "

            def step(label: str, say: str = say) -> None:
                progress.update(note, description=say + label, advance=1)

            one_round(contestants, record, step)
            step("search")
            add_seconds(record, {search_name(): time_search()})
            step("opening")
            add_seconds(record, time_opening(many))
        if arguments.published_search:
            progress.update(note, description="the published search")
            add_seconds(record, {PUBLISHED_SEARCH: timed(fdsl.published.search)})
    return {
        "benchmark": "render_cpu",
        "date": began.isoformat(timespec="seconds"),
        "machine": machine() | {"load_average_before": busy_before},
        "versions": versions(
            ("fdsl", "numpy", "pillow", "numba", "torch"),
            {"FractalDB": arguments.fractaldb, "fractal-pretraining": arguments.fractal_pretraining},
        ),
        "settings": settings(catalog, arguments),
        **summary(record),
    }


def add_seconds(record: Record, seconds: dict[str, float]) -> None:
    for name, value in seconds.items():
        record.seconds.setdefault(name, []).append(value)


def all_contestants(catalog: fdsl.Catalog, arguments: argparse.Namespace) -> Iterator[Contestant]:
    """Size by size, so that the limit of a size runs right beside what is held to it."""
    tries = arguments.tries
    for size in SIZES:
        yield from our_contestants(catalog, size, tries)
        if arguments.limit:
            yield limit_contestant(arguments.limit, arguments.categories, size, len(catalog), tries)
    if arguments.fractal_pretraining:
        yield from numba_contestants(arguments.fractal_pretraining, catalog, arguments.peer_tries)
    if arguments.fractaldb:
        yield from fractaldb_contestants(arguments.fractaldb, catalog, arguments)


# --- contestants ------------------------------------------------------------------------------------------------------


def our_contestants(catalog: fdsl.Catalog, size: int, tries: int) -> Iterator[Contestant]:
    def entry(draw: str, fit: str, threads: int, more: str = "", kernel: str | None = None, **spec: Any) -> Contestant:
        render_spec = fdsl.RenderSpec(size=size, points=POINTS, draw=draw, fit=fit, pad=PAD, **spec)
        return our_contestant(catalog, render_spec, ours(draw, size, fit, threads, more), threads, kernel, tries)

    for threads in thread_counts():
        for draw in DRAWS:
            for fit in FITS:
                yield entry(draw, fit, threads)
    yield entry("patch", "own", 1, "3 channels", channels=3)
    yield entry("patch", "own", 1, "color", color="color")
    yield entry("patch", "own", 1, "density", color="density")
    if size == 512:
        for kernel in other_kernels():
            yield entry("point", "own", 1, kernel, kernel)


def thread_counts() -> tuple[int, ...]:
    return (1, 2) if CORES > 1 else (1,)


def our_contestant(
    catalog: fdsl.Catalog, spec: fdsl.RenderSpec, name: str, threads: int, kernel: str | None, tries: int
) -> Contestant:
    # Instances 80, 84 and 88 are the unvaried picture along three sets of trajectories: the very systems that the limit
    # draws, in a batch of about the usual size.
    dataset = fdsl.Dataset(catalog, instances=range(80, 80 + 4 * PICTURES_OF_EACH, 4), spec=spec)
    indices = np.arange(len(dataset))
    # Made and touched before the clock runs: a training loop reuses its memory.
    out = memory(dataset.batch(indices)[0].shape)
    forced = {"FDSL_CPU": kernel} if kernel else {}

    def go() -> dict[str, float]:
        with mock.patch.dict(os.environ, forced):
            return {name: len(indices) / timed(lambda: dataset.batch(indices, out=out, threads=threads))}

    go()
    return Contestant(name, go, tries)


def other_kernels() -> list[str]:
    """The kernels besides the one in use that run here."""

    def runs(kernel: str) -> bool:
        with mock.patch.dict(os.environ, FDSL_CPU=kernel), contextlib.suppress(ValueError):
            return cpu.kernel_name() == kernel
        return False

    return [kernel for kernel in ("avx2", "portable") if kernel != cpu.kernel_name() and runs(kernel)]


def limit_contestant(file: Path, categories: Path, size: int, expected: int, tries: int) -> Contestant:
    # It compiles itself on each start: a third of the starts, each with three repeats, gives it as many tries.
    starts = -(-tries // 3)
    command = [sys.executable, file, categories, "--points", POINTS, "--size", size, "--repeats", -(-tries // starts)]

    def go() -> dict[str, float]:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{file} failed:\n{done.stderr.strip()}")
        measured = json.loads(done.stdout)
        if measured["categories"] != expected:
            raise SystemExit(f"{file} drew {measured['categories']} categories; expected {expected}")
        return {
            TWO_PASS.format(size=size): measured["two_pass_images_per_s_per_core"],
            KNOWN_BOX.format(size=size): measured["known_box_images_per_s_per_core"],
        }

    return Contestant(f"limit {size}", go, starts)


def systems(catalog: fdsl.Catalog) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Affine maps (M, 6) as a…f and probabilities (M,) of each category."""
    params = catalog.params
    for maps, affine, probability in zip(params["maps"], params["affine"], params["probability"], strict=True):
        yield affine[:maps], probability[:maps]


def numba_source(checkout: Path) -> Path:
    return checkout / "fractal_learning" / "fractals" / "ifs.py"


def numba_contestants(checkout: Path, catalog: fdsl.Catalog, tries: int) -> Iterator[Contestant]:
    try:
        import numba  # noqa: F401
    except ImportError:
        raise SystemExit("--fractal-pretraining needs numba; pip install numba") from None
    with stand_in_for_cv2():
        peer = import_file("fractal_pretraining_ifs", numba_source(checkout))
    # Its layout: the matrix and the shift side by side, (M, 2, 3).
    inputs = [
        (np.ascontiguousarray(affine[:, [[0, 1, 4], [2, 3, 5]]]), probability.copy())
        for affine, probability in systems(catalog)
    ]
    for category, (system, probability) in enumerate(inputs):
        if peer.not_finite(peer.iterate(system, POINTS, probability)):
            raise SystemExit(f"{checkout} lets category {category} overflow and stops early: no time to compare with")
    for size in SIZES:
        for draw in ("point", "patch"):
            yield numba_contestant(peer, inputs, draw, size, tries)


@contextlib.contextmanager
def stand_in_for_cv2() -> Iterator[None]:
    """Its module takes two names of OpenCV, for colours that we don't draw."""
    if importlib.util.find_spec("cv2"):
        yield
        return
    stand_in = types.ModuleType("cv2")
    vars(stand_in).update(cvtColor=None, COLOR_HSV2RGB=None)
    with mock.patch.dict(sys.modules, cv2=stand_in):
        yield


def numba_contestant(
    peer: types.ModuleType, inputs: list[tuple[np.ndarray, np.ndarray]], draw: str, size: int, tries: int
) -> Contestant:
    name = NUMBA.format(draw=draw, size=size)

    def picture(system: np.ndarray, probability: np.ndarray) -> None:
        peer.render(peer.iterate(system, POINTS, probability), s=size, binary=True, patch=draw == "patch")

    def go() -> dict[str, float]:
        return {name: len(inputs) / sum(timed(lambda one=one: picture(*one)) for one in inputs)}

    picture(*inputs[0])  # compiles
    return Contestant(name, go, tries)


def fractaldb_contestants(checkout: Path, catalog: fdsl.Catalog, arguments: argparse.Namespace) -> Iterator[Contestant]:
    renderer = import_file("fractaldb_ifs_function", checkout / "fractal_renderer" / "ifs_function.py").ifs_function
    tables = [np.column_stack(system).tolist() for system in systems(catalog)]
    # Spread over the categories: its time goes with the number of maps, a little.
    chosen = [
        tables[place * len(tables) // arguments.published_pictures] for place in range(arguments.published_pictures)
    ]
    # Its points take a tenth of a second and can have as many tries as ours; its patches take seconds.
    for draw, tries in (("point", arguments.tries), ("patch", arguments.peer_tries)):
        yield fractaldb_contestant(renderer, chosen, draw, tries)


def fractaldb_contestant(renderer: Any, tables: list[list[list[float]]], draw: str, tries: int) -> Contestant:
    name = FRACTALDB.format(draw=draw)
    unvaried = dict.fromkeys((f"weight_{letter}" for letter in "abcdef"), 1.0)

    def picture(table: list[list[float]]) -> None:
        system = renderer(prev_x=0.0, prev_y=0.0, save_root="", fractal_name="", fractal_weight_count="02")
        for row in table:
            system.set_param(*row, **unvaried)
        system.calculate(POINTS)
        getattr(system, f"draw_{draw}")(512, 512, PAD, PAD, "gray", 0)

    def go() -> dict[str, float]:
        # Drawing is compared, not PNG writing; the four flips of a call are one unique picture.
        with mock.patch.object(Image.Image, "save", return_value=None), contextlib.redirect_stdout(io.StringIO()):
            return {name: len(tables) / sum(timed(lambda table=table: picture(table)) for table in tables)}

    return Contestant(name, go, tries)


# --- search and opening -----------------------------------------------------------------------------------------------

PUBLISHED_SEARCH = "published.search, 1,000 categories"
MANY = 300_000
OPENING = f"opening {MANY:,} categories"
FIRST_BATCH = "opening and first Feed batch (256)"
SECONDS_TARGETS = {PUBLISHED_SEARCH: 25.0, OPENING: 0.1, FIRST_BATCH: 1.0}
SEARCH_TARGET = 3.0
# In a process of its own, with nothing warm but the imports, which are left out.
OPENING_PROGRAM = """
import json, sys, time
import fdsl
try:
    from fdsl import Feed
except ImportError:
    Feed = None
start = time.perf_counter()
dataset = fdsl.Dataset(fdsl.Catalog.load(sys.argv[1]), instances=1000)
seconds = [time.perf_counter() - start]
if Feed:
    images, labels = next(iter(Feed(dataset, batch_size=256)))
    seconds.append(time.perf_counter() - start)
print(json.dumps(seconds))
"""


def search_name() -> str:
    threads = thread_counts()[-1]
    return f"search, 1,000 categories, {threads} thread{'s' * (threads > 1)}"


def time_search() -> float:
    return timed(lambda: fdsl.search("fractaldb", categories=1000, threads=thread_counts()[-1]))


def save_many(catalog: fdsl.Catalog, file: Path) -> None:
    """A file of 300,000 categories, of those given again and again."""

    def again(array: np.ndarray) -> np.ndarray:
        return np.resize(array, (MANY, *array.shape[1:]))

    params = {name: again(array) for name, array in catalog.params.items()}
    fdsl.Catalog(catalog.family, params, catalog.variation, again(catalog.shrink), again(catalog.boxes)).save(file)


def time_opening(file: Path) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-c", OPENING_PROGRAM, str(file)], stdout=subprocess.PIPE, check=True)
    return dict(zip((OPENING, FIRST_BATCH), json.loads(done.stdout), strict=False))


# --- the report -------------------------------------------------------------------------------------------------------


def ratios() -> Iterator[Ratio]:
    """Everything that is compared, whether its contestants ran or not."""
    for size in SIZES:
        yield Ratio(ours("point", size, "own"), TWO_PASS.format(size=size), "two-pass limit", 0.7)
        yield Ratio(ours("point", size, "stored"), KNOWN_BOX.format(size=size), "known-box limit", 0.7)
        for draw in ("point", "patch"):
            yield Ratio(ours(draw, size, "own"), NUMBA.format(draw=draw, size=size), "fractal-pretraining", 45)
        for fit in FITS:
            yield Ratio(ours("patch", size, fit), ours("point", size, fit), "point", 0.8)
            for draw in DRAWS:
                yield Ratio(ours(draw, size, fit, 2), ours(draw, size, fit), "one thread", 1.9)
        for more in ("3 channels", "color", "density"):
            yield Ratio(ours("patch", size, "own", 1, more), ours("patch", size, "own"), "gray")
    yield Ratio(ours("point", 512, "own"), FRACTALDB.format(draw="point"), "FractalDB point_gray", 1200)
    # Its patch_gray draws a pattern per point, which ours calls patch_per_point.
    yield Ratio(ours("patch_per_point", 512, "own"), FRACTALDB.format(draw="patch"), "FractalDB patch_gray", 1200)
    for kernel in ("avx2", "portable"):
        yield Ratio(ours("point", 512, "own", 1, kernel), ours("point", 512, "own"), cpu.kernel_name())


def summary(record: Record) -> dict[str, Any]:
    drawn = compared(record, ratios())
    seconds = [seconds_entry(name, values) for name, values in record.seconds.items()]
    judged = [entry["met"] for entry in drawn + seconds if entry["met"] is not None]
    counts = {"targets": len(judged), "targets_met": sum(judged), "not_run": not_run(record)}
    return rounded_to_five_digits({"images_per_s": speeds(record), "ratios": drawn, "seconds": seconds} | counts)


def seconds_entry(name: str, values: list[float]) -> dict[str, Any]:
    target = SEARCH_TARGET if name == search_name() and CORES > 1 else SECONDS_TARGETS.get(name)
    return {
        "what": name,
        "seconds": median(values),
        "target": target,
        "met": None if target is None else median(values) <= target,
        "rounds": values,
    }


def not_run(record: Record) -> list[str]:
    """What has a target and was left out, for want of its option, a library or a core."""
    wanted = {name for ratio in ratios() if ratio.target for name in (ratio.numerator, ratio.denominator)}
    return sorted(wanted - record.images_per_s.keys()) + sorted(SECONDS_TARGETS.keys() - record.seconds.keys())


def settings(catalog: fdsl.Catalog, arguments: argparse.Namespace) -> dict[str, Any]:
    names = ("rounds", "tries", "peer_tries", "published_pictures")
    given = {"categories": len(catalog), "catalog": catalog.digest, "points": POINTS, "pad": PAD}
    given["batch"] = PICTURES_OF_EACH * len(catalog)
    return given | {name: getattr(arguments, name) for name in names}


def print_tables(report: dict[str, Any], output: Path) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = 108
    facts, kernel = report["machine"], report["machine"]["kernel"]
    console.print(
        f"{facts['cpu']}, {facts['cores']} cores, kernel {kernel}; {report['settings']['categories']} categories, "
        f"{POINTS:,} points; medians of rounds: {report['settings']['rounds']}"
    )
    console.print(speed_table("Drawing", report))
    console.print(seconds_table(report))
    if report["not_run"]:
        console.print(f"Not run: {', '.join(report['not_run'])}.")
    console.print(f"{report['targets_met']} of {report['targets']} targets met. All rounds: {output}")


def seconds_table(report: dict[str, Any]) -> Table:
    table = new_table("Search and opening", "what", "seconds", "target", "met")
    for entry in report["seconds"]:
        target = "" if entry["target"] is None else f"≤ {entry['target']:g}"
        table.add_row(entry["what"], f"{entry['seconds']:.3g}", target, met_cell(entry))
    return table


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
