"""Pictures as PNG."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from fdsl.datasets import Images, pil_image
from fdsl.rendering import RenderSpec

if TYPE_CHECKING:
    from PIL.Image import Image


def compact_image(pixels: Images, spec: RenderSpec) -> Image:
    """A PIL image of pixels uint8 (channels, H, W) that a spec drew.

    One of two values has a palette of two colours, and so one bit a pixel in its file; it decodes to the same values.

    >>> compact_image(dataset[0][0], dataset.spec).mode
    'P'
    """
    import PIL.Image

    palette = spec.palette
    if len(palette) > 2:
        whole: Image = pil_image(pixels)
        return whole
    image: Image = PIL.Image.frombytes("P", (spec.size, spec.size), (pixels[0] != 0).tobytes())
    image.putpalette(palette.repeat(3 // palette.shape[1], axis=1).tobytes())
    return image


def png_bytes(image: Image) -> bytes:
    """The bytes of a PNG file; Pillow's own writer reports a full disk as "encoder error -2"."""
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
