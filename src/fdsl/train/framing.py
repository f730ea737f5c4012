"""How a stored picture becomes the square that a network sees: decoded, resized, cut."""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fdsl.train.recipes import Data, View

# An encoded file (a .npy too), or pixels uint8 (C, H, W).
Content = bytes | NDArray[np.uint8]

_BICUBIC = Image.Resampling.BICUBIC
_ATTEMPTS = 10


def decoded(content: Content, channels: int) -> Image.Image:
    """The picture as `converted` has it.

    Raises:
        Exception: Pillow's, of many kinds, where it cannot be decoded.

    >>> decoded(np.zeros((3, 4, 5), np.uint8), channels=1).size
    (5, 4)
    """
    if isinstance(content, bytes) and content.startswith(b"\x93NUMPY"):
        content = np.load(io.BytesIO(content), allow_pickle=False)
    if isinstance(content, np.ndarray):
        pixels = content[0] if len(content) == 1 else content.transpose(1, 2, 0)
        image = Image.fromarray(np.ascontiguousarray(pixels))
    else:
        image = Image.open(io.BytesIO(content))
    return converted(image, channels)


def converted(image: Image.Image, channels: int) -> Image.Image:
    """The picture in gray (1 channel) or RGB (3), from whatever it is.

    >>> converted(Image.new("I;16", (5, 4), 65535), channels=1).getpixel((0, 0))
    255
    """
    if image.mode.startswith("I"):  # 16 bits a pixel, which a conversion would clip
        image = Image.fromarray((np.asarray(image) // 256).clip(0, 255).astype(np.uint8))
    return image.convert("L" if channels == 1 else "RGB")


class Framing:
    """The part of a picture that is seen, at random for training and in the middle for measuring.

    Resizing is Pillow's bicubic, whose filter widens where it shrinks, as in DeiT's code, which the papers fine-tune
    with. The random-resized-crop is torchvision's `RandomResizedCrop`, with numbers that a key decides.

    Args:
        data: its size, channels, crop_of and view.

    >>> framing = Framing(Data(size=24, view=View()))
    >>> image = decoded(np.zeros((3, 40, 50), np.uint8), channels=3)
    >>> framing.random(image, key=(0, 7, 0, 0)).shape, framing.central(image).shape
    ((3, 24, 24), (3, 24, 24))
    """

    def __init__(self, data: Data) -> None:
        self._size, self._crop_of, self._view = data.size, data.crop_of, data.view

    def random(self, image: Image.Image, key: tuple[int, ...]) -> NDArray[np.uint8]:
        """What training sees, uint8 (C, size, size): a pure function of the picture and the key."""
        size, view, generator = self._size, self._view, np.random.default_rng(key)
        if self._crop_of is not None:
            image = _resized(image, self._crop_of)
            left, top = (int(generator.integers(side - size + 1)) for side in image.size)
            return _pixels(image.crop((left, top, left + size, top + size)))
        if view is None:
            return self.central(image)
        if view.rotation:
            image = image.rotate(generator.uniform(-view.rotation, view.rotation), _BICUBIC)
        image = image.crop(random_box(image.size, view, generator)).resize((size, size), _BICUBIC)
        flipped = generator.random() < view.flip
        return _pixels(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flipped else image)

    def central(self, image: Image.Image) -> NDArray[np.uint8]:
        """What is measured, uint8 (C, size, size): the middle.

        The shorter side is resized to `crop_of`, else to 256 for each 224 pixels of the size, as published evaluations
        do; a picture that has the size already stays as it is.
        """
        size = self._size
        if self._crop_of is not None:
            image = _resized(image, self._crop_of)
        elif image.size != (size, size):
            image = _resized(image, 256 * size // 224)
        left, top = (round((side - size) / 2) for side in image.size)
        return _pixels(image.crop((left, top, left + size, top + size)))


def random_box(size: tuple[int, int], view: View, generator: np.random.Generator) -> tuple[int, int, int, int]:
    """The (left, top, right, bottom) that torchvision's `RandomResizedCrop.get_params` takes of a (width, height)."""
    width, height = size
    low, high = (math.log(end) for end in view.ratio)
    for _ in range(_ATTEMPTS):
        area = width * height * generator.uniform(*view.scale)
        ratio = math.exp(generator.uniform(low, high))
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            left, top = int(generator.integers(width - across + 1)), int(generator.integers(height - down + 1))
            return left, top, left + across, top + down
    # Nothing fits: the largest central part within the ratios.
    ratio = min(max(width / height, view.ratio[0]), view.ratio[1])
    across, down = min(width, round(height * ratio)), min(height, round(width / ratio))
    left, top = (width - across) // 2, (height - down) // 2
    return left, top, left + across, top + down


def _resized(image: Image.Image, shorter: int) -> Image.Image:
    width, height = image.size
    if min(width, height) == shorter:
        return image
    longer = int(shorter * max(width, height) / min(width, height))
    return image.resize((shorter, longer) if width <= height else (longer, shorter), _BICUBIC)


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
