"""Whether an export is what its manifest says: every file is read back and decoded."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fdsl.engines.cpu import default_threads
from fdsl.export.category_folders import category_digest, read_category
from fdsl.export.encodings import SUFFIXES, decode
from fdsl.export.manifest import MANIFEST, WORKING, Entry, load_manifest
from fdsl.export.parquet_shards import read_parquet
from fdsl.export.processes import write_in_processes
from fdsl.export.tar_shards import read_tar
from fdsl.progress import Progress
from fdsl.whole_files import file_digest


@dataclass(frozen=True)
class VerifyReport:
    """What reading an export back came to.

    Args:
        pictures: of all shards, by the manifest.
        shards: of the export.
        problems: a line for each shard that is damaged or missing, and for each file or folder that is unexpected.
    """

    pictures: int
    shards: int
    problems: list[str]


def verify_export(
    folder: str | os.PathLike[str], workers: int | None = None, progress: Progress | None = None
) -> VerifyReport:
    """Reads and decodes every file of a complete export, and compares digests of files and pixels with the manifest.

    Args:
        folder: where it is.
        workers: processes that read; None is one for each processor.
        progress: called with (what, done, total), counting pictures.

    Raises:
        FileNotFoundError: there is no manifest: the export is not complete.
        ValueError: the manifest is damaged.
        RuntimeError: a worker was killed.

    >>> verify_export("shards").problems
    []
    """
    root = Path(folder).resolve()
    manifest = load_manifest(root)
    if manifest is None:
        left = "the export is not complete; " if (root / WORKING).is_dir() else ""
        raise FileNotFoundError(f"{root} holds no {MANIFEST}; {left}expected a complete export")
    entries: list[Entry] = manifest["shards"]
    total, done = sum(entry["pictures"] for entry in entries), 0

    def read(count: int) -> None:
        nonlocal done
        done += count
        if progress:
            progress("verifying", done, total)

    known = {MANIFEST, *(entry["name"] for entry in entries)}
    problems = {name: f"{name} is unexpected" for name in os.listdir(root) if name not in known}
    reader = _ShardReader(root, manifest)
    workers = min(workers or default_threads(), len(entries))
    if workers > 1:
        found: Iterator[tuple[str, str]] = write_in_processes(reader.problems, range(len(entries)), workers, read)
    else:
        found = map(partial(reader.problems, read=read), range(len(entries)))
    for name, wrong in found:
        if wrong:
            problems[name] = f"{name}: {wrong}"
    return VerifyReport(total, len(entries), [problems[name] for name in sorted(problems)])


@dataclass(frozen=True)
class _ShardReader:
    root: Path
    manifest: dict[str, Any]

    def problems(self, shard: int, read: Callable[[int], object]) -> tuple[str, str]:
        """The name of a shard, and what is wrong with it, if anything."""
        entry = self.manifest["shards"][shard]
        path = self.root / entry["name"]
        try:
            return entry["name"], "; ".join(self._problems(path, entry))
        finally:
            read(entry["pictures"])

    def _problems(self, path: Path, entry: Entry) -> Iterator[str]:
        layout, encoding = self.manifest["to"], self.manifest["encoding"]
        if not path.exists():
            yield "missing"
            return
        if path.is_dir() != (layout == "folder"):
            yield f"expected a {'folder' if layout == 'folder' else 'file'}"
            return
        readers = {"folder": read_category, "webdataset": read_tar, "parquet": read_parquet}
        pixels, count, name = hashlib.sha256(), 0, ""
        try:
            size, digest = category_digest(path) if path.is_dir() else (path.stat().st_size, file_digest(path))
            for name, content in readers[layout](path):
                if not name.endswith(SUFFIXES[encoding]):
                    yield f"{name} is unexpected"
                    continue
                count += 1
                pixels.update(decode(content, encoding, self.manifest["channels"]).data)
                name = ""
        except Exception as error:  # of any decoder
            where = f" at {name}" if name else ""
            yield f"cannot be read{where} ({' '.join(f'{type(error).__name__}: {error}'.split())})"
            return
        for what, found in (("pictures", count), ("bytes", size), ("pixels", pixels.hexdigest()), ("sha256", digest)):
            if found != entry[what]:
                yield f"{what} {str(found)[:12]}, {str(entry[what])[:12]} in the manifest"
