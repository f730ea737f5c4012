"""The pictures that a network is shown while its attention is read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fdsl.presets import is_catalog
from fdsl.progress import Progress

if TYPE_CHECKING:
    from fdsl.train.recipes import Data

# As many as the ViT paper averages over.
PICTURES = 128
_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Pictures:
    """Pictures, and what they are.

    Args:
        pixels: uint8 (B, C, size, size).
        origin: in words.
    """

    pixels: NDArray[np.uint8]
    origin: str


def pictures_from(
    images: Sequence[str | os.PathLike[str]],
    channels: int,
    size: int,
    own: Data | None = None,
    progress: Progress | None = None,
) -> Pictures:
    """At most 128 pictures, in the size of a network's input.

    Args:
        images: picture files, folders of them (their folders too; of many pictures an even choice), or one catalog:
            what `fdsl.catalog` takes, drawn as its family is by default. A file is scaled until it covers the square,
            and its middle is kept. None at all: those of `own`, and without that, random noise.
        channels: 1 or 3.
        own: the data that a network was trained on.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: a file is no picture, or a folder holds none.

    >>> pictures_from(["photos", "cat.jpg"], channels=3, size=224).pixels.shape
    (17, 3, 224, 224)
    """
    catalogs = [str(name) for name in images if is_catalog(name)]
    if catalogs:
        if len(images) > 1:
            raise ValueError(f"images is {', '.join(map(str, images))}; expected one catalog, or files and folders")
        from fdsl.train.recipes import Data

        return _drawn(
            Data.model_validate({"source": catalogs[0], "size": size, "channels": channels}), catalogs[0], progress
        )
    if images:
        return _read(images, channels, size)
    if own is not None:
        shown = own.model_copy(update={"size": size, "channels": channels, "repeats": 1})
        return _drawn(shown, f"the run's own data, {own.source}", progress)
    noise = np.random.default_rng(0).integers(0, 256, (PICTURES, channels, size, size), dtype=np.uint8)
    return Pictures(noise, "random noise, as no pictures were given")


def _drawn(data: Data, origin: str, progress: Progress | None) -> Pictures:
    from fdsl.train.sources import open_source

    source = open_source(data, progress=progress)
    loader = source.train(min(PICTURES, source.images), "cpu", seed=0, rank=0, world_size=1)
    pixels, _ = next(iter(loader))
    return Pictures(pixels.numpy(), origin)


def _read(images: Sequence[str | os.PathLike[str]], channels: int, size: int) -> Pictures:
    from PIL import Image, ImageOps

    from fdsl.train.framing import converted

    files: list[Path] = []
    for path in map(Path, images):
        found = (
            sorted(file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES) if path.is_dir() else [path]
        )
        if not found:
            raise ValueError(f"{path} holds no picture; expected files in {', '.join(_SUFFIXES)}")
        files += found
    chosen = np.linspace(0, len(files) - 1, min(len(files), PICTURES)).round().astype(int)
    pixels = np.empty((len(chosen), channels, size, size), np.uint8)
    for place, number in enumerate(chosen):
        try:
            with Image.open(files[number]) as image:
                fitted = ImageOps.fit(converted(image, channels), (size, size), Image.Resampling.BICUBIC)
        except FileNotFoundError:
            raise
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"{files[number]} is no picture that Pillow reads: {error}") from None
        pixels[place] = np.asarray(fitted).reshape(size, size, channels).transpose(2, 0, 1)
    given = ", ".join(map(str, images))
    return Pictures(pixels, given if len(chosen) == len(files) else f"{given}: {PICTURES} of {len(files):,}")
