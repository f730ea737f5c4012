"""Datasets as shards: what is left of an export is written, by processes here, by ranks of a job or on Ray."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fdsl.datasets import IndexedPictures
from fdsl.engines.cpu import default_threads
from fdsl.export.category_folders import write_category
from fdsl.export.encodings import SUFFIXES
from fdsl.export.manifest import Entry, WorkingFolder, check_same, identity, load_manifest
from fdsl.export.parquet_shards import write_parquet
from fdsl.export.processes import write_in_processes
from fdsl.export.shards import FilePictures, ShardPlan, check_layout
from fdsl.export.tar_shards import write_tar
from fdsl.progress import Progress
from fdsl.ranks import this_rank
from fdsl.whole_files import file_digest


@dataclass(frozen=True)
class ExportReport:
    """What an export came to.

    Args:
        pictures: in all its shards.
        shards: of the export.
        bytes: of its shards that are complete.
        drawn: pictures that this call drew; 0 where everything was there.
        left: shards that other ranks of the job have not written yet; the last rank writes the manifest.
    """

    pictures: int
    shards: int
    bytes: int
    drawn: int
    left: int


def export_dataset(
    dataset: IndexedPictures,
    folder: str | os.PathLike[str],
    to: str,
    *,
    encoding: str = "png",
    shard_size: int | None = None,
    order: str | None = None,
    shuffle_seed: int | None = 0,
    workers: int | None = None,
    ray: str | None = None,
    progress: Progress | None = None,
) -> ExportReport:
    """Writes a dataset as files that others read without any code of ours; interrupted, the same call goes on.

    A shard is complete or absent, whatever ends the process, and what is complete is not drawn again. The files are the
    same bytes for any number of workers, ranks and interruptions, and so is manifest.json, which comes last and holds
    what was drawn and the digests of pixels and files. In a job of torchrun, srun or mpirun each rank writes its share.

    Args:
        dataset: what to draw: epoch 0 of a view or a fresh dataset. Of a mix, every sample of its parts once.
        folder: new, empty, or an unfinished export of the same; on a file system that all processes share.
        to: "folder" (CATEGORY/NAME.png, for torchvision's ImageFolder), "webdataset" (shard-000000.tar with NAME.png
            and NAME.cls) or "parquet" (train-00000-of-00100.parquet, for Hugging Face's `datasets`).
        encoding: "png" (a bit a pixel where pictures have two values), "webp" (lossless) or "raw" (.npy).
        shard_size: pictures of a shard, 10,000 unless said; a folder's shard is a category.
        order: "shuffled", by `EpochOrder`, unless said, or "category".
        shuffle_seed: keys that order.
        workers: processes that draw, a thread each; None is one for each processor that this rank has.
        ray: the address of a Ray cluster that draws, or "local" for one on this machine; None for processes.
        progress: called with (what, done, total), counting pictures.

    Raises:
        ValueError: an argument does not fit, or the folder holds another export; names the field and both values.
        OSError: the folder holds something else, or cannot be written; complete shards stay.
        RuntimeError: a worker was killed; complete shards stay.
        ImportError: a package is not installed, whose extra is named.

    >>> import fdsl
    >>> from fdsl.export import export_dataset
    >>> dataset = fdsl.Dataset(fdsl.search("fractaldb", categories=10))
    >>> export_dataset(dataset, "shards", to="webdataset", shard_size=1000).shards
    10
    """
    shard_size, order, shuffle_seed = check_layout(to, encoding, shard_size, order, shuffle_seed)
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise ValueError(f"workers is {workers!r}; expected a whole number of at least 1, or None")
    here = this_rank()
    if ray is not None and here.world_size > 1:
        raise ValueError(f"ray is {ray!r} on {here.world_size} ranks of {here.launcher}; expected one process, or None")
    plan = ShardPlan(FilePictures(dataset), to, encoding, shard_size, order, shuffle_seed)
    export = ShardWriter(plan, Path(folder).resolve())
    working, names = export.working, [plan.name(shard) for shard in range(len(plan))]
    if not _goes_on(export, names):
        return _report(plan, load_manifest(export.folder), 0)
    try:
        working.open(identity(plan), names)
    except OSError:
        if _goes_on(export, names):
            raise
        # Another process has just been done with all of it, and removed the working folder.
        return _report(plan, load_manifest(export.folder), 0)
    mine = range(here.rank, len(plan), here.world_size)
    missing = [shard for shard in mine if not working.entry(names[shard])]
    drawn, to_draw = 0, sum(plan.size(shard) for shard in missing)

    def drew(count: int) -> None:
        nonlocal drawn
        drawn += count
        if progress:
            progress("drawing", drawn, to_draw)

    complete: list[Entry] = []
    try:
        with closing(_entries(export, missing, workers or default_threads(), ray, drew)) as entries:
            for _ in entries:
                pass
        complete = [entry for name in names if (entry := working.entry(name))]
        if len(complete) == len(names):
            working.finish(identity(plan), complete)
    except OSError:
        # Another process that wrote the same shards may have been the first to be done with all of them.
        if load_manifest(export.folder) is None:
            raise
    finally:
        working.remove_stale()
    # The last rank may just have written the manifest, and removed the entries: all but those written meanwhile.
    manifest = load_manifest(export.folder)
    if manifest is not None:
        working.remove()
    return _report(plan, manifest or {"shards": complete}, drawn)


@dataclass(frozen=True)
class ShardWriter:
    """Writes shards of a plan into a folder; it pickles, for processes of this machine and of others.

    Args:
        plan: which samples each shard holds.
        folder: absolute, and opened.
    """

    plan: ShardPlan
    folder: Path

    @property
    def working(self) -> WorkingFolder:
        """What the folder keeps of an unfinished export."""
        return WorkingFolder(self.folder)

    def write(self, shard: int, drew: Callable[[int], object] | None = None) -> Entry:
        """Draws and writes a shard, which appears with its entry when it is complete.

        Args:
            shard: its number.
            drew: called with the number of pictures of each batch.

        Raises:
            OSError: it cannot be written; nothing of it is left.
        """
        plan, pixels = self.plan, hashlib.sha256()
        name, suffix = plan.name(shard), SUFFIXES[plan.encoding]
        there = self.working.entry(name)
        if there:  # another process came first, or was killed before it could say so
            return there
        with self.working.shard(name, is_folder=plan.layout == "folder") as path:
            pictures = plan.pictures.encoded(plan.indices(shard), plan.encoding, pixels, drew)
            if plan.layout == "folder":
                size, digest = write_category(path, pictures, suffix)
            else:
                if plan.layout == "webdataset":
                    write_tar(path, pictures, suffix)
                else:
                    write_parquet(path, pictures, suffix, plan.pictures.dataset.classes)
                size, digest = path.stat().st_size, file_digest(path)
            entry = {
                "name": name,
                "pictures": plan.size(shard),
                "bytes": size,
                "pixels": pixels.hexdigest(),
                "sha256": digest,
            }
            self.working.add(entry)
        return entry


def _goes_on(export: ShardWriter, names: Sequence[str]) -> bool:
    """Whether something is left to do; a complete export that has lost shards becomes an unfinished one."""
    manifest, wanted = load_manifest(export.folder), identity(export.plan)
    if manifest is None:
        return True
    check_same(export.folder, manifest, wanted | {"versions": manifest["versions"]})
    if all((export.folder / name).exists() for name in names):
        export.working.remove()
        return False
    check_same(export.folder, manifest, wanted)
    export.working.reopen(manifest)
    return True


def _entries(
    export: ShardWriter, shards: Sequence[int], workers: int, ray: str | None, drew: Callable[[int], object]
) -> Generator[Entry, None, None]:
    if ray is not None:
        from fdsl.export.ray_cluster import write_on_ray

        for entry in write_on_ray(export.write, shards, None if ray == "local" else ray):
            drew(entry["pictures"])
            yield entry
    elif min(workers, len(shards)) > 1:
        yield from write_in_processes(export.write, shards, workers, drew)
    else:
        for shard in shards:
            yield export.write(shard, drew)


def _report(plan: ShardPlan, manifest: dict[str, Any] | None, drawn: int) -> ExportReport:
    entries = manifest["shards"] if manifest else []
    size = sum(entry["bytes"] for entry in entries)
    return ExportReport(len(plan.pictures.dataset), len(plan), size, drawn, len(plan) - len(entries))
