"""The main job in two minutes on two processor cores: search, train on the real-time feed, report."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import fdsl
from fdsl.engines import cpu
from fdsl.train.curves import draw_curves
from fdsl.train.progress import progress_bars, reports_to

_MODEL = "resnet10t"
_CATEGORIES = 100
# Small pictures make quick steps; the count of points per pixel keeps the shape inside the outline.
_SPEC = fdsl.RenderSpec(size=48, points=50_000, draw="point", color="density", pad=1)
# 25 variations x 10 patterns, none of them flipped: with the flips it takes about four times as long to learn as much.
_INSTANCES = range(0, 1000, 4)
_ENGINE_SECONDS = 2.0


def demo(output: str | os.PathLike[str] = "runs/demo", seconds: float = 90.0, progress: bool = True) -> dict[str, Any]:
    """Searches 100 FractalDB categories, trains timm's resnet10t on them as they are drawn, and reports.

    The folder gets `contact_sheet.png`, `curves.png`, `report.json`, `log.csv`, `catalog.safetensors`,
    `recipe.yaml`, `weights.safetensors` and `last.ckpt`.
    It appears when all is done: a demo that is interrupted leaves nothing, and an earlier one as it was.

    Args:
        output: the folder; an earlier demo in it is replaced.
        seconds: time to train for; the rest takes about half a minute.
        progress: show a bar. The table of the figures comes in any case.

    Returns:
        What `report.json` holds: a `PretrainReport`'s fields, `engine_images_per_s` (Dataset.batch alone, all threads),
        `kernel`, `search_seconds` and `total_seconds`.

    Raises:
        FileExistsError: the folder holds something else than a demo.
        OSError: it cannot be written.
        KeyboardInterrupt: Ctrl-C.

    >>> report = demo(seconds=90)  # doctest: +SKIP
    >>> report["held_out_accuracy"] >= 0.5
    True
    """
    began = time.perf_counter()
    folder = Path(output).resolve()
    if folder.exists() and not _is_demo(folder):
        raise FileExistsError(f"{folder} holds something else than a demo; expected a new, an empty or a demo's folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as name:
        work = Path(name) / "run"
        try:
            report = _run(work, seconds, progress, began)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"interrupted; {folder} is as it was") from None
        # What is in the folder is replaced, not itself: it may be the current one, or a mount.
        folder.mkdir(exist_ok=True)
        for old in folder.iterdir():
            shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
        for new in work.iterdir():
            shutil.move(new, folder)
    _print(report, folder)
    return report


def _run(folder: Path, seconds: float, progress: bool, began: float) -> dict[str, Any]:
    with progress_bars(progress) as bars:
        task = bars.add_task("loading torch", total=None, note="")
        from fdsl.train.pretraining import pretrain
        from fdsl.train.recipes import Augmentation, Data, Model, Optimizer, Recipe, Schedule, Training
        from fdsl.train.run_folder import LOG, REPORT
        from fdsl.train.sources import DrawnSource

        bars.remove_task(task)
        show = reports_to(bars)
        searching = time.perf_counter()
        catalog = fdsl.search("fractaldb", categories=_CATEGORIES, progress=show)
        search_seconds = time.perf_counter() - searching
        train, held_out = fdsl.Dataset(catalog, _INSTANCES, _SPEC).split(0.9)
        engine_speed = _engine_speed(train, lambda done: show("drawing alone", round(100 * done), 100))
        recipe = Recipe(
            title="the demo: 100 categories for the time there is",
            data=Data(
                source="catalog.safetensors",  # beside it, at the end
                instances=(_INSTANCES.start, _INSTANCES.stop, _INSTANCES.step),
                held_out=0.1,
                size=_SPEC.size,
                points=_SPEC.points,
                draw=_SPEC.draw,
                color=_SPEC.color,
                pad=_SPEC.pad,
                channels=1,
                # About a third of a picture's pixels are hit, at half of full brightness.
                mean=(0.2,),
                std=(0.5,),
            ),
            model=Model(name=_MODEL),
            optimizer=Optimizer(learning_rate=3e-3, clip_norm=1.0),
            schedule=Schedule(seconds=seconds, warmup_share=0.05),
            augmentation=Augmentation(label_smoothing=0.1),
            training=Training(batch_size=32, held_out_images=2000),
        )
        trained = pretrain(recipe, output=folder, source=DrawnSource(train, held_out), progress=bars)

        from fdsl.contact_sheet import contact_sheet

        shown = fdsl.Dataset(catalog, _INSTANCES, replace(_SPEC, size=128))  # as training sees them, larger
        contact_sheet(shown, categories=10, instances=8).save(folder / "contact_sheet.png")
        draw_curves(folder / LOG, folder / "curves.png", chance=1 / _CATEGORIES)
        catalog.save(folder / "catalog.safetensors")
    report = asdict(trained) | {
        "engine_images_per_s": round(engine_speed, 1),
        "kernel": cpu.kernel_name(),
        "search_seconds": round(search_seconds, 2),
        "total_seconds": round(time.perf_counter() - began, 1),
    }
    (folder / REPORT).write_text(json.dumps(report, indent=2) + "\n")
    return report


def _is_demo(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    if not any(folder.iterdir()):
        return True
    try:
        return "engine_images_per_s" in json.loads((folder / "report.json").read_text())
    except (OSError, ValueError):
        return False


def _engine_speed(dataset: fdsl.Dataset, show: Callable[[float], None]) -> float:
    """Images/s of `Dataset.batch` with all threads, random indices."""
    generator = np.random.default_rng(0)
    images, began = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - began) < _ENGINE_SECONDS:
        images += len(dataset.batch(generator.integers(0, len(dataset), 1024))[1])
        show(min(1.0, (time.perf_counter() - began) / _ENGINE_SECONDS))
    return images / elapsed


def _print(report: dict[str, Any], folder: Path) -> None:
    table = Table(title=f"{_CATEGORIES} FractalDB categories, {report['model']}, {_SPEC.size} px, {report['device']}")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in (
        (f"engine alone ({report['kernel']})", f"{report['engine_images_per_s']:,.0f} images/s"),
        ("training", f"{report['images_per_s']:,.0f} images/s"),
        ("share of the step spent waiting for data", f"{report['waiting_share']:.1%}"),
        (f"accuracy on {report['held_out_images']:,} held-out images", f"{report['held_out_accuracy']:.1%}"),
        ("accuracy by chance", f"{1 / _CATEGORIES:.1%}"),
        ("search", f"{report['search_seconds']:.1f} s"),
        ("all together", f"{report['total_seconds']:.0f} s"),
    ):
        table.add_row(name, value)
    console = Console()
    console.print(table)
    for file in ("contact_sheet.png", "curves.png", "report.json", "catalog.safetensors", "weights.safetensors"):
        console.print(str(folder / file), soft_wrap=True, highlight=False)
