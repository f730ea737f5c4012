"""Contact sheets: many pictures of a dataset at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fdsl.compositions import Target
from fdsl.datasets import Dataset, Images, IndexedPictures, pil_image

if TYPE_CHECKING:
    from PIL import Image

_GROUND, _NUMBER_COLOR, _DETAIL_COLOR = (38, 40, 46), (236, 237, 240), (150, 154, 164)
_GUTTER, _MARGIN = 3, 12


def contact_sheet(dataset: IndexedPictures, categories: int | Sequence[int] = 10, instances: int = 8) -> Image.Image:
    """Pictures of a dataset in rows of a category and columns of an instance, their pixel values as they are.

    Args:
        dataset: what to show, at the size of its spec; epoch 0 of a view.
        categories: the first so many, or which ones, by label.
        instances: how many, spread evenly over those of the dataset; all of them where there are fewer. Of a mix, those
            of the part that a row is of; numbers are shown where all rows have the same.

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

    names, size = dataset.classes, dataset.spec.size
    rows = list(range(min(categories, len(names))) if isinstance(categories, int) else categories)
    if not rows or instances < 1:
        raise ValueError(f"a sheet of {len(rows)} categories x {instances} instances; expected at least one of each")
    for category in rows:
        if not 0 <= category < len(names):
            raise IndexError(f"category {category} is out of range for a catalog of {len(names):,}")
    parts = [dataset.part_of(category) for category in rows]
    places = [
        np.unique(np.linspace(0, len(part.instances) - 1, instances).round().astype(np.int64)) for part, _ in parts
    ]
    columns = max(map(len, places))
    text_size = min(22, max(11, size // 9))
    font, small = ImageFont.load_default(text_size), ImageFont.load_default(max(9, text_size * 4 // 5))
    step = size + _GUTTER
    left = _MARGIN + round(max(font.getlength(names[category]) for category in rows)) + text_size
    top = _MARGIN + 3 * text_size
    shape = (left + columns * step - _GUTTER + _MARGIN, top + len(rows) * step - _GUTTER + _MARGIN)
    if shape[0] * shape[1] > 2**28:
        raise ValueError(f"the sheet would have {shape[0]:,} x {shape[1]:,} pixels; expected fewer or smaller pictures")

    sheet = Image.new("RGB", shape, _GROUND)
    draw = ImageDraw.Draw(sheet)
    shown = [np.asarray(part.instances)[at].tolist() for (part, _), at in zip(parts, places, strict=True)]
    alike = len({(part.catalog.family, *numbers) for (part, _), numbers in zip(parts, shown, strict=True)}) == 1
    for column, number in enumerate(shown[0] if alike else []):
        middle = left + column * step + size / 2
        draw.text((middle, _MARGIN), f"{number}", _NUMBER_COLOR, font, "ma")
        detail = next((text for text in _details(parts[0][0], number) if small.getlength(text) <= size), "")
        draw.text((middle, _MARGIN + 1.4 * text_size), detail, _DETAIL_COLOR, small, "ma")
    for row, (part, own) in enumerate(parts):
        y = top + row * step
        draw.text((left - text_size / 2, y + size / 2), names[rows[row]], _NUMBER_COLOR, font, "rm")
        images, labels = part.batch(own * len(part.instances) + places[row])
        for column, (image, label) in enumerate(zip(images, labels, strict=True)):
            picture = _with_labels(image, label) if part.labels else pil_image(image)
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
    words = ", ".join(f"{name} {value}" for name, value in numbering.items())
    letters = " ".join(f"{name[0]}{value}" for name, value in numbering.items())
    return [words, letters, "/".join(map(str, numbering.values()))]
