#!/usr/bin/env python3
"""One loader in a process of its own, for loaders.py: its files are made, its batches timed, a model trained on them.

Called with a job in JSON, it imports what the job needs, says "ready" on the standard output, waits for a line on the
standard input, does the job, and prints the result in JSON.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace as Job
from typing import Any

import numpy as np

BATCH, SIZE, POINTS = 64, 224, 100_000
MODEL = "deit_tiny_patch16_224"

# --- loaders ----------------------------------------------------------------------------------------------------------


def our_dataset(job: Job, fit: str = "own") -> Any:
    import fdsl

    catalog = fdsl.Catalog.load(job.catalog)
    each = job.images // len(catalog)
    step = max(1, 1000 // each)  # over all weight rows
    spec = fdsl.RenderSpec(size=SIZE, points=POINTS, channels=3, fit=fit)
    return fdsl.Dataset(catalog, instances=range(0, each * step, step), spec=spec)


def workers(job: Job) -> dict[str, Any]:
    return {"num_workers": job.workers} | ({"persistent_workers": True, "prefetch_factor": 4} if job.workers else {})


def our_feed(job: Job, fit: str = "own") -> Iterable[Any]:
    import fdsl

    return fdsl.Feed(our_dataset(job, fit), batch_size=BATCH)


def our_stored_feed(job: Job) -> Iterable[Any]:
    return our_feed(job, "stored")


def our_dataloader(job: Job) -> Iterable[Any]:
    from torch.utils.data import DataLoader

    import fdsl

    dataset = our_dataset(job)
    return DataLoader(dataset, batch_sampler=fdsl.EpochBatches(len(dataset), BATCH), **workers(job))


def image_folder(job: Job) -> Iterable[Any]:
    from torch.utils.data import DataLoader, DistributedSampler, RandomSampler
    from torchvision.datasets import ImageFolder

    dataset = ImageFolder(f"{job.data}/folder", loader=lambda path: job.decode(read(path)))
    sampler = DistributedSampler(dataset) if job.world_size > 1 else RandomSampler(dataset)
    return DataLoader(dataset, batch_size=BATCH, sampler=sampler, collate_fn=stacked, **workers(job))


def web_dataset(job: Job) -> Iterable[Any]:
    import webdataset

    shards = [str(shard) for shard in sorted(Path(job.data, "tar").iterdir())]
    split = webdataset.split_by_node
    dataset = webdataset.WebDataset(shards, shardshuffle=len(shards), nodesplitter=split, empty_check=False)
    samples = dataset.shuffle(1000).to_tuple("png", "cls").map_tuple(job.decode, int)
    return webdataset.WebLoader(samples.batched(BATCH, collation_fn=stacked), batch_size=None, **workers(job))


def lit_data(job: Job) -> Iterable[Any]:
    import litdata

    def decoded(sample: tuple[bytes, int]) -> tuple[Any, int]:
        return job.decode(sample[0]), sample[1]

    dataset = litdata.StreamingDataset(f"{job.data}/litdata", shuffle=True, transform=decoded)
    return litdata.StreamingDataLoader(dataset, batch_size=BATCH, collate_fn=stacked, **workers(job))


def mosaic_streaming(job: Job) -> Iterable[Any]:
    from streaming import StreamingDataLoader, StreamingDataset

    class Decoded(StreamingDataset):
        def __getitem__(self, place: int) -> tuple[Any, int]:
            sample = super().__getitem__(place)
            return job.decode(sample["png"]), sample["label"]

    dataset = Decoded(local=f"{job.data}/mds", shuffle=True, batch_size=BATCH)
    return StreamingDataLoader(dataset, batch_size=BATCH, collate_fn=stacked, **workers(job))


def spdl_pipeline(job: Job) -> Iterable[Any]:
    from spdl.dataloader import DataLoader
    from spdl.source import DistributedRandomSampler

    files = listed(f"{job.data}/folder")
    sampler = DistributedRandomSampler(len(files), rank=job.rank, world_size=job.world_size)

    class Batches:
        def __iter__(self) -> Iterator[list[tuple[str, int]]]:
            order = list(sampler)
            return ([files[place] for place in order[start : start + BATCH]] for start in range(0, len(order), BATCH))

    def load(batch: list[tuple[str, int]]) -> Any:
        return stacked([(job.decode(read(path)), label) for path, label in batch])

    return DataLoader(Batches(), preprocessor=load, num_threads=max(1, job.workers))


@dataclass(frozen=True)
class Loader:
    """Makes an iterable of batches; `modules` are imported before the clock starts; `files` is what it reads."""

    batches: Callable[[Job], Iterable[Any]]
    modules: tuple[str, ...]
    files: str = ""


FEED, FOLDER = "fdsl Feed", "ImageFolder"
LOADERS = {
    FOLDER: Loader(image_folder, ("torchvision.datasets",), "folder"),
    "WebDataset": Loader(web_dataset, ("webdataset",), "tar"),
    "litdata": Loader(lit_data, ("litdata",), "litdata"),
    "Streaming": Loader(mosaic_streaming, ("streaming",), "mds"),
    "SPDL": Loader(spdl_pipeline, ("spdl.dataloader", "spdl.source"), "folder"),
    "fdsl DataLoader": Loader(our_dataloader, ("fdsl",)),
    FEED: Loader(our_feed, ("fdsl.feed",)),
    "fdsl Feed, stored fit": Loader(our_stored_feed, ("fdsl.feed",)),
}


def stacked(samples: list[tuple[Any, int]]) -> Any:
    """A batch as torch's own collating makes it (in workers, in shared memory), pictures as (B, 3, H, W)."""
    from torch.utils.data import default_collate

    images, labels = default_collate(samples)
    return images if images.shape[1] == 3 else images.permute(0, 3, 1, 2), labels


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def listed(folder: str) -> list[tuple[str, int]]:
    classes = sorted(entry.path for entry in os.scandir(folder))
    return [(entry.path, label) for label, name in enumerate(classes) for entry in os.scandir(name)]


def decode_pillow(data: bytes) -> Any:
    return np.asarray(sys.modules["PIL.Image"].open(BytesIO(data)).convert("RGB"))


def decode_torchvision(data: bytes) -> Any:
    io, torch = sys.modules["torchvision.io"], sys.modules["torch"]
    return io.decode_png(torch.frombuffer(bytearray(data), dtype=torch.uint8), io.ImageReadMode.RGB)


def decode_opencv(data: bytes) -> Any:
    # BGR, which is RGB in gray pictures.
    return sys.modules["cv2"].imdecode(np.frombuffer(data, np.uint8), 1)


def decode_spdl(data: bytes) -> Any:
    io = sys.modules["spdl.io"]
    return io.to_numpy(io.load_image(data, filter_desc=io.get_video_filter_desc(pix_fmt="rgb24")))


DECODERS: dict[str, tuple[str, Callable[[bytes], Any]]] = {
    "Pillow": ("PIL.Image", decode_pillow),
    "torchvision": ("torchvision.io", decode_torchvision),
    "OpenCV": ("cv2", decode_opencv),
    "spdl.io": ("spdl.io", decode_spdl),
}

# --- jobs -------------------------------------------------------------------------------------------------------------


def do(job: Job) -> None:
    """One job of this process, from its imports to its result, in terms of JSON, on the standard output."""
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print, too
    os.sched_setaffinity(0, job.cores)
    warnings.simplefilter("ignore")
    began = time.perf_counter()
    import torch

    modules = [*(LOADERS[job.loader].modules if job.loader else ())]
    if job.loader and LOADERS[job.loader].files:
        module, job.decode = DECODERS[job.decoder]
        modules.append(module)
    for module in modules:
        importlib.import_module(module)
    imported = time.perf_counter() - began
    torch.set_num_threads(len(job.cores) if job.do == "train" else 1)
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(1)
    if job.world_size > 1:
        torch.distributed.init_process_group("gloo")
    if job.do == "train":
        prepare_training(job)
    print("ready", file=results, flush=True)
    if not sys.stdin.readline():
        return
    result = {"make": make, "look": look, "measure": measure, "train": train, "nothing": nothing}[job.do](job)
    print(json.dumps(result | {"imports_s": imported}), file=results, flush=True)
    if job.world_size > 1:
        torch.distributed.destroy_process_group()


def nothing(job: Job) -> dict[str, Any]:
    time.sleep(1)
    return {}


def measure(job: Job) -> dict[str, Any]:
    """Seconds to the first batch, then images/s, over epochs if the first ends too early."""
    began = time.perf_counter()
    loader = LOADERS[job.loader].batches(job)
    batches = iter(loader)
    images, labels = next(batches)
    first = time.perf_counter() - began
    if tuple(images.shape[1:]) != (3, SIZE, SIZE) or str(images.dtype) != "torch.uint8" or len(labels) != len(images):
        raise ValueError(f"{job.loader} gave {images.dtype} {tuple(images.shape)}")
    count, began, now = 0, time.perf_counter(), 0.0
    while now < job.seconds:
        for _, labels in batches:
            count += len(labels)
            now = time.perf_counter() - began
            if now >= job.seconds:
                break
        else:
            batches = iter(loader)
    return {"first_batch_s": first, "images_per_s": count / now if now else 0.0}


def prepare_training(job: Job) -> None:
    import timm
    import torch

    job.device = "cuda" if torch.cuda.is_available() else "cpu"
    job.model = timm.create_model(MODEL, num_classes=1000).to(job.device)
    job.optimizer = torch.optim.AdamW(job.model.parameters(), 5e-4)
    step(job, torch.zeros(BATCH, 3, SIZE, SIZE, dtype=torch.uint8), torch.zeros(BATCH, dtype=torch.int64))


def step(job: Job, images: Any, labels: Any) -> None:
    import torch

    inputs = (images.to(job.device, non_blocking=True).float() - 127.5) / 127.5
    with torch.autocast(job.device, torch.bfloat16, enabled=job.device == "cuda"):
        loss = torch.nn.functional.cross_entropy(job.model(inputs), labels.to(job.device))
    job.optimizer.zero_grad()
    loss.backward()
    job.optimizer.step()
    loss.item()  # the host waits for the device, so that its clock sees the step


def train(job: Job) -> dict[str, Any]:
    """One epoch, or as much of it as is asked for."""
    began, waited, done = time.perf_counter(), 0.0, 0
    batches = iter(LOADERS[job.loader].batches(job))
    while done < job.train_images:
        asked = time.perf_counter()
        images, labels = next(batches)
        waited += time.perf_counter() - asked
        step(job, images, labels)
        done += len(labels)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "images": done, "waiting_share": waited / seconds, "device": job.device}


def look(job: Job) -> dict[str, Any]:
    """Which loaders can be imported, and how fast each decoder is, which must give the pixels that ours draws."""
    missing = {}
    for name, loader in LOADERS.items():
        if name in job.loaders and (why := failed_imports(loader.modules)):
            missing[name] = why
    images, _ = our_dataset(job).batch(range(0, job.images, job.images // 100))
    files = [png(image, job.format) for image in images]
    decoders = {}
    for name, (module, decode) in DECODERS.items():
        with contextlib.suppress(Exception):
            importlib.import_module(module)
            for image, file in zip(images, files, strict=True):
                decoded = np.asarray(decode(file))
                assert np.array_equal(decoded if decoded.shape[0] == 3 else decoded.transpose(2, 0, 1), image)
            times = []
            for _ in range(5):
                began = time.perf_counter()
                for file in files:
                    decode(file)
                times.append((time.perf_counter() - began) / len(files))
            decoders[name] = min(times) * 1e6
    return {"missing": missing, "decoders_us": decoders, "png_bytes": sum(map(len, files)) / len(files)}


def failed_imports(modules: Iterable[str]) -> str:
    try:
        for module in modules:
            importlib.import_module(module)
    except Exception as error:
        return f"{type(error).__name__}: {error}".partition("\n")[0]
    return ""


# --- files ------------------------------------------------------------------------------------------------------------


def make(job: Job) -> dict[str, Any]:
    """Writes the files of one kind; tar, litdata and mds from those of the folder, in a shuffled order."""
    began = time.perf_counter()
    target = Path(job.data, job.kind)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    MAKERS[job.kind](job, target)
    files = [entry.stat() for entry in target.rglob("*") if entry.is_file()]
    return {
        "seconds": time.perf_counter() - began,
        "files": len(files),
        "bytes": sum(file.st_size for file in files),
        "bytes_on_disk": sum(512 * file.st_blocks for file in files),
    }


def png(image: Any, format: str) -> bytes:
    """As the library exports it ("1-bit"), or as published code writes it ("rgb")."""
    from fdsl.datasets import pil_image
    from fdsl.export.png import png_bytes

    if format == "1-bit":
        return png_bytes(image[:1], np.uint8([[0], [127]]))
    file = BytesIO()
    pil_image(image).save(file, "PNG")
    return file.getvalue()


def make_folder(job: Job, target: Path) -> None:
    dataset = our_dataset(job)
    for name in dataset.classes:
        (target / name).mkdir()

    def write(number: int, image: Any, label: int) -> None:
        (target / dataset.classes[label] / f"{number:08d}.png").write_bytes(png(image, job.format))

    with ThreadPoolExecutor(len(job.cores)) as pool:
        for start in range(0, job.images, 1000):
            numbers = range(start, min(start + 1000, job.images))
            list(pool.map(write, numbers, *dataset.batch(numbers)))


def shuffled(job: Job) -> list[tuple[str, int]]:
    files = sorted(listed(f"{job.data}/folder"))
    return [files[place] for place in np.random.default_rng(0).permutation(len(files))]


def make_tar(job: Job, target: Path) -> None:
    import webdataset

    # Four at least: workers and ranks share out shards.
    with webdataset.ShardWriter(f"{target}/%06d.tar", maxcount=min(1000, job.images // 4), verbose=0) as writer:
        for path, label in shuffled(job):
            writer.write({"__key__": Path(path).stem, "png": read(path), "cls": label})


def lit_sample(file: tuple[str, int]) -> tuple[bytes, int]:
    return read(file[0]), file[1]


def make_litdata(job: Job, target: Path) -> None:
    import litdata

    with tempfile.TemporaryDirectory() as cache:
        os.environ |= {"DATA_OPTIMIZER_CACHE_FOLDER": cache, "DATA_OPTIMIZER_DATA_CACHE_FOLDER": cache}
        litdata.optimize(
            lit_sample, shuffled(job), str(target), chunk_bytes="64MB", num_workers=len(job.cores), verbose=False
        )


def make_mds(job: Job, target: Path) -> None:
    from streaming import MDSWriter

    with MDSWriter(columns={"png": "bytes", "label": "int"}, out=str(target), exist_ok=True) as writer:
        for path, label in shuffled(job):
            writer.write({"png": read(path), "label": label})


MAKERS = {"folder": make_folder, "tar": make_tar, "litdata": make_litdata, "mds": make_mds}


if __name__ == "__main__":
    do(Job(**json.loads(sys.argv[1])))
