#!/usr/bin/env python3
"""How fast each family is drawn and searched on one core, beside the published code, all in one run.

No side writes a picture: the published programs run as they are, with their saving replaced by nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image
from rich.console import Console
from rounds import (
    Contestant,
    Ratio,
    Record,
    compared,
    count,
    machine,
    memory,
    one_round,
    progress_bar,
    rounded_to_five_digits,
    speed_table,
    speeds,
    timed,
    versions,
)

import fdsl
from fdsl.clouds import SceneDataset

POINTS = 100_000
CATEGORIES, INSTANCES = 6, 2  # of the published contours: their cost differs from category to category
OURS_TIMES = 20  # as many pictures as that for each of theirs
OBJECTS, OBJECT_POINTS, SCENE_BATCHES = 20, 2048, 20
RCDB_CODE, VISUALATOM_CODE = "published RCDB code", "published VisualAtom code"
SEARCH_CODE = "published 3D search code"
SEARCH, PROBED_SEARCH, EXACT_SEARCH = "3D search", "3D search with probed variations", "published.search_3d"
EXAMPLE = """\
example, with every contestant:
  python benchmarks/families.py --exfractaldb CVPR2022-Pretrained-ViT-PyTorch --visualatom CVPR2023-FDSL-on-VisualAtom

checkouts: https://github.com/masora1030/CVPR2022-Pretrained-ViT-PyTorch (ExFractalDB and RCDB; needs noise)
           https://github.com/masora1030/CVPR2023-FDSL-on-VisualAtom (needs noise)
"""


def main() -> None:
    arguments = parse_arguments()
    # One core for all: what starts threads gains nothing by them.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    sys.dont_write_bytecode = True
    report = run(arguments)
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
    add("--exfractaldb", type=Path, metavar="CHECKOUT", help="the published code of ExFractalDB and RCDB")
    add("--visualatom", type=Path, metavar="CHECKOUT", help="the published code of VisualAtom")
    add("--rounds", type=count, default=5, metavar="N", help="interleaved rounds (default 5)")
    add("--tries", type=count, default=5, metavar="N", help="tries a round; its best counts (default 5)")
    add("--peer-tries", type=count, default=1, metavar="N", help="likewise for published code (default 1)")
    add("--output", type=Path, default=Path(__file__).with_name("results") / "families.json", metavar="FILE")
    add("--json", action="store_true", help="print the JSON and nothing else")
    arguments = parser.parse_args()
    for name, file in (
        ("--exfractaldb", arguments.exfractaldb and rcdb_file(arguments.exfractaldb)),
        ("--visualatom", arguments.visualatom and visualatom_file(arguments.visualatom)),
    ):
        if file is not None and not file.exists():
            parser.error(f"{name}: {file} does not exist")
    return arguments


# --- the run ----------------------------------------------------------------------------------------------------------


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Every round, and the report of them."""
    began, busy_before = datetime.now(UTC), os.getloadavg()[0]
    record = Record()
    with progress_bar() as progress:
        note = progress.add_task("preparing", total=None)
        contestants = list(all_contestants(arguments))
        progress.update(note, total=arguments.rounds * sum(contestant.tries for contestant in contestants))
        for number in range(arguments.rounds):
            say = f"round {number + 1} of {arguments.rounds}: "

            def step(label: str, say: str = say) -> None:
                progress.update(note, description=say + label, advance=1)

            one_round(contestants, record, step)
    drawn = [*compared(record, ratios()), scenes_entry(record)]
    judged = [entry["met"] for entry in drawn if entry["met"] is not None]
    wanted = {name for ratio in ratios() for name in (ratio.numerator, ratio.denominator)}
    checkouts = {"ExFractalDB and RCDB": arguments.exfractaldb, "VisualAtom": arguments.visualatom}
    settings = {
        "cores_used": 1,
        "rounds": arguments.rounds,
        "tries": arguments.tries,
        "peer_tries": arguments.peer_tries,
        "points": POINTS,
        "published_contours": f"{CATEGORIES} categories x {INSTANCES} instances",
    }
    return rounded_to_five_digits(
        {
            "benchmark": "families",
            "date": began.isoformat(timespec="seconds"),
            "machine": machine() | {"load_average_before": busy_before},
            "versions": versions(("fdsl", "numpy", "pillow", "noise"), checkouts),
            "settings": settings,
            "images_per_s": speeds(record),
            "ratios": drawn,
            "targets": len(judged),
            "targets_met": sum(judged),
            "not_run": sorted(wanted - record.images_per_s.keys()),
        }
    )


def all_contestants(arguments: argparse.Namespace) -> Iterator[Contestant]:
    """Each published program right beside what is held to it."""
    tries, peer_tries = arguments.tries, arguments.peer_tries
    if arguments.exfractaldb:
        yield from contour_contestants("rcdb", RCDB_CODE, rcdb_file(arguments.exfractaldb), RCDB_ARGUMENTS, arguments)
    if arguments.visualatom:
        file = visualatom_file(arguments.visualatom)
        yield from contour_contestants("visualatom", VISUALATOM_CODE, file, VISUALATOM_ARGUMENTS, arguments)
    # As the published search: the categories alone. exfractaldb probes 144 variations of each as well.
    yield search_contestant(SEARCH, lambda count: fdsl.search("pcfractaldb", count, threads=1), 1000, tries)
    yield search_contestant(PROBED_SEARCH, lambda count: fdsl.search("exfractaldb", count, threads=1), 300, tries)
    yield search_contestant(EXACT_SEARCH, fdsl.published.search_3d, 100, tries)
    if arguments.exfractaldb:
        yield published_search_contestant(arguments.exfractaldb, peer_tries)
    for family in ("fractaldb", "exfractaldb"):
        catalog = fdsl.search(family, categories=50)
        for fit in ("own", "stored"):
            spec = fdsl.RenderSpec(size=224, points=POINTS, draw="point", fit=fit)
            yield drawing_contestant(points_name(family, fit), fdsl.Dataset(catalog, range(80, 85), spec), tries)
    for family, categories in (("rcdb", 50), ("visualatom", 50), ("bezier", 144), ("perlin", 100)):
        for size in (224, 512):
            catalog = fdsl.search(family, categories=categories)
            dataset = fdsl.Dataset(catalog, instances=2, spec=fdsl.RenderSpec(size=size))
            yield drawing_contestant(f"{family} {size}", dataset, tries)
    yield scenes_contestant(tries)


# --- contestants ------------------------------------------------------------------------------------------------------


def points_name(family: str, fit: str) -> str:
    return f"{family} 224, {POINTS:,} points, {fit} fit"


def drawing_contestant(name: str, dataset: fdsl.Dataset, tries: int) -> Contestant:
    indices = np.arange(len(dataset))
    out = memory((len(dataset), dataset.spec.image_channels, dataset.spec.size, dataset.spec.size))

    def go() -> dict[str, float]:
        return {name: len(indices) / timed(lambda: dataset.batch(indices, out=out, threads=1))}

    go()
    return Contestant(name, go, tries)


def scenes_contestant(tries: int) -> Contestant:
    catalog = fdsl.search("pcfractaldb", categories=50)
    dataset = SceneDataset(catalog, scenes=16 * SCENE_BATCHES, objects=OBJECTS - 5, points_per_object=OBJECT_POINTS)
    batches = np.arange(len(dataset)).reshape(SCENE_BATCHES, 16)
    out = np.zeros((16 * dataset.most_objects, OBJECT_POINTS, 3), np.float32)

    def go() -> dict[str, float]:
        drawn = 0

        def draw() -> None:
            nonlocal drawn
            for batch in batches:
                drawn += len(dataset.batch(batch, out=out, threads=1)["boxes"])

        # Scenes have 15 + Poisson(5) objects: as many scenes as all of these would make with 20 each.
        seconds = timed(draw)
        return {SCENES: drawn / OBJECTS / seconds}

    go()
    return Contestant(SCENES, go, tries)


def search_contestant(name: str, search: Callable[[int], object], categories: int, tries: int) -> Contestant:
    def go() -> dict[str, float]:
        return {name: categories / timed(lambda: search(categories))}

    return Contestant(name, go, min(tries, 2))


# --- published programs -----------------------------------------------------------------------------------------------

# As their shell scripts call them.
RCDB_ARGUMENTS = "--vertex_num=200 --perlin_min=0 --line_width=0.1 --radius_min=0 --oval_rate=2 --start_pos=400"
VISUALATOM_ARGUMENTS = (
    "--vertex_num_min=200 --vertex_num_max=1000 --perlin_min=0 --line_num_min=1 --line_num_max=200 --line_width=0.1 "
    "--radius_min=10 --oval_rate=2 --start_pos=512 --nami_1_min=0 --nami_2_min=0 --nami_1_max=20 --nami_2_max=20"
)


def rcdb_file(checkout: Path) -> Path:
    return checkout / "rcdb_render" / "make_rcdb.py"


def visualatom_file(checkout: Path) -> Path:
    return checkout / "visual_atomic_renderer" / "render_VisualAtom.py"


def run_program(file: Path, arguments: str, folder: Path, saved: Callable[[dict[str, Any]], object]) -> float:
    """Seconds of a published program, which calls saved(its variables) for each picture instead of writing it."""

    def save(*_: object, **__: object) -> None:
        saved(sys._getframe(1).f_globals)

    program = compile(file.read_bytes(), str(file), "exec")
    given = [str(file), "--save_root", str(folder), *arguments.split()]
    with (
        mock.patch.object(sys, "argv", given),
        mock.patch.object(Image.Image, "save", save),
        mock.patch.dict(sys.modules, open3d=mock.MagicMock()),  # which saves point clouds
        mock.patch.object(sys, "path", [str(file.parent), *sys.path]),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        return timed(lambda: exec(program, {"__name__": "__main__"}))


def contour_contestants(
    family: str, name: str, file: Path, arguments: str, given: argparse.Namespace
) -> Iterator[Contestant]:
    arguments += f" --numof_classes={CATEGORIES} --numof_instances={INSTANCES} --numof_thread=1"
    categories: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        # The very categories that it draws, which it seeds alike each time.
        run_program(file, arguments, Path(folder), lambda variables: categories.append(contour_params(variables)))
    params = {key: np.array([category[key] for category in categories[::INSTANCES]]) for key in categories[0]}
    dataset = fdsl.Dataset(
        fdsl.Catalog(family, params), instances=INSTANCES * OURS_TIMES, spec=fdsl.RenderSpec(size=512, channels=3)
    )

    def theirs() -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            return {name: CATEGORIES * INSTANCES / run_program(file, arguments, Path(folder), lambda _: None)}

    yield drawing_contestant(contours_name(family), dataset, given.tries)
    yield Contestant(name, theirs, given.peer_tries)


def contours_name(family: str) -> str:
    return f"{family} 512, 3 channels, published categories"


def contour_params(variables: dict[str, Any]) -> dict[str, Any]:
    """A category's parameters as our catalogs have them, from the variables of the published programs."""
    params = {
        "vertices": np.int32(variables["vertex_number"]),
        "lines": np.int32(variables["line_draw_num"]),
        "perlin": variables["perlin_noise_coefficient"],
        "line_width": variables["line_width"],
    }
    if "nami1" in variables:
        params["frequencies"] = np.int32([variables["nami1"], variables["nami2"]])
        params["radius"] = float(variables["start_rad"])
        params["oval"] = np.array([variables["oval_rate_x"], variables["oval_rate_y"]])
    return params


def published_search_contestant(checkout: Path, tries: int) -> Contestant:
    file = checkout / "exfractaldb_render" / "3dfractal_render" / "category_search.py"
    found = 5

    def go() -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            seconds = run_program(
                file, f"--seed=1 --variance=0.05 --numof_classes={found}", Path(folder), lambda _: None
            )
        return {SEARCH_CODE: found / seconds}

    return Contestant(SEARCH_CODE, go, tries)


# --- the report -------------------------------------------------------------------------------------------------------

SCENES = f"scenes of {OBJECTS} objects x {OBJECT_POINTS:,} points"
SCENES_TARGET = 5000


def ratios() -> Iterator[Ratio]:
    """Everything that is compared, whether its contestants ran or not."""
    yield Ratio(contours_name("rcdb"), RCDB_CODE, RCDB_CODE, 60)
    yield Ratio(contours_name("visualatom"), VISUALATOM_CODE, VISUALATOM_CODE, 200)
    yield Ratio(SEARCH, SEARCH_CODE, SEARCH_CODE, 1500)
    yield Ratio(PROBED_SEARCH, SEARCH_CODE, SEARCH_CODE)
    yield Ratio(EXACT_SEARCH, SEARCH_CODE, SEARCH_CODE, 150)
    for fit in ("own", "stored"):
        yield Ratio(points_name("exfractaldb", fit), points_name("fractaldb", fit), "fractaldb", 0.5)


def scenes_entry(record: Record) -> dict[str, Any]:
    """Scenes a second beside their target: there is no program to time beside them."""
    values = record.images_per_s[SCENES]
    met = median(values) >= SCENES_TARGET
    ratios = [value / SCENES_TARGET for value in values]
    beside = f"target of {SCENES_TARGET:,}/s"
    return {
        "of": SCENES, "to": beside, "beside": beside, "ratio": median(ratios), "target": 1, "met": met, "rounds": ratios
    }  # fmt: skip


def print_tables(report: dict[str, Any], output: Path) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = 120
    facts = report["machine"]
    console.print(
        f"{facts['cpu']}, one core, kernel {facts['kernel']}; medians of rounds: {report['settings']['rounds']}"
    )
    console.print(speed_table("Pictures, categories found, and scenes", report, unit="a second"))
    if report["not_run"]:
        console.print(f"Not run: {', '.join(report['not_run'])}.")
    console.print(f"{report['targets_met']} of {report['targets']} targets met. All rounds: {output}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
