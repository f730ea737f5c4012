"""A category's pictures as a folder of files, as torchvision.datasets.ImageFolder reads them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from fdsl.export.shards import Picture


def write_category(folder: Path, pictures: Iterable[Picture], suffix: str) -> tuple[int, str]:
    """Writes files into a folder that is there: NAME and the suffix; returns what `category_digest` does."""
    return _digest(_write(folder, pictures, suffix))


def read_category(folder: Path) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the files of a folder, in the order of their names."""
    for file in sorted(folder.iterdir()):
        yield file.name, file.read_bytes()


def category_digest(folder: Path) -> tuple[int, str]:
    """The bytes of a folder's files, and the sha256 hex of what `sha256sum *` prints there: "DIGEST  NAME" a file."""
    return _digest(read_category(folder))


def _write(folder: Path, pictures: Iterable[Picture], suffix: str) -> Iterator[tuple[str, bytes]]:
    for picture in pictures:
        # Names of a mix start with the class, which here is the folder.
        name = f"{picture.name.rpartition('/')[2]}{suffix}"
        (folder / name).write_bytes(picture.content)
        yield name, picture.content


def _digest(files: Iterable[tuple[str, bytes]]) -> tuple[int, str]:
    size, digest = 0, hashlib.sha256()
    for name, content in files:
        size += len(content)
        digest.update(f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode())
    return size, digest.hexdigest()
