"""Some categories of a dataset as a folder of PNG files, named as the published ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fdsl.datasets import IndexedPictures
from fdsl.export.category_folders import write_category
from fdsl.export.encodings import SUFFIXES
from fdsl.export.shards import FilePictures
from fdsl.progress import Progress
from fdsl.whole_files import whole_folder


def export_folder(
    dataset: IndexedPictures, folder: Path, categories: Sequence[int], progress: Progress | None = None
) -> None:
    """Draws the pictures of some categories into a folder that appears when it is complete.

    A picture is CATEGORY/NAME.png, named as the family's published code names it (fractaldb:
    CATEGORY_WW_count_P_flipF.png with weight row, pattern and flip); where instances are drawn continuously,
    CATEGORY/CATEGORY_instance_N.png. `export_dataset` writes all of a large dataset, and goes on where it was stopped.

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
    pictures = FilePictures(dataset)
    done, total = 0, sum(map(pictures.class_size, categories))

    def drew(count: int) -> None:
        nonlocal done
        done += count
        if progress:
            progress("drawing", done, total)

    with whole_folder(folder) as temporary:
        for category in categories:
            here = temporary / pictures.class_name(category)
            here.mkdir()
            drawn = pictures.encoded(pictures.of_class(category), "png", drew=drew, threads=None)
            write_category(here, drawn, SUFFIXES["png"])
