#!/usr/bin/env python3
"""What a GPU draws, and what that costs the training it feeds: drawing, a training step, search, FractalDB-1k, OpenGL.

First every drawing is compared with the cpu engine's bytes; where one differs, nothing is measured. Each part leaves
the results of the others in the JSON as they are, so that parts may run one by one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
from rich.console import Console
from rounds import CORES, count, machine, new_table, progress_bar, rounded_to_five_digits, timed, versions

import fdsl
from fdsl.engines import cuda

SIZES, POINTS, FITS = (224, 362, 512), (100_000, 200_000), ("own", "stored")
DRAWS = {
    "point-gray": ("point", "gray"),
    "patch-gray": ("patch", "gray"),
    "patch_per_point-gray": ("patch_per_point", "gray"),
    "patch_per_point-color": ("patch_per_point", "color"),
    "point-color": ("point", "color"),
    "patch-color": ("patch", "color"),
    "point-density": ("point", "density"),
    "patch-density": ("patch", "density"),
}
BATCHES = (64, 256, 1024, 4096)
LARGEST_BYTES = 8 << 30  # of a batch
# Of an H200, 512 px, 100,000 points, on the device.
TARGETS = {
    "point-gray/512/100000/own": 1_000_000,
    "point-gray/512/100000/stored": 1_500_000,
    **{f"{draw}/512/100000/own": 100_000 for draw in ("point-color", "point-density", "patch_per_point-gray")},
}
PATCH_TARGET = 0.8  # of points
TRAINED, TRAINED_BATCH = "deit_tiny_patch16_224", 512
SEARCH_TARGET_S, ORIGINAL_MINUTES = 30.0, 29.0
EXAMPLE = """\
examples:
  python benchmarks/gpu.py                                             # half an hour on one GPU
  python benchmarks/gpu.py --parts draw --sizes 512 --points 100000
"""


def main() -> None:
    arguments = parse_arguments()
    report: dict[str, Any] = {"benchmark": "gpu"}
    if arguments.output.exists():
        report = json.loads(arguments.output.read_text(encoding="utf-8"))
    engine = cuda.Engine(arguments.device)
    catalog = fdsl.search("fractaldb", categories=100)
    check(engine, catalog)
    for name in arguments.parts:
        report[name] = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine() | gpu(),
            "versions": versions(("fdsl", "numpy", "torch", "timm", "cuda-core", "webdataset", "moderngl"), {}),
            **rounded_to_five_digits(PARTS[name](arguments, engine, catalog)),
        }
        if name == "draw":  # the figure that others quote stands by itself
            report |= {"gpu": report[name]["machine"]["gpu"], "images_per_s": report[name].pop("images_per_s")}
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2)) if arguments.json else print_tables(report, arguments.output)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=f"of {', '.join(PARTS)}")
    add("--device", default="cuda", help="the GPU (default: the current one)")
    add("--sizes", type=count, nargs="+", default=list(SIZES), metavar="N", help="pixels (default 224 362 512)")
    add("--points", type=count, nargs="+", default=list(POINTS), metavar="N", help="(default 100000 200000)")
    add("--rounds", type=count, default=5, metavar="N", help="of each; medians count (default 5)")
    add("--seconds", type=float, default=0.2, metavar="S", help="of a round of drawing (default 0.2)")
    add("--steps", type=count, default=50, metavar="N", help="of training in a round (default 50)")
    add("--images", type=count, default=50_000, metavar="N", help="stored for the disk loaders (default 50,000)")
    add("--folder", type=Path, metavar="FOLDER", help="for them, on a local disk; a temporary one unless said")
    add("--output", type=Path, default=Path(__file__).with_name("results") / "gpu.json", metavar="FILE")
    add("--json", action="store_true", help="print the JSON and nothing else")
    return parser.parse_args()


def gpu() -> dict[str, Any]:
    """The GPU as its driver names it, and its clocks."""
    fields = ("name", "driver_version", "clocks.sm", "clocks.max.sm", "memory.total")
    query = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    first = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    return dict(zip(("gpu", "driver", "mhz", "most_mhz", "memory_mib"), map(str.strip, first.split(",")), strict=True))


def check(engine: cuda.Engine, catalog: fdsl.Catalog) -> None:
    for draw, color in DRAWS.values():
        for fit in FITS:
            spec = fdsl.RenderSpec(size=512, points=100_000, draw=draw, color=color, fit=fit, view=fdsl.RandomView())
            dataset = fdsl.Dataset(catalog, 1000, spec)
            indices = np.arange(0, len(dataset), len(dataset) // 64)
            drawn, _ = dataset.batch(indices, engine=engine)
            if not np.array_equal(drawn.cpu().numpy(), dataset.batch(indices)[0]):
                raise SystemExit(
                    f"{draw} {color} {fit}: the GPU's bytes are not the cpu engine's; nothing was measured"
                )


# --- drawing ----------------------------------------------------------------------------------------------------------


def draw(arguments: argparse.Namespace, engine: cuda.Engine, catalog: fdsl.Catalog) -> dict[str, Any]:
    """Images/s of Dataset.batch with new indices each time, and of the kernels alone; the best batch size of each."""
    through: dict[str, float] = {}
    kernels: dict[str, float] = {}
    best: dict[str, int] = {}
    cases = [
        (f"{name}/{size}/{points}/{fit}", fdsl.RenderSpec(size=size, points=points, draw=draw, color=color, fit=fit))
        for size in arguments.sizes
        for points in arguments.points
        for fit in FITS
        for name, (draw, color) in DRAWS.items()
    ]
    with progress_bar() as bar:
        task = bar.add_task("", total=len(cases))
        for key, spec in cases:
            bar.update(task, description=key)
            dataset = fdsl.Dataset(catalog, 1000, spec)
            for batch in BATCHES:
                if batch * dataset.spec.image_channels * spec.size**2 > LARGEST_BYTES:
                    continue
                rates = drawn_per_s(dataset, engine, batch, arguments)
                if rates[0] > through.get(key, 0.0):
                    through[key], kernels[key], best[key] = *rates, batch
            bar.advance(task)
    return {"images_per_s": through, "kernels_images_per_s": kernels, "batch": best, "ceilings": ceilings(kernels)}


def drawn_per_s(dataset: Any, engine: cuda.Engine, batch: int, arguments: argparse.Namespace) -> tuple[float, float]:
    random = np.random.default_rng(0)
    batches = [random.integers(0, len(dataset), batch) for _ in range(16)]
    shape = (batch, dataset.spec.image_channels, dataset.spec.size, dataset.spec.size)
    out = engine.empty(shape)
    prepared = [prepare(dataset, engine, indices) for indices in batches[:4]]
    turns = cycle(batches), cycle(prepared)
    return (
        batch / seconds_of(lambda: dataset.batch(next(turns[0]), engine=engine, out=out), arguments),
        batch / seconds_of(lambda: next(turns[1]).draw(out), arguments),
    )


def prepare(dataset: Any, engine: cuda.Engine, indices: np.ndarray) -> cuda.Prepared:
    """What `Dataset.batch` uploads and launches, to be launched again."""
    kept: list[cuda.Prepared] = []

    class Keeping:
        def draw(self, drawing: Any, spec: Any, palette: Any, seed: int, out: Any) -> None:
            kept.append(engine.prepare(drawing, spec, palette, seed))

        def empty(self, shape: Any, dtype: Any = None) -> Any:
            return None

    dataset.batch(indices, engine=Keeping())
    return kept[0]


def seconds_of(work: Callable[[], object], arguments: argparse.Namespace) -> float:
    """Of one call among many in a row, by the GPU's events: the median of the rounds."""
    import torch

    def several(times: int) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(times):
            work()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3 / times

    several(2)
    times = max(3, int(arguments.seconds / max(several(3), 1e-6)))
    return median(several(times) for _ in range(arguments.rounds))


# Instructions and passes of shared memory that a warp needs for a step (kernels/cuda/points.h): of the walk that finds
# the box, and of that which hits bits.
BOX_STEP = {"instructions": 31, "passes": 7}
HIT_STEP = {"instructions": 38, "passes": 11}
BURN_IN, TRAJECTORIES, WARP = 32, 256, 32


def ceilings(kernels: dict[str, float]) -> dict[str, Any]:
    """Shares of the issue slots and of shared memory's passes that pictures of bits need at the speed they came at."""
    import torch

    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    clock = 1e6 * float(gpu()["most_mhz"])
    slots, passes = (properties.multi_processor_count * clock * each for each in (4, 1))
    shares = {}
    for key, rate in kernels.items():
        name, _, points, fit = key.split("/")
        if name not in ("point-gray", "patch-gray"):
            continue
        steps = (int(points) + BURN_IN * TRAJECTORIES) / WARP
        walks = [HIT_STEP] + ([BOX_STEP] if fit == "own" else [])
        needed = {what: steps * sum(walk[what] for walk in walks) for what in HIT_STEP}
        shares[key] = {
            "issue_slots": rate * needed["instructions"] / slots,
            "shared_memory_passes": rate * needed["passes"] / passes,
        }
    return {"multiprocessors": properties.multi_processor_count, "mhz": clock / 1e6, "shares": shares}


# --- training ---------------------------------------------------------------------------------------------------------


def train(arguments: argparse.Namespace, engine: cuda.Engine, catalog: fdsl.Catalog) -> dict[str, Any]:
    """A DeiT-Ti/16 step (bf16, torch.compile) on a fixed tensor, fed by us, and fed from disk."""
    import one_loader
    import torch

    from fdsl.engines.pixel_format import PixelFormat

    one_loader.BATCH = batch = TRAINED_BATCH
    step, device = training_step(), torch.device(arguments.device)
    pixels = PixelFormat("bfloat16", mean=0.5, std=0.5)
    spec = fdsl.RenderSpec(size=224, points=100_000, channels=3)
    dataset = fdsl.Dataset(catalog, 1000, spec)
    fixed = torch.randn(batch, 3, 224, 224, device=device).bfloat16(), torch.zeros(batch, dtype=torch.int64).to(device)

    def feed() -> Iterator[Any]:
        return epochs(fdsl.Feed(dataset, batch_size=batch, device=arguments.device, pixels=pixels, drop_last=True))

    def augmented() -> Iterator[Any]:
        from fdsl.train.augmentation import Augment
        from fdsl.train.recipes import recipe_named

        recipe = recipe_named("fractaldb-deit-tiny")
        augment = Augment(recipe.augmentation, 1000, mean=[0.5], std=[0.5], seed=0, dtype="bfloat16").to(device)
        fed = epochs(fdsl.Feed(dataset, batch_size=batch, device=arguments.device, drop_last=True))
        for number, (images, labels) in enumerate(fed):
            yield augment(images, labels, number * batch)

    def from_disk(loader: str, job: Any) -> Iterator[Any]:
        for images, labels in epochs(one_loader.LOADERS[loader].batches(job)):
            if len(labels) == batch:
                moved = images.to(device, non_blocking=True)
                yield (moved.float() - 127.5).div_(127.5).bfloat16(), labels.to(device, non_blocking=True)

    seconds = {"fixed tensor": step_seconds(step, cycle([fixed]), arguments)}
    seconds["fdsl Feed"] = step_seconds(step, feed(), arguments)
    seconds["fdsl Feed, augmented"] = step_seconds(step, augmented(), arguments)
    prepared = [prepare(dataset, cuda.Engine(arguments.device, pixels), np.arange(batch))]
    out = cuda.Engine(arguments.device, pixels).empty((batch, 3, 224, 224))
    drawing = seconds_of(lambda: prepared[0].draw(out), arguments)
    with tempfile.TemporaryDirectory(prefix="gpu-") as temporary:
        folder = arguments.folder or Path(temporary)
        catalog.save(folder / "catalog.safetensors")
        job = SimpleNamespace(
            catalog=str(folder / "catalog.safetensors"), data=str(folder), images=arguments.images, format="rgb",
            cores=list(range(CORES)), workers=max(1, CORES - 2), world_size=1, rank=0,
            decode=one_loader.decode_torchvision,
        )  # fmt: skip
        import torchvision.io  # noqa: F401 - the decoder looks for it

        for kind, loader in (("folder", one_loader.FOLDER), ("tar", "WebDataset")):
            job.kind = kind
            one_loader.make(job)
            seconds[loader] = step_seconds(step, from_disk(loader, job), arguments)
    alone, fed = seconds["fixed tensor"], seconds["fdsl Feed"]
    return {
        "model": TRAINED,
        "batch": batch,
        "images_per_s": {name: batch / each for name, each in seconds.items()},
        "drawing_images_per_s": batch / drawing,
        "drawing_share_of_the_fed_step": drawing / fed,
        "over_step_and_drawing": fed / (alone + drawing) - 1,
        "stored_images": arguments.images,
    }


def epochs(loader: Iterable[Any]) -> Iterator[Any]:
    while True:
        yield from loader


def training_step() -> Callable[[Any, Any], None]:
    import timm
    import torch

    model = timm.create_model(TRAINED, num_classes=1000).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), 5e-4, fused=True)
    compiled = torch.compile(model)

    def step(images: Any, labels: Any) -> None:
        with torch.autocast("cuda", torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(compiled(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def step_seconds(step: Callable[[Any, Any], None], batches: Iterator[Any], arguments: argparse.Namespace) -> float:
    """Wall time of a step with its batch, after ten that compile and warm up; the median of the rounds."""
    import torch

    def several(times: int) -> float:
        def run() -> None:
            for images, labels in islice(batches, times):
                step(images, labels)
            torch.cuda.synchronize()

        return timed(run) / times

    several(10)
    return median(several(arguments.steps) for _ in range(arguments.rounds))


# --- search, FractalDB-1k, OpenGL -------------------------------------------------------------------------------------


def search(arguments: argparse.Namespace, engine: cuda.Engine, catalog: fdsl.Catalog) -> dict[str, Any]:
    """Seconds to find fractaldb's categories and to probe their variations; the same catalog as on the cpu."""
    assert fdsl.search("fractaldb", 100, device=arguments.device) == catalog
    seconds = {
        str(categories): median(
            timed(lambda categories=categories: fdsl.search("fractaldb", categories, device=arguments.device))
            for _ in range(arguments.rounds if categories < 10_000 else 1)
        )
        for categories in (1_000, 100_000)
    }
    return {"seconds": seconds, "cpu_seconds": {"1000": timed(lambda: fdsl.search("fractaldb", 1_000))}}


def nothing(arguments: argparse.Namespace, engine: cuda.Engine, catalog: fdsl.Catalog) -> dict[str, Any]:
    """FractalDB-1k from nothing: search, and a million PNG in tar shards; and how long drawing them takes by itself."""
    import torch
    from scale import MILLION, export

    folder = arguments.folder and arguments.folder / "shards"
    made = export(SimpleNamespace(folder=folder, pictures=MILLION, workers=CORES))
    dataset = fdsl.Dataset(fdsl.catalog("fractaldb-1k"), 1000, fdsl.RenderSpec(size=256))
    out = engine.empty((1000, 1, 256, 256))

    def draw_all() -> None:
        for first in range(0, len(dataset), 1000):
            dataset.batch(range(first, first + 1000), engine=engine, out=out)
        torch.cuda.synchronize()

    drawing = {"gpu": timed(draw_all), "cpu": 100 * timed(lambda: dataset.batch(range(0, MILLION, 100)))}
    return made | {"minutes": made["together_s"] / 60, "drawing_s": drawing, "original_minutes": ORIGINAL_MINUTES}


def gl(arguments: argparse.Namespace, engine: cuda.Engine, catalog: fdsl.Catalog) -> dict[str, Any]:
    """Images/s of the OpenGL engine here, and of the original design: points by CUDA, drawn by EGL, read back."""
    import gl as opengl

    return opengl.measured(catalog, arguments.rounds, original=True)


def augmentation(arguments: argparse.Namespace, engine: cuda.Engine, catalog: fdsl.Catalog) -> dict[str, Any]:
    """Images/s of augmentation on the GPU: ours, in torch operations, Kornia's, torchvision's."""
    import gpu_augmentation

    return gpu_augmentation.augmentation()


def print_tables(report: dict[str, Any], output: Path) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = 120
    if drawn := report.get("draw"):
        table = new_table(
            f"Drawing on {drawn['machine']['gpu']}", "what", "images/s", "kernels", "batch", "target", "met"
        )
        targets = TARGETS | {
            f"patch-gray/512/100000/{fit}": round(PATCH_TARGET * report["images_per_s"][point])
            for fit in FITS
            if (point := f"point-gray/512/100000/{fit}") in report["images_per_s"]
        }
        for key, rate in report["images_per_s"].items():
            target = targets.get(key)
            met = "" if target is None else "yes" if rate >= target else "no"
            wanted = f"{target:,}" if target else ""
            cells = f"{rate:,.0f}", f"{drawn['kernels_images_per_s'][key]:,.0f}", f"{drawn['batch'][key]:,}"
            table.add_row(key, *cells, wanted, met)
        console.print(table)
    if trained := report.get("train"):
        table = new_table(f"Training {trained['model']}, batches of {trained['batch']}", "fed by", "images/s")
        for name, rate in trained["images_per_s"].items():
            table.add_row(name, f"{rate:,.0f}")
        console.print(table)
        console.print(
            f"Drawing is {trained['drawing_share_of_the_fed_step']:.1%} of the fed step, which takes "
            f"{trained['over_step_and_drawing']:.1%} longer than the step and drawing together (target 1 %)"
        )
    if searched := report.get("search"):
        for categories, seconds in searched["seconds"].items():
            target = f" (target {SEARCH_TARGET_S:.0f} s)" if categories == "100000" else ""
            console.print(f"{int(categories):,} categories found in {seconds:,.1f} s{target}")
    if made := report.get("nothing"):
        drawing = made["drawing_s"]["gpu"]
        console.print(
            f"FractalDB-1k from nothing in {made['minutes']:.1f} minutes (originally {ORIGINAL_MINUTES:.0f}); "
            f"drawing alone takes the GPU {drawing:.1f} s"
        )
    console.print(f"All figures: {output}")


PARTS: dict[str, Callable[[argparse.Namespace, cuda.Engine, fdsl.Catalog], dict[str, Any]]] = {
    "draw": draw, "train": train, "search": search, "nothing": nothing, "gl": gl, "augmentation": augmentation
}  # fmt: skip

if __name__ == "__main__":
    main()
