"""`imagefolder:FOLDER`: files in a folder for each class, as torchvision's ImageFolder has them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fdsl.progress import Progress
from fdsl.train.recipes import Data
from fdsl.train.stored import FilesIn, IndexedFiles, StoredSource, keyed_share

# torchvision's.
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


def open_folder(data: Data, *, progress: Progress | None = None, skip_corrupt: bool = False) -> StoredSource:
    """The pictures of a folder; see `open_source`.

    Where it holds `train` and beside it `val` (or `test`), that is what is held out, whatever `data.held_out`. Else
    `data.held_out` is the share of files that are, each by its name and `data.seed`: a file that is added later moves
    no other. Hidden folders are no classes.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: it has no pictures, or one class; a class has none; the two parts have other classes.
    """
    folder = Path(data.source.removeprefix("imagefolder:")).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; expected one that holds a folder for each class")
    other = next((folder / name for name in ("val", "test") if (folder / name).is_dir()), None)
    if other is not None and (folder / "train").is_dir():
        train, held_out = _listed(folder / "train", progress), _listed(other, progress)
        if train.classes != held_out.classes:
            odd = sorted(set(train.classes) ^ set(held_out.classes))[0]
            raise ValueError(f"{folder}: class {odd!r} is in train or in {other.name} alone; expected both to have it")
        content = [train.digest, held_out.digest]
        return StoredSource(data, train.classes, content, train.files(), held_out.files(), skip_corrupt=skip_corrupt)
    whole = _listed(folder, progress)
    files = whole.files()
    if not data.held_out:
        return StoredSource(data, whole.classes, [whole.digest], files, None, skip_corrupt=skip_corrupt)
    apart = np.array([keyed_share(data.seed, name) < data.held_out for name in whole.names])
    if apart.all() or not apart.any():
        raise ValueError(
            f"held_out is {data.held_out} of {len(apart)} files, which leaves one part empty; expected more files"
        )
    parts = (files.chosen(np.flatnonzero(~apart)), files.chosen(np.flatnonzero(apart)))
    return StoredSource(data, whole.classes, [whole.digest], *parts, skip_corrupt=skip_corrupt)


@dataclass(frozen=True)
class _Listing:
    """The files of a folder, by class and name; the digest is of their names and sizes."""

    folder: Path
    classes: list[str]
    names: list[str]
    labels: NDArray[np.int64]
    digest: str

    def files(self) -> IndexedFiles:
        return IndexedFiles(
            FilesIn(self.folder, self.names), self.labels, lambda row: str(self.folder / self.names[row])
        )


def _listed(folder: Path, progress: Progress | None) -> _Listing:
    classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    names, counts, digest = list[str](), list[int](), hashlib.sha256()
    for done, name in enumerate(classes):
        before = len(names)
        for place, _, files in sorted(os.walk(folder / name, followlinks=True)):
            for file in sorted(files):
                if file.lower().endswith(SUFFIXES):
                    path = Path(place, file)
                    names.append(path.relative_to(folder).as_posix())
                    digest.update(f"{names[-1]} {path.stat().st_size}\n".encode())
        counts.append(len(names) - before)
        if progress:
            progress(f"listing {folder}", done + 1, len(classes))
    if not names:
        raise ValueError(f"{folder} has no pictures; expected a folder for each class, with {', '.join(SUFFIXES)}")
    if 0 in counts:
        raise ValueError(f"{folder / classes[counts.index(0)]} has no pictures; expected some of each class")
    return _Listing(folder, classes, names, np.repeat(np.arange(len(classes)), counts), digest.hexdigest())
