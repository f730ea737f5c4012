"""PNG files (https://www.w3.org/TR/png-3/), written in less than half of the time that Pillow takes, and smaller."""

from __future__ import annotations

import zlib
from struct import pack

import numpy as np
from numpy.typing import NDArray

from fdsl.datasets import Images

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GRAY, _COLOR, _PALETTE = 0, 2, 3
_UNFILTERED, _STEPS = 0, 1
# Pixels of a picture of two values from which its runs alone are under half of what was published, in half the time.
_FEW_PIXELS = 256 * 256


def png_bytes(pixels: Images, palette: NDArray[np.uint8] | None = None) -> bytes:
    """The bytes of a PNG file that decodes to the same values.

    A picture of two values takes one bit a pixel and has a palette of two colours; one of grays takes a byte a pixel,
    in three equal channels too; any other takes three. The bytes are the same for the same version of zlib.

    Args:
        pixels: uint8 (1 or 3, H, W).
        palette: uint8 (N, 1 or 3), what a pixel can hold; None where that is not known.

    >>> Path("picture.png").write_bytes(png_bytes(dataset[0][0], dataset.palette))
    1907
    """
    channels, height, width = pixels.shape
    chunks, depth, form = b"", 8, _GRAY
    if palette is not None and len(palette) == 2:
        depth, form = 1, _PALETTE
        chunks = _chunk(b"PLTE", palette.repeat(3 // channels, axis=1).tobytes())
        differing = int(np.argmax(palette[0] != palette[1]))
        rows = np.packbits(pixels[differing] != palette[0, differing], axis=1)
        level, strategy = (5, zlib.Z_FILTERED) if height * width < _FEW_PIXELS else (1, zlib.Z_RLE)
    else:
        level, strategy = 4, zlib.Z_DEFAULT_STRATEGY
        rows = pixels[0]
        if channels == 3 and (palette is None or (palette != palette[:, :1]).any()):
            form, rows = _COLOR, pixels.transpose(1, 2, 0).reshape(height, 3 * width)
    lines = np.empty((height, 1 + rows.shape[1]), np.uint8)
    lines[:, 0], lines[:, 1:] = _UNFILTERED, rows
    if depth == 8:
        # Smooth pictures, of noise: most pixels that differ from their left neighbour differ by little.
        pixel = channels if form == _COLOR else 1
        steps = lines[:, 1 + pixel :] - lines[:, 1:-pixel]
        if 2 * np.count_nonzero(steps + np.uint8(8) < 17) > steps.size + np.count_nonzero(steps == 0):
            lines[:, 0], lines[:, 1 + pixel :], strategy = _STEPS, steps, zlib.Z_FILTERED
    deflate = zlib.compressobj(level, strategy=strategy)
    chunks += _chunk(b"IDAT", deflate.compress(lines.data) + deflate.flush())
    header = _chunk(b"IHDR", pack(">2I5B", width, height, depth, form, 0, 0, 0))
    return _SIGNATURE + header + chunks + _chunk(b"IEND", b"")


def _chunk(name: bytes, content: bytes) -> bytes:
    return pack(">I", len(content)) + name + content + pack(">I", zlib.crc32(content, zlib.crc32(name)))
