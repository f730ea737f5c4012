"""Shards as tar files, as the package webdataset reads them: KEY.png and KEY.cls, one after the other."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from fdsl.export.shards import Picture

_BLOCK = tarfile.BLOCKSIZE
# A header of the POSIX format whose name, size and checksum are to be filled in: tarfile takes 20 times as long.
_HEADER = bytearray(tarfile.TarInfo().tobuf(tarfile.USTAR_FORMAT))
_HEADER[124:135] = bytes(11)
_HEADER[148:156] = b" " * 8
_HEADER_SUM = sum(_HEADER)


def write_tar(file: Path, pictures: Iterable[Picture], suffix: str) -> None:
    """Writes a tar file: of each picture NAME and the suffix, and NAME.cls with its label.

    Everything in a header is fixed but name and size: mode 0644, user, group and time 0.

    Raises:
        ValueError: a name is too long for the format, or has a dot, which would end webdataset's key.
    """
    with open(file, "wb", 1 << 20) as tar:
        written = 0
        for picture in pictures:
            if "." in picture.name:
                raise ValueError(f"the name {picture.name!r} has a dot; expected none, for webdataset's keys")
            label = b"%d" % picture.label
            member = b"".join(
                (
                    tar_header(picture.name + suffix, len(picture.content)),
                    picture.content,
                    bytes(-len(picture.content) % _BLOCK),
                    tar_header(picture.name + ".cls", len(label)),
                    label,
                    bytes(_BLOCK - len(label)),
                )
            )
            written += tar.write(member)
        # The end: two empty blocks, filled up to a record.
        tar.write(bytes(2 * _BLOCK + -(written + 2 * _BLOCK) % tarfile.RECORDSIZE))


def tar_header(name: str, size: int) -> bytes:
    """The header of a file of that size.

    >>> tar_header("a.png", 5) == tarfile.TarInfo("a.png").tobuf(tarfile.USTAR_FORMAT)
    False
    >>> tar_header("a.png", 0) == tarfile.TarInfo("a.png").tobuf(tarfile.USTAR_FORMAT)
    True
    """
    written = name.encode()
    if len(written) > tarfile.LENGTH_NAME or size >= 8**11:
        raise ValueError(f"{name!r} of {size} bytes does not fit a tar header; expected 100 letters and 8 GiB at most")
    header, digits = _HEADER.copy(), b"%011o" % size
    header[: len(written)] = written
    header[124:135] = digits
    header[148:156] = b"%06o\0 " % (_HEADER_SUM + sum(written) + sum(digits))
    return bytes(header)


def read_tar(file: Path) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the pictures in a tar file.

    Raises:
        tarfile.TarError: it is damaged.
    """
    with tarfile.open(file, "r:") as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content is not None and not member.name.endswith(".cls"):
                yield member.name, content.read()
