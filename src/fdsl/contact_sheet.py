"""Contact sheets: many pictures of a dataset at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fdsl.compositions import Target
from fdsl.datasets import Dataset, Images, pil_image

if TYPE_CHECKING:
    from PIL import Image

_GROUND, _NUMBER_COLOR, _DETAIL_COLOR = (38, 40, 46), (236, 237, 240), (150, 154, 164)
_GUTTER, _MARGIN = 3, 12


def contact_sheet(dataset: Dataset, categories: int | Sequence[int] = 10, instances: int = 8) -> Image.Image:
    """Pictures of a dataset in rows of a category and columns of an instance, their pixel values as they are.

    Args:
        dataset: what to show, at the size of its spec; epoch 0 of a view.
        categories: the first so many of the catalog, or which ones.
        instances: how many, spread evenly over those of the dataset; all of them where there are fewer.

    Returns:
        An RGB image, labelled with class names and instance numbers (fractaldb: with weight row, pattern and flip).
        Dense labels are drawn into the pictures: masks in colours, and boxes.

    Raises:
        ValueError: there is nothing to show, or the sheet would have over 2^28 pixels.
        IndexError: a category is not in the catalog.

    Example:
        >>> contact_sheet(dataset, categories=range(5), instances=4).save("sheet.png")
    """
    from PIL import Image, ImageDraw, ImageFont

    rows = list(range(min(categories, len(dataset.catalog))) if isinstance(categories, int) else categories)
    places = np.unique(np.linspace(0, len(dataset.instances) - 1, max(0, instances)).round().astype(np.int64)).tolist()
    if not rows or not places:
        raise ValueError(f"a sheet of {len(rows)} categories x {len(places)} instances; expected at least one of each")
    for category in rows:
        if not 0 <= category < len(dataset.catalog):
            raise IndexError(f"category {category} is out of range for a catalog of {len(dataset.catalog):,}")

    size = dataset.spec.size
    text_size = min(22, max(11, size // 9))
    font, small = ImageFont.load_default(text_size), ImageFont.load_default(max(9, text_size * 4 // 5))
    names = dataset.classes
    step = size + _GUTTER
    left = _MARGIN + round(max(font.getlength(names[category]) for category in rows)) + text_size
    top = _MARGIN + 3 * text_size
    shape = (left + len(places) * step - _GUTTER + _MARGIN, top + len(rows) * step - _GUTTER + _MARGIN)
    if shape[0] * shape[1] > 2**28:
        raise ValueError(f"the sheet would have {shape[0]:,} x {shape[1]:,} pixels; expected fewer or smaller pictures")

    sheet = Image.new("RGB", shape, _GROUND)
    draw = ImageDraw.Draw(sheet)
    for column, place in enumerate(places):
        middle = left + column * step + size / 2
        number = int(dataset.instances[place])
        draw.text((middle, _MARGIN), f"{number}", _NUMBER_COLOR, font, "ma")
        detail = next((text for text in _details(dataset, number) if small.getlength(text) <= size), "")
        draw.text((middle, _MARGIN + 1.4 * text_size), detail, _DETAIL_COLOR, small, "ma")
    for row, category in enumerate(rows):
        y = top + row * step
        draw.text((left - text_size / 2, y + size / 2), names[category], _NUMBER_COLOR, font, "rm")
        images, labels = dataset.batch(category * len(dataset.instances) + np.array(places))
        for column, (image, label) in enumerate(zip(images, labels, strict=True)):
            picture = _with_labels(image, label) if dataset.labels else pil_image(image)
            sheet.paste(picture, (left + column * step, y))
    return sheet


def _with_labels(pixels: Images, target: Target) -> Image.Image:
    """A composed picture with its masks tinted and its boxes drawn, a hue to each object."""
    from PIL import ImageColor, ImageDraw

    shown = np.array(pil_image(pixels).convert("RGB"))
    count = max(map(len, target.values()))
    colors = [ImageColor.getrgb(f"hsv({360 * i // count}, 70%, 100%)") for i in range(count)]
    for mask, color in zip(target.get("masks", ()), colors, strict=False):
        shown[mask == 1] = color
    picture: Image.Image = pil_image(shown.transpose(2, 0, 1))
    draw = ImageDraw.Draw(picture)
    for (left, top, right, bottom), color in zip(target.get("boxes", ()), colors, strict=False):
        draw.rectangle((left, top, right - 1, bottom - 1), outline=color)
    return picture


def _details(dataset: Dataset, number: int) -> list[str]:
    """What an instance number stands for, the longest wording first."""
    numbering = dataset.numbering(number)
    words, letters = (
        [f"{name} {value}" for name, value in numbering.items()],
        [f"{name[0]}{value}" for name, value in numbering.items()],
    )
    return [", ".join(words), " ".join(letters), "/".join(map(str, numbering.values()))]
