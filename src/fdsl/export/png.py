"""Pictures as PNG."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fdsl.datasets import Images, pil_image

if TYPE_CHECKING:
    from PIL.Image import Image


def compact_image(pixels: Images, palette: NDArray[np.uint8]) -> Image:
    """A PIL image of pixels uint8 (channels, H, W), drawn with a dataset's palette uint8 (N, channels).

    One of two values has a palette of two colours, and so one bit a pixel in its file; it decodes to the same values.

    >>> compact_image(dataset[0][0], dataset.palette).mode
    'P'
    """
    import PIL.Image

    if len(palette) > 2:
        whole: Image = pil_image(pixels)
        return whole
    image: Image = PIL.Image.frombytes("P", pixels.shape[:0:-1], (pixels[0] != palette[0, 0]).tobytes())
    image.putpalette(palette.repeat(3 // palette.shape[1], axis=1).tobytes())
    return image


def png_bytes(image: Image) -> bytes:
    """The bytes of a PNG file; Pillow's own writer reports a full disk as "encoder error -2"."""
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
