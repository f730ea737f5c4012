"""A folder of PNG files, named as the published ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fdsl.datasets import IndexedPictures
from fdsl.export.png import png_bytes
from fdsl.progress import Progress
from fdsl.whole_files import whole_folder

_BATCH_BYTES = 16 << 20


def export_folder(
    dataset: IndexedPictures, folder: Path, categories: Sequence[int], progress: Progress | None = None
) -> None:
    """Draws the pictures of some categories into a folder that appears when it is complete.

    A picture is CATEGORY/NAME.png, named as the family's published code names it (fractaldb:
    CATEGORY_WW_count_P_flipF.png with weight row, pattern and flip); where instances are drawn continuously,
    CATEGORY/CATEGORY_instance_N.png.

    Args:
        dataset: what to draw; epoch 0 of a view. Of a mix, the samples of its parts, whatever the weights.
        folder: does not exist, or is empty.
        categories: which classes, by label.
        progress: called with (what, done, total).

    Raises:
        OSError: it cannot be written; nothing is left behind.
        ValueError: the dataset has dense labels, which a folder of each class cannot hold.

    >>> export_folder(dataset, Path("pictures"), categories=range(10))
    """
    if dataset.labels:
        raise ValueError(f"labels is {dataset.labels!r}; expected 'class' for folders of classes, or export_coco")
    names = dataset.classes
    total = sum(len(dataset.part_of(category)[0].instances) for category in categories)
    at_once, done = max(1, _BATCH_BYTES // (3 * dataset.spec.size**2)), 0
    with whole_folder(folder) as temporary:
        for category in categories:
            here = temporary / names[category]
            here.mkdir()
            part, own = dataset.part_of(category)
            count = len(part.instances)
            for start in range(0, count, at_once):
                numbers = part.instances[start : start + at_once]
                first = own * count + start
                images, _ = part.batch(range(first, first + len(numbers)))
                for number, pixels in zip(numbers, images, strict=True):
                    name = f"{part.file_name(own, int(number))}.png"
                    (here / name).write_bytes(png_bytes(pixels, part.palette))
                done += len(numbers)
                if progress:
                    progress("drawing", done, total)
