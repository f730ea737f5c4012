#!/usr/bin/env python3
"""Pictures drawn as they are asked for, beside loaders of the same pictures on disk: the same cores, one run.

Every loader yields shuffled batches of 64: images uint8 (64, 3, 224, 224), labels int64 (64,). The files hold the
pixels that ours draws (fractaldb, points, 100,000 of them, gray). Each at its best:

- decoding: for all disk loaders whichever of Pillow, torchvision, OpenCV and spdl.io decodes these files fastest here;
- ImageFolder: torchvision's, in a DataLoader whose workers live on and prefetch four batches (so everywhere);
- WebDataset: tar shards of 1,000 shuffled pictures; shards and a buffer of 1,000 are shuffled; batched in the workers;
- litdata: chunks of 64 MB in its own StreamingDataLoader, read in place; its version check is off;
- Streaming (MosaicML): MDS shards of 64 MB in its own StreamingDataLoader;
- SPDL: its pipeline of threads over a listed folder, a batch a task, so that no picture crosses its event loop alone;
- fdsl DataLoader: the Dataset in torch's DataLoader; fdsl Feed: the library's own. "stored fit" draws other pictures,
  scaled by the box in the catalog, so that the points are walked once.

A measurement is a process of its own, pinned to its cores; torch, and what the loader imports, come before the clock
starts. First batch: from making the loader (listing files, opening the catalog) to its first batch. Memory: the peak of
all its processes together (proportional, without pages of files), over processes that import torch and nothing else.
"One process" has one core and no workers; workers have all cores; ranks have a core each. Files are in the page cache;
--drop-caches adds the first batch without it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from one_loader import BATCH, FEED, FOLDER, LOADERS, MODEL, POINTS, SIZE
from rounds import CORES, Ratio, Record, compared, count, machine, progress_bar, rounded_to_five_digits, versions

import fdsl

PROGRAM = str(Path(__file__).with_name("one_loader.py"))
PACKAGES = (
    "fdsl numpy torch torchvision pillow opencv-python-headless webdataset litdata mosaicml-streaming spdl-core timm"
)
ONE, WORKERS, RANKS = "one process", f"{CORES} workers", f"{CORES} ranks"
BYTES_AN_IMAGE = 14_000  # of all kinds of files together, at most
EXAMPLE = """\
examples:
  python benchmarks/loaders.py --pictures docs/pictures           # 1k, 10k and 100k images: a quarter of an hour
  python benchmarks/loaders.py --images 300 1000 --seconds 0.5 --rounds 1 --train-images 64 --output try.json
  python benchmarks/loaders.py --images 1000 10000 100000 1000000 --data /scratch/loaders     # files are kept there
"""


class Setting(NamedTuple):
    """What is measured, once a round."""

    loader: str
    setup: str
    format: str
    images: int

    @property
    def files(self) -> str:
        return LOADERS[self.loader].files

    def __str__(self) -> str:
        return f"{self.loader}, {self.setup}, {self.images:,} images" + f", {self.format}" * bool(self.files)


def main() -> None:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="loaders-") as folder:
        data = arguments.data or Path(folder)
        data.mkdir(parents=True, exist_ok=True)
        need, free = BYTES_AN_IMAGE * sum(arguments.images), shutil.disk_usage(data).free
        if need > free:
            raise SystemExit(f"{data} has {free / 1e9:.1f} GB free; expected {need / 1e9:.1f} GB for so many images")
        report = Benchmark(arguments, data).report()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if arguments.json:
        print(json.dumps(report, indent=2))
    else:
        print_tables(report)
    if arguments.pictures:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
        draw_plots(report, arguments.pictures)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add, results, formats = parser.add_argument, Path(__file__).with_name("results"), ["1-bit", "rgb"]
    add("--images", type=count, nargs="+", default=[1000, 10_000, 100_000], metavar="N", help="multiples of 100")
    add("--formats", nargs="+", default=formats, choices=formats, help="of PNG: 1-bit, as the library exports; rgb, as "
        "published code writes; the first is timed throughout, others once more, in one process")  # fmt: skip
    add("--loaders", nargs="+", default=list(LOADERS), choices=list(LOADERS), metavar="NAME", help="default all")
    add("--seconds", type=float, default=2, metavar="S", help="of batches after the first (default 2)")
    add("--rounds", type=count, default=3, metavar="N", help="interleaved rounds (default 3)")
    add("--train-images", type=int, default=512, metavar="N", help=f"{MODEL} on so many; 0 is none (default 512)")
    add("--drop-caches", action="store_true", help="also time first batches from a cold file system (needs root)")
    add("--data", type=Path, metavar="FOLDER", help="for the files, which are kept (default: a temporary one)")
    add("--output", type=Path, default=results / "loaders.json", metavar="FILE")
    add("--pictures", type=Path, metavar="FOLDER", help="for the plots (default: none)")
    add("--json", action="store_true", help="print the JSON and nothing else")
    arguments = parser.parse_args()
    arguments.images = sorted(arguments.images)
    if any(images % 100 for images in arguments.images):
        parser.error("--images: expected multiples of 100")
    if arguments.drop_caches and not os.access("/proc/sys/vm/drop_caches", os.W_OK):
        parser.error("--drop-caches: this user may not write /proc/sys/vm/drop_caches")
    return arguments


# --- the run ----------------------------------------------------------------------------------------------------------


class Benchmark:
    """All jobs, one after the other, and what they gave."""

    def __init__(self, arguments: argparse.Namespace, data: Path) -> None:
        self.arguments, self.data, self.cores = arguments, data, sorted(os.sched_getaffinity(0))
        self.decoders: dict[str, dict[str, float]] = {}
        self.not_run: dict[str, str] = {}
        self.results: dict[Setting, list[dict[str, Any]]] = {}

    def report(self) -> dict[str, Any]:
        began, busy_before, arguments = datetime.now(UTC), os.getloadavg()[0], self.arguments
        with progress_bar() as progress:
            note = progress.add_task("looking at what is installed", total=None)
            for form in arguments.formats:
                looked = self.run("look", ONE, form, arguments.images[0], loaders=arguments.loaders)
                self.decoders[form], self.not_run = looked["decoders_us"], looked["missing"]
            names = [name for name in arguments.loaders if name not in self.not_run]
            plan = list(self.plan(names))
            files = {}
            for setting in plan:
                key = (setting.images, setting.format, setting.files)
                if setting.files and key not in files:
                    progress.update(note, description=f"writing {setting.images:,} images: {setting.files}")
                    files[key] = dict(zip(("images", "format", "kind"), key, strict=True)) | self.make(*key)
            bare = {setup: self.run("nothing", setup)["memory"] for setup in (ONE, WORKERS, RANKS)}
            cold = [setting for setting in plan if arguments.drop_caches and setting.setup == ONE]
            trained = names if arguments.train_images else []
            progress.update(note, total=arguments.rounds * len(plan) + len(cold) + len(trained))
            for number in range(arguments.rounds):
                for setting in plan:
                    progress.update(note, description=f"round {number + 1} of {arguments.rounds}: {setting}", advance=1)
                    with self.may_fail(str(setting)):
                        loader, *where = setting
                        result = self.run("measure", *where, loader=loader, seconds=arguments.seconds)
                        result["memory"] -= bare[setting.setup]
                        self.results.setdefault(setting, []).append(result)
            for setting in cold:
                progress.update(note, description=f"cold: {setting}", advance=1)
                with self.may_fail(f"cold: {setting}"):
                    loader, *where = setting
                    result = self.run("measure", *where, loader=loader, seconds=0, drop_caches=True)
                    self.results[setting][-1]["cold_first_batch_s"] = result["first_batch_s"]
            epochs, images = {}, arguments.images[0]
            for name in trained:
                progress.update(note, description=f"training from {name}", advance=1)
                with self.may_fail(f"{name}, {MODEL}"):
                    wanted = min(arguments.train_images, images)
                    epochs[name] = self.run("train", WORKERS, images=images, loader=name, train_images=wanted)
        ratios = compared(self.record("images_per_s"), self.speed_ratios())
        ratios += compared(self.record("first_batch_s"), self.first_batch_ratios())
        judged = [entry["met"] for entry in ratios if entry["met"] is not None]
        settings = {name: getattr(arguments, name) for name in ("images", "formats", "seconds", "rounds")}
        return rounded_to_five_digits(
            {
                "benchmark": "loaders",
                "date": began.isoformat(timespec="seconds"),
                "machine": machine() | {"load_average_before": busy_before},
                "versions": versions(PACKAGES.split(), {}),
                "settings": settings | {"size": SIZE, "points": POINTS, "batch": BATCH, "bare_memory": bare},
                "decoders_us": self.decoders,
                "files": list(files.values()),
                "loaders": [self.entry(setting) for setting in self.results],
                "epochs": epochs,
                "ratios": ratios,
                "targets": len(judged),
                "targets_met": sum(judged),
                "not_run": self.not_run,
            }
        )

    def plan(self, names: list[str]) -> Iterator[Setting]:
        """Every size in one process; the largest on all cores; one of the middle in the other formats."""
        sizes, (first, *others) = self.arguments.images, self.arguments.formats
        where = [(ONE, first, images) for images in sizes] + [(setup, first, sizes[-1]) for setup in (WORKERS, RANKS)]
        # Beside each other in time what is compared.
        yield from (Setting(name, *here) for here in where for name in names)
        for form in others:
            yield from (Setting(name, ONE, form, sizes[len(sizes) // 2]) for name in names if LOADERS[name].files)

    def run(self, do: str, setup: str, form: str = "", images: int = 0, drop_caches: bool = False, **job: Any) -> Any:
        form, images = form or self.arguments.formats[0], images or self.arguments.images[0]
        decoders = self.decoders.get(form, {})
        categories = max(100, images // 1000)
        catalog = self.data / f"catalog-{categories}.safetensors"
        if not catalog.exists():
            fdsl.search("fractaldb", categories=categories).save(catalog)
        return run(
            {
                "do": do, "loader": "", "format": form, "images": images, "catalog": str(catalog),
                "data": str(self.data / f"{form}-{images}"),
                "decoder": min(decoders, key=decoders.__getitem__, default=""),
                "cores": self.cores[-1:] if setup == ONE else self.cores,
                "workers": CORES if setup == WORKERS else 0, "world_size": CORES if setup == RANKS else 1,
            } | job, drop_caches,
        )  # fmt: skip

    def make(self, images: int, form: str, kind: str) -> dict[str, Any]:
        """What was written, now or by an earlier run that kept it; the others are made from the folder."""
        note = self.data / f"{form}-{images}" / f"{kind}.json"
        if kind != "folder":
            self.make(images, form, "folder")
        if not note.exists():
            made = self.run("make", WORKERS, form, images, kind=kind)
            note.write_text(json.dumps({name: made[name] for name in ("seconds", "files", "bytes", "bytes_on_disk")}))
        return json.loads(note.read_text())

    @contextlib.contextmanager
    def may_fail(self, what: str) -> Iterator[None]:
        try:
            yield
        except NotRun as error:
            self.not_run[what] = str(error)

    def entry(self, setting: Setting) -> dict[str, Any]:
        entry: dict[str, Any] = setting._asdict()
        for name in ("images_per_s", "first_batch_s", "cold_first_batch_s", "memory", "imports_s"):
            if values := [result[name] for result in self.results[setting] if name in result]:
                entry[name] = {"median": median(values), "rounds": values}
        return entry

    def record(self, name: str) -> Record:
        whole = {s: results for s, results in self.results.items() if len(results) == self.arguments.rounds}
        return Record({str(s): [result[name] for result in results] for s, results in whole.items()})

    def speed_ratios(self) -> Iterator[Ratio]:
        """Ours to the fastest loader of files, in each setup."""
        speed = {s: median(result["images_per_s"] for result in results) for s, results in self.results.items()}
        for where in dict.fromkeys(setting[1:] for setting in speed):
            if disk := [setting for setting in speed if setting[1:] == where and setting.files]:
                fastest = str(max(disk, key=speed.__getitem__))
                for name in (name for name, loader in LOADERS.items() if not loader.files):
                    target = 3 if name == FEED and where[0] == ONE else None
                    ours = Setting(name, where[0], self.arguments.formats[0], where[2])
                    yield Ratio(str(ours), fastest, fastest, target)

    def first_batch_ratios(self) -> Iterator[Ratio]:
        for images in self.arguments.images:
            folder, ours = (str(Setting(name, ONE, self.arguments.formats[0], images)) for name in (FOLDER, FEED))
            yield Ratio(folder, ours, f"{ours} (seconds to the first batch)", 10 if images == 100_000 else None)


# --- one job ----------------------------------------------------------------------------------------------------------


class NotRun(Exception):
    """Why a job failed, in one line."""


def run(job: dict[str, Any], drop_caches: bool = False, timeout: float = 1800) -> dict[str, Any]:
    """The result of a job: images/s of all ranks together, the latest first batch, and the peak of their memory."""
    count, cores = job["world_size"], job["cores"]
    with contextlib.ExitStack() as stack, socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        environment = os.environ | {"OMP_NUM_THREADS": str(len(cores) // count), "LITDATA_DISABLE_VERSION_CHECK": "1"}
        port = listener.getsockname()[1]
        listener.close()
        processes, logs = [], []
        for rank in range(count):
            if count > 1:
                numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
                numbers |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
                environment |= {name: str(number) for name, number in numbers.items()}
            logs.append(stack.enter_context(tempfile.TemporaryFile("w+")))
            text = json.dumps(job | {"rank": rank, "cores": cores[rank::count]})
            processes.append(
                subprocess.Popen(
                    [sys.executable, PROGRAM, text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=logs[-1],
                    text=True, env=environment, start_new_session=True,
                )
            )  # fmt: skip
            stack.callback(end, processes[-1])
        timer = threading.Timer(timeout, lambda: [os.killpg(process.pid, signal.SIGKILL) for process in processes])
        timer.start()
        stack.callback(timer.cancel)
        lines = [process.stdout.readline() for process in processes]
        if all(lines):
            if drop_caches:
                os.sync()
                Path("/proc/sys/vm/drop_caches").write_text("3\n")
            with peak_memory({process.pid for process in processes}) as memory:
                for process in processes:
                    process.stdin.write("go\n")
                    process.stdin.flush()
                lines = [process.stdout.readline() for process in processes]
        if not all(lines):
            raise NotRun(next(last_line(log) for log, line in zip(logs, lines, strict=True) if not line))
    results = [json.loads(line) for line in lines]
    together = {name: of for name, of in (("images_per_s", sum), ("first_batch_s", max)) if name in results[0]}
    return results[0] | {"memory": memory[0]} | {name: of(r[name] for r in results) for name, of in together.items()}


def end(process: subprocess.Popen[str]) -> None:
    """A moment to end by itself, then by force, with its workers."""
    with contextlib.suppress(subprocess.TimeoutExpired, BrokenPipeError):
        process.communicate(timeout=10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def last_line(log: Any) -> str:
    log.seek(0)
    return next((line.strip() for line in reversed(log.read().splitlines()) if line.strip()), "it ended without a word")


@contextlib.contextmanager
def peak_memory(sessions: set[int]) -> Iterator[list[int]]:
    """Bytes of all processes of these sessions, in a list of one item: the most while the block ran."""
    peak, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            peak[0] = max(
                peak[0], sum(own_memory(int(name), sessions) for name in os.listdir("/proc") if name.isdigit())
            )

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def own_memory(process: int, sessions: set[int]) -> int:
    """Its part of what is of no file: what processes share is counted once, and library code not at all."""
    with contextlib.suppress(OSError):
        if os.getsid(process) in sessions:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))
    return 0


# --- the report -------------------------------------------------------------------------------------------------------


def print_tables(report: dict[str, Any]) -> None:
    """Markdown."""
    print(f"{named(report)}; medians of rounds: {report['settings']['rounds']}.\n")
    print_table(
        "loader | setup | PNG | images | images/s | first batch, s | cold, s | memory, MB",
        [(e["loader"], e["setup"], e["format"] if LOADERS[e["loader"]].files else "", f"{e['images']:,}",
          f"{e['images_per_s']['median']:,.0f}", f"{e['first_batch_s']['median']:.3f}",
          f"{e['cold_first_batch_s']['median']:.3f}" if "cold_first_batch_s" in e else "",
          f"{e['memory']['median'] / 1e6:,.0f}") for e in report["loaders"]],
    )  # fmt: skip
    print_table(
        "files | PNG | images | number | MB | MB on disk | written in, s",
        [(e["kind"], e["format"], f"{e['images']:,}", f"{e['files']:,}", f"{e['bytes'] / 1e6:,.1f}",
          f"{e['bytes_on_disk'] / 1e6:,.1f}", f"{e['seconds']:,.1f}") for e in report["files"]],
    )  # fmt: skip
    print_table(
        f"{MODEL} from | images | seconds | images/s | share of waiting",
        [(name, e["images"], f"{e['seconds']:.1f}", f"{e['images'] / e['seconds']:,.1f}", f"{e['waiting_share']:.1%}")
         for name, e in report["epochs"].items()],
    )  # fmt: skip
    met = {None: "", True: "yes", False: "no"}
    print_table(
        "what | ratio | to | target | met",
        [(e["of"], f"{e['ratio']:.2f}", e["beside"], e["target"] or "", met[e["met"]]) for e in report["ratios"]],
    )
    for form, decoders in report["decoders_us"].items():
        print(f"Decoding a picture, {form}: {', '.join(f'{name} {us:.0f} µs' for name, us in decoders.items())}.")
    for what, why in report["not_run"].items():
        print(f"Not run: {what}: {why}")


def print_table(head: str, rows: Iterable[Iterable[Any]]) -> None:
    lines = [" | ".join(map(str, row)) for row in rows]
    rule = " | ".join("---" for _ in head.split(" | "))
    print("\n".join(f"| {line} |" for line in (head, rule, *lines)) + "\n")


def named(report: dict[str, Any]) -> str:
    facts = report["machine"]
    return f"{facts['cpu']}, {facts['cores']} cores, {facts['kernel']}"


def draw_plots(report: dict[str, Any], folder: Path) -> None:
    """loaders.png: images/s, memory and disk; loaders-first-batch.png: seconds by number of images."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    sizes, form = report["settings"]["images"], report["settings"]["formats"][0]
    found = {(e["loader"], e["setup"], e["images"]): e for e in report["loaders"] if e["format"] == form}
    names = [name for name in LOADERS if all((name, ONE, images) in found for images in sizes)]
    disk = {e["kind"]: e["bytes_on_disk"] for e in report["files"] if (e["images"], e["format"]) == (sizes[-1], form)}
    figure, panels = pyplot.subplots(1, 3, figsize=(13, 4.6), sharey=True, width_ratios=(2, 1, 1), layout="constrained")

    def bars(axes: Any, values: list[float], shift: float, height: float, **look: Any) -> None:
        drawn = axes.barh([place + shift for place in range(len(names))], values, height, **look)
        axes.bar_label(drawn, [f"{value:,.0f}" for value in values], padding=2, fontsize=8)

    for number, setup in enumerate((ONE, WORKERS, RANKS)):
        entries = [found.get((name, setup, sizes[-1])) for name in names]
        speeds = [entry["images_per_s"]["median"] if entry else 0 for entry in entries]
        bars(panels[0], speeds, 0.27 * (number - 1), 0.25, label=f"{setup}, {1 if setup == ONE else CORES} cores")
    bars(panels[1], [found[name, ONE, sizes[-1]]["memory"]["median"] / 1e6 for name in names], 0, 0.6, color="C4")
    bars(panels[2], [disk.get(LOADERS[name].files, 0) / 1e6 for name in names], 0, 0.6, color="C5")
    for axes, title, unit in zip(
        panels, ("speed", "memory over torch's own, one process", "disk"), ("images/s", "MB", "MB"), strict=True
    ):
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(unit)
        axes.margins(x=0.2)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    panels[0].legend(fontsize=8)
    figure.suptitle(f"{sizes[-1]:,} images of {SIZE} px, batches of {BATCH}: {named(report)}", fontsize=10)
    figure.savefig(folder / "loaders.png", dpi=110)
    figure, axes = pyplot.subplots(figsize=(7.5, 4.6), layout="constrained")
    for name in names:
        seconds = [found[name, ONE, images]["first_batch_s"]["median"] for images in sizes]
        axes.loglog(sizes, seconds, "o-" if LOADERS[name].files else "s--", label=name, markersize=4)
    axes.set(xlabel="images of the dataset", ylabel="seconds to the first batch")
    axes.set_title(f"one process: {named(report)}", fontsize=10)
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
    figure.savefig(folder / "loaders-first-batch.png", dpi=110)


if __name__ == "__main__":
    main()
