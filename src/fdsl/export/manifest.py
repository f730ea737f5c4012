"""What an export is and has: the manifest of a complete one, the working folder of an unfinished one."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import importlib.metadata
import json
import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fdsl
from fdsl.export.shards import ShardPlan
from fdsl.indexing import canonical_instances
from fdsl.whole_files import whole_or_nothing

MANIFEST = "manifest.json"
WORKING = ".fdsl-export"
# What is known of a shard that is there: name, pictures, bytes, pixels and sha256.
Entry = dict[str, Any]


def identity(plan: ShardPlan) -> dict[str, Any]:
    """All that decides the bytes of an export, in terms of JSON, and what it was drawn from."""
    pictures = plan.pictures
    return {
        "to": plan.layout,
        "encoding": plan.encoding,
        "order": plan.order,
        "shuffle_seed": plan.shuffle_seed,
        "shard_size": plan.shard_size,
        "dataset": pictures.dataset.digest,
        "pictures": len(pictures.dataset),
        "classes": pictures.classes,
        "channels": pictures.dataset.spec.image_channels,
        "parts": [
            {
                "family": part.catalog.family,
                "catalog": part.catalog.digest,
                "categories": len(part.catalog),
                "instances": canonical_instances(part.instances),
                "fresh": part.fresh,
                "seed": part.seed,
                "spec": json.loads(part.spec.canonical()),
            }
            for part in pictures.parts
        ],
        "versions": _versions(plan),
    }


def check_same(folder: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raises a ValueError that names the first field in which what a folder holds is not what is to be exported."""
    there, here = _fields(found), _fields(wanted)
    for name in sorted(there.keys() | here.keys(), key=[*here, *there].index):
        if there.get(name) != here.get(name):
            raise ValueError(
                f"{folder} holds an export with {name} {there.get(name)!r}, and this one has {here.get(name)!r}; "
                "expected the same, or another folder"
            )


def load_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a complete export; None where there is none.

    Raises:
        ValueError: it is damaged.
    """
    return _load(folder / MANIFEST)


class WorkingFolder:
    """What an unfinished export keeps in a folder of its own, beside its complete shards.

    plan.json says what is exported, SHARD.json is the entry of a shard, and what is being written has a temporary name
    and a lock, by which others see that its writer lives. A shard is complete where it has an entry, which comes first,
    and its own name. It needs no reading: what was killed at any moment goes on from what is there.

    Args:
        folder: of the export.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / WORKING

    def open(self, wanted: dict[str, Any], names: Sequence[str]) -> None:
        """Makes the folder, or goes on in it, and removes what killed processes left unfinished.

        Raises:
            FileExistsError: it holds what is no part of such an export.
            ValueError: it holds another export.
            OSError: it cannot be written.
        """
        plan = self.path / "plan.json"
        found = _load(plan)
        if found is None:
            self._check_empty(())
        else:
            check_same(self.folder, found, wanted)
            self._check_empty(names)
        self.path.mkdir(parents=True, exist_ok=True)
        if found is None:
            with whole_or_nothing(plan) as temporary:
                temporary.write_text(json.dumps(wanted), encoding="ascii")
            check_same(self.folder, _load(plan) or {}, wanted)  # another process may have come at the same moment
        self.remove_stale()

    def reopen(self, manifest: dict[str, Any]) -> None:
        """Makes a complete export an unfinished one, with the entries of its manifest."""
        self.path.mkdir(exist_ok=True)
        for entry in manifest["shards"]:
            self.add(entry)
        with whole_or_nothing(self.path / "plan.json") as temporary:
            temporary.write_text(json.dumps({name: manifest[name] for name in manifest if name != "shards"}))
        (self.folder / MANIFEST).unlink(missing_ok=True)  # another rank may do the same

    def entry(self, name: str) -> Entry | None:
        """The entry of a shard that is complete, else None."""
        entry = _load(self.path / f"{name}.json")
        try:
            found = (self.folder / name).stat()
        except FileNotFoundError:
            return None
        # A file that a power cut left short is not complete.
        return entry if entry and (not os.path.isfile(self.folder / name) or found.st_size == entry["bytes"]) else None

    def add(self, entry: Entry) -> None:
        """Keeps an entry; the shard gets its name afterwards."""
        with whole_or_nothing(self.path / f"{entry['name']}.json") as temporary, open(temporary, "w") as file:
            json.dump(entry, file)
            file.flush()
            os.fsync(file.fileno())

    @contextlib.contextmanager
    def shard(self, name: str, is_folder: bool) -> Iterator[Path]:
        """A locked name to write a shard to, which gets its own at the end, on the disk, or is removed."""
        with contextlib.ExitStack() as to_the_end:
            with whole_or_nothing(self.folder / name, self.path) as temporary:
                # Locked before it has the name by which others may find it stale.
                new = temporary.with_suffix(".new")
                new.mkdir() if is_folder else new.touch()
                to_the_end.enter_context(_locked(new))
                new.rename(temporary)
                yield temporary
                _to_disk(temporary, with_files=is_folder)
                if is_folder and (self.folder / name).exists():  # its entry was lost in a power cut
                    os.replace(self.folder / name, self.path / f".{name}.lost.partial")
            _to_disk(self.folder)

    def remove_stale(self) -> None:
        """Removes unfinished shards whose writers have ended, however they ended."""
        for unfinished in self.path.glob(".*.partial"):
            if unfinished.suffixes[-3:-2] == [".json"]:
                continue  # an entry, written without a lock in no time: another process may be at it
            with contextlib.suppress(OSError), _locked(unfinished, wait=False):
                shutil.rmtree(unfinished) if unfinished.is_dir() else unfinished.unlink()

    def finish(self, wanted: dict[str, Any], entries: Sequence[Entry]) -> None:
        """Writes the manifest, and removes the working folder."""
        lines = ",\n".join(f"    {json.dumps(entry)}" for entry in entries)
        text = f'{json.dumps(wanted, indent=2)[:-2]},\n  "shards": [\n{lines}\n  ]\n}}\n'
        with whole_or_nothing(self.folder / MANIFEST, self.path) as temporary:
            temporary.write_text(text, encoding="ascii")
            _to_disk(temporary)
        self.remove()

    def remove(self) -> None:
        """Removes what a complete export needs no more."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _check_empty(self, but: Sequence[str]) -> None:
        if not self.folder.exists():
            return
        expected = {*but, WORKING}
        for name in os.listdir(self.folder):
            if name not in expected:
                what = "nothing but this export there" if but else "a new or an empty folder"
                raise FileExistsError(f"{self.folder} holds {name}; expected {what}")


def _fields(content: dict[str, Any]) -> dict[str, Any]:
    """What must be the same when an export goes on: what says the most first, and digests last."""
    fields = {name: content.get(name) for name in ("to", "encoding", "order", "shuffle_seed", "shard_size")}
    parts = content.get("parts", [])
    for number, part in enumerate(parts):
        before = f"parts[{number}]." if len(parts) > 1 else ""
        drawn = part | part["spec"]
        fields |= {before + name: drawn[name] for name in drawn if name not in ("spec", "catalog")}
        fields[f"{before}catalog"] = part["catalog"]
    return fields | {"dataset": content.get("dataset"), "versions": content.get("versions")}


def _load(file: Path) -> dict[str, Any] | None:
    try:
        loaded: dict[str, Any] = json.loads(file.read_text(encoding="ascii"))
    except FileNotFoundError:
        return None
    except ValueError:
        raise ValueError(f"{file} is damaged; expected JSON that fdsl export wrote") from None
    return loaded


@contextlib.contextmanager
def _locked(path: Path, wait: bool = True) -> Iterator[None]:
    """Holds the lock of a file or folder, which the system frees when its process ends, however it ends."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            # Some network file systems have no locks: what is stale there stays until the export is complete.
            if not wait:
                raise
        yield
    finally:
        os.close(descriptor)


def _to_disk(path: Path, with_files: bool = False) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        # A thousand files of a folder at once: one by one they take longer than drawing them.
        if with_files and ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(descriptor)


def _versions(plan: ShardPlan) -> dict[str, str]:
    """Of the libraries that decide the bytes of the files."""
    names: tuple[str, ...] = {"png": (), "webp": ("pillow",), "raw": ("numpy",)}[plan.encoding]
    if plan.layout == "parquet":
        names += ("pyarrow",)
    versions = {name: importlib.metadata.version(name) for name in names}
    if plan.encoding == "png":
        versions["zlib"] = zlib.ZLIB_RUNTIME_VERSION
    if plan.encoding == "webp":
        from PIL import features

        versions["libwebp"] = str(features.version("webp"))
    return {"fdsl": fdsl.__version__, **versions}
