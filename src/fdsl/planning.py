"""What a training run needs and what this machine has for it, before it is queued: the figures of `fdsl plan`."""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from fdsl.bench import check_seconds, gpu_speed, render_speed
from fdsl.datasets import IndexedPictures
from fdsl.engines import engine_for
from fdsl.engines.cpu import default_threads, processors
from fdsl.export.png import png_bytes
from fdsl.order import EpochOrder
from fdsl.progress import Progress

_SAMPLED_FILES = 128
_SHARD_BYTES = 10**9


@dataclass(frozen=True)
class Plan:
    """What a run comes to. A rank is one process with one GPU; rates are per rank.

    Args:
        images: of an epoch.
        epochs: of the run.
        ranks: in all.
        batch_size: of a rank.
        cores: of a rank.
        model_images_per_s: what a rank trains on if nothing keeps it waiting.
        feed_images_per_s: what the cores of a rank draw.
        core_images_per_s: what one core draws while the others rest.
        open_s: seconds in which a process opens the dataset.
        first_batch_s: seconds from then to its first batch.
        png_bytes: mean size of a picture's PNG file, as our export writes it.
        tar_bytes: what such a sample takes in a tar shard, with its class.
        shared_cores: whether the model trains on the very cores that draw.
        gpu_images_per_s: what the GPU of a rank draws while it does nothing else; None where none was measured, and the
            cores draw.
        sources: how each of these came to be known, by name: "given", or "measured ...".

    >>> Plan(1_000_000, 300, 4, 256, 4, 2500.0, 40_000.0, 11_000.0, 0.001, 0.02, 2000.0, 4096.0).hours
    8.333333333333334
    """

    images: int
    epochs: int
    ranks: int
    batch_size: int
    cores: int
    model_images_per_s: float
    feed_images_per_s: float
    core_images_per_s: float
    open_s: float
    first_batch_s: float
    png_bytes: float
    tar_bytes: float
    shared_cores: bool = False
    gpu_images_per_s: float | None = None
    sources: dict[str, str] = field(default_factory=dict)

    @property
    def feed_over_model(self) -> float:
        """How many times as fast as the model the feed is; under 1 the model waits."""
        return self.feed_images_per_s / self.model_images_per_s

    @property
    def feeding_cores(self) -> float:
        """Cores of a rank that are busy drawing where the model never waits."""
        return self.cores / self.feed_over_model

    @property
    def missing_cores(self) -> int:
        """Cores that a rank lacks for that; 0 where it has enough."""
        return max(0, math.ceil(self.feeding_cores) - self.cores) if self.feed_over_model < 1 else 0

    @property
    def images_per_s(self) -> float:
        """Of a rank in the run: the slower of model and feed, or where they share cores or a GPU, in turns."""
        if self.shared_cores or self.gpu_images_per_s is not None:
            return 1 / (1 / self.model_images_per_s + 1 / (self.gpu_images_per_s or self.feed_images_per_s))
        return min(self.model_images_per_s, self.feed_images_per_s)

    @property
    def gpu_share(self) -> float | None:
        """The part of its time in which the GPU of a rank draws; None where that was not measured.

        >>> replace(plan, gpu_images_per_s=97_500.0).gpu_share
        0.025
        """
        return None if self.gpu_images_per_s is None else self.waiting_share

    @property
    def hours(self) -> float:
        """Of the run, without evaluations and checkpoints."""
        return self.images * self.epochs / (self.images_per_s * self.ranks) / 3600

    @property
    def stored_bytes(self) -> float:
        """Of the pictures of one epoch as PNG files, none of which is written."""
        return self.images * self.png_bytes

    @property
    def shards(self) -> int:
        """How many tar files of at most 10^9 bytes they would be."""
        return math.ceil(self.images / max(1, _SHARD_BYTES // self.tar_bytes))

    @property
    def waiting_share(self) -> float:
        """The part of its time in which the model cannot train: it waits, or its cores or its GPU draw."""
        return 1 - self.images_per_s / self.model_images_per_s

    @property
    def verdict(self) -> str:
        """Which of the two is the bottleneck, in plain words.

        >>> replace(plan, model_images_per_s=50_000).verdict
        'the feed is the bottleneck: 1 more core per rank'
        """
        if self.gpu_share is not None:
            return f"the GPU draws in {self.gpu_share:.1%} of its time, and trains in the rest"
        ratio = self.feed_over_model
        if ratio >= 1:
            return f"the feed is {_number(ratio)} times as fast as the model"
        if self.shared_cores:
            return f"the feed is the bottleneck: drawing takes {self.waiting_share:.0%} of the time"
        return f"the feed is the bottleneck: {_counted(self.missing_cores, 'more core')} per rank"

    def figures(self) -> dict[str, object]:
        """All of it as plain numbers and strings, by name; rates in images/s per rank, sizes in bytes."""
        derived = ("feed_over_model", "feeding_cores", "missing_cores", "images_per_s", "waiting_share", "hours")
        names = (*derived, "stored_bytes", "shards", "verdict", "gpu_share")
        sources = {"gpu_images_per_s": "not measured"} | self.sources | dict.fromkeys(names, "computed")
        sources |= {"gpu_share": "not measured"} if self.gpu_share is None else {}
        named = asdict(self) | {name: getattr(self, name) for name in names} | {"sources": sources}
        return {name: float(f"{value:.6g}") if isinstance(value, float) else value for name, value in named.items()}

    def rows(self) -> list[tuple[str, str, str]]:
        """What `fdsl plan` prints: what, how much, and how that is known."""
        known = self.sources.get
        share, turns = ("not measured", "no GPU draws here"), ""
        if self.gpu_share is not None:
            share = (
                f"{self.gpu_share:.1%}, at {_number(self.gpu_images_per_s or 0)} images/s",
                known("gpu_images_per_s", ""),
            )
        if self.shared_cores or self.gpu_share is not None:
            turns = "; drawing and training take turns"
        files, shards = f"{self.images:,} PNG files", _counted(self.shards, "tar shard")
        return [
            (
                "the model needs",
                f"{_number(self.model_images_per_s)} images/s per rank",
                known("model_images_per_s", ""),
            ),
            (
                "cores give" if self.gpu_share is not None else "the feed gives",
                f"{_number(self.feed_images_per_s)} images/s per rank",
                known("feed_images_per_s", ""),
            ),
            ("one core draws", f"{_number(self.core_images_per_s)} images/s", known("core_images_per_s", "")),
            ("a rank has", _counted(self.cores, "core"), known("cores", "")),
            ("feeding takes", f"{_number(self.feeding_cores)} cores per rank", "computed"),
            ("share of the GPU", *share),
            ("so", self.verdict, "computed"),
            ("first batch", f"{_time(self.first_batch_s)}, opening {_time(self.open_s)}", known("first_batch_s", "")),
            ("pictures", f"{self.images:,} x {_counted(self.epochs, 'epoch')}", known("images", "")),
            ("the run", f"{_time(3600 * self.hours)} on {_counted(self.ranks, 'rank')}", f"computed{turns}"),
            ("storage saved", f"{_bytes(self.stored_bytes)} in {files}", known("png_bytes", "")),
            ("", f"or {_bytes(self.images * self.tar_bytes)} in {shards}", "computed"),
        ]


def plan(
    dataset: IndexedPictures,
    *,
    images_per_s: float | None = None,
    model: str | None = None,
    images: int | None = None,
    epochs: int = 300,
    batch_size: int = 256,
    ranks: int = 1,
    cores: int | None = None,
    device: str = "auto",
    compiled: bool = False,
    seconds: float = 5.0,
    progress: Progress | None = None,
) -> Plan:
    """Measures what feeding and training cost on this machine, and says what a run of them comes to.

    Args:
        dataset: what to train on, or a small one that draws alike.
        images_per_s: what a rank trains on, where you know it; needs neither torch nor a GPU. Or:
        model: timm's name of a model whose training step is measured here.
        images: of an epoch; None takes those of the dataset.
        epochs: of the run.
        batch_size: of a rank.
        ranks: GPUs of the whole run.
        cores: of a rank; None shares the processors of this machine out among its ranks: as many as LOCAL_WORLD_SIZE
            says, else as GPUs are seen here.
        device: where to train `model`, and to draw for it: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:1".
        compiled: train it with `torch.compile`.
        seconds: of each measurement.
        progress: called with (what, done, total).

    Raises:
        ValueError: an argument is out of its range, or `model` does not fit the pictures.
        ImportError: `model` is given and timm is not installed.
        RuntimeError: the device is not there.

    >>> plan(dataset, images_per_s=2500, ranks=8, cores=4, seconds=1).verdict
    'the feed is 19 times as fast as the model'
    """
    if (images_per_s is None) == (model is None):
        raise ValueError(f"images_per_s is {images_per_s!r} and model is {model!r}; expected one of them")
    if images_per_s is not None and not 0 < images_per_s < math.inf:
        raise ValueError(f"images_per_s is {images_per_s!r}; expected a number over 0")
    for name, value in (
        ("images", images),
        ("epochs", epochs),
        ("batch_size", batch_size),
        ("ranks", ranks),
        ("cores", cores),
    ):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ValueError(f"{name} is {value!r}; expected a whole number of at least 1")
    check_seconds(seconds)
    if model is not None and dataset.labels:
        raise ValueError(f"labels is {dataset.labels!r}; expected 'class', which a classifier learns, or images_per_s")
    here, how = (cores, "given") if cores is not None else _cores_here(ranks)
    threads = min(here, processors())
    with_threads = f"measured with {_counted(threads, 'core')}"
    rate, shared, rate_known = images_per_s or 0.0, False, "given"
    if model is not None:
        from fdsl.train.speed import training_speed

        trained = training_speed(dataset, model, batch_size, device, seconds, compiled, progress)
        rate, shared = trained.images_per_s, trained.cpu
        rate_known = f"measured: {model}{', compiled' * compiled}, {trained.device}"
    engine = engine_for("cpu" if shared else device)
    gpu, gpu_known = None, "not measured"
    if engine.device is not None:
        gpu = gpu_speed(dataset, engine, batch_size, seconds, progress)
        gpu_known = f"measured on {_name(engine.device)} by itself"
    began = time.perf_counter()
    dataset = pickle.loads(pickle.dumps(dataset))  # as another process gets it: a catalog of a file opens that
    opened = time.perf_counter()
    indices = EpochOrder(len(dataset)).at(np.arange(batch_size) % len(dataset))
    dataset.batch(indices, threads=threads)
    first = time.perf_counter()
    png, tar = _file_sizes(dataset)
    rates = {
        speed.threads: speed.images_per_s for speed in render_speed(dataset, sorted({1, threads}), seconds, progress)
    }
    sampled = f"measured on {min(_SAMPLED_FILES, len(dataset))} pictures"
    return Plan(
        images=len(dataset) if images is None else images,
        epochs=epochs,
        ranks=ranks,
        batch_size=batch_size,
        cores=here,
        model_images_per_s=rate,
        feed_images_per_s=rates[threads] * here / threads,
        core_images_per_s=rates[1],
        open_s=opened - began,
        first_batch_s=first - opened,
        png_bytes=png,
        tar_bytes=tar,
        shared_cores=shared,
        gpu_images_per_s=gpu,
        sources=dict.fromkeys(("epochs", "ranks", "batch_size"), "given")
        | {
            "images": "the dataset's" if images is None else "given",
            "cores": how,
            "model_images_per_s": rate_known,
            "shared_cores": rate_known,
            "gpu_images_per_s": gpu_known,
            "feed_images_per_s": with_threads + (f", times {here / threads:g}" if here != threads else ""),
            "core_images_per_s": "measured with 1 core",
            "open_s": "measured",
            "first_batch_s": with_threads,
            "png_bytes": sampled,
            "tar_bytes": sampled,
        },
    )


def _cores_here(ranks: int) -> tuple[int, str]:
    """The cores that a rank has on this machine, and how that is known."""
    cores = default_threads()
    if "LOCAL_WORLD_SIZE" in os.environ:
        return cores, "this machine's, by LOCAL_WORLD_SIZE"
    gpus = 0
    if ranks > 1:
        with contextlib.suppress(ImportError):
            import torch

            gpus = min(ranks, torch.cuda.device_count())
    if gpus > 1:
        return max(1, cores // gpus), f"this machine's {cores} among {gpus} GPUs"
    return cores, "all of this machine"


def _name(device: Any) -> str:
    """A GPU's name."""
    import torch

    return str(torch.cuda.get_device_name(device) if device.type == "cuda" else device)


def _file_sizes(dataset: IndexedPictures) -> tuple[float, float]:
    """Mean bytes of a picture as a PNG file, and as a sample of a tar file: blocks of 512 for each header and file."""
    indices = EpochOrder(len(dataset)).at(np.arange(min(_SAMPLED_FILES, len(dataset))))
    images, labels = dataset.batch(indices)
    classes = [0] * len(images) if dataset.labels else labels.tolist()
    sizes = [
        len(png_bytes(image, dataset.part_of(label)[0].palette)) for image, label in zip(images, classes, strict=True)
    ]
    return sum(sizes) / len(sizes), sum(512 + -(-size // 512) * 512 + 1024 for size in sizes) / len(sizes)


def _counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'s' * (number != 1)}"


def _number(value: float) -> str:
    """In two figures, or to the unit."""
    if value < 0.01:
        return "under 0.01"
    return f"{value:,.{0 if value >= 10 else 1 if value >= 1 else 2}f}"


def _time(seconds: float) -> str:
    for unit, name in ((86400, "days"), (3600, "hours"), (60, "minutes"), (1, "s")):
        if seconds >= 2 * unit or (name == "s" and seconds >= 1):
            return f"{seconds / unit:,.1f} {name}"
    return f"{1e3 * seconds:,.1f} ms"


def _bytes(size: float) -> str:
    for unit, name in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if size >= unit:
            return f"{size / unit:,.1f} {name}"
    return f"{size / 1e3:,.1f} kB"
