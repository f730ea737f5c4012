"""Pictures as the bytes of a file, and back: a stand-in."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from fdsl.datasets import Images
from fdsl.export.png import compact_image, png_bytes

SUFFIXES = {"png": ".png", "webp": ".webp", "raw": ".npy"}


def encode(pixels: Images, palette: NDArray[np.uint8], encoding: str) -> bytes:
    """The bytes of a file."""
    if encoding == "png":
        return png_bytes(compact_image(pixels, palette))
    buffer = BytesIO()
    if encoding == "webp":
        compact_image(pixels, palette).convert("RGB").save(buffer, "WEBP", lossless=True)
    else:
        np.save(buffer, pixels)
    return buffer.getvalue()


def decode(content: bytes, encoding: str, channels: int) -> Images:
    """The pixels uint8 (C, H, W)."""
    import PIL.Image

    if encoding == "raw":
        raw: Images = np.load(BytesIO(content))
        return raw
    image = np.asarray(PIL.Image.open(BytesIO(content)).convert("RGB"))
    return np.ascontiguousarray(image.transpose(2, 0, 1)[:channels])
