"""Composed pictures as a COCO data set: PNG files and one annotations.json (https://cocodataset.org/#format-data)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdsl.compositions import LABELS, Target
from fdsl.datasets import Dataset
from fdsl.export.png import png_bytes
from fdsl.progress import Progress
from fdsl.whole_files import whole_folder

_BATCH_BYTES = 16 << 20


def export_coco(
    dataset: Dataset, folder: Path, indices: Sequence[int] | None = None, progress: Progress | None = None
) -> None:
    """Draws composed pictures into a folder that appears when it is complete.

    It holds images/NUMBER.png and annotations.json: a picture's id and number are its index in the dataset, a
    category's id is its number + 1 (as in the labels), masks are run lengths in COCO's compressed form, and areas count
    pixels.

    Args:
        dataset: with labels=("class", "mask", "boxes"); epoch 0.
        folder: does not exist, or is empty.
        indices: which pictures, each once; None draws all.
        progress: called with (what, done, total).

    Raises:
        ValueError: the dataset has not all three labels, or an index is not in it or comes twice.
        OSError: it cannot be written; nothing is left behind.

    >>> export_coco(dataset, Path("pictures"), indices=range(0, len(dataset), 100))
    """
    if set(dataset.labels) != set(LABELS):
        raise ValueError(f"labels is {dataset.labels or 'class'!r}; expected {LABELS!r} to write as COCO")
    chosen = range(len(dataset)) if indices is None else indices
    if indices is not None and (len(set(indices)) < len(indices) or any(not 0 <= i < len(dataset) for i in indices)):
        raise ValueError(f"indices are not distinct whole numbers from 0 to {len(dataset) - 1}")
    size = dataset.spec.size
    head = {
        "info": {"description": f"{dataset.catalog.family} drawn by fdsl", "digest": dataset.digest},
        "licenses": [],
        "categories": [{"id": label + 1, "name": name} for label, name in enumerate(dataset.classes)],
    }
    pictures = ({"id": int(i), "file_name": f"{i:012d}.png", "width": size, "height": size} for i in chosen)
    with whole_folder(folder) as temporary:
        (temporary / "images").mkdir()
        # Written as it comes: a million pictures have more annotations than fit the memory.
        with open(temporary / "annotations.json", "w", encoding="ascii") as file:
            file.write(json.dumps(head)[:-1])
            for name, rows in (
                ("annotations", _annotations(dataset, chosen, temporary / "images", progress)),
                ("images", pictures),
            ):
                file.write(f', "{name}": [')
                for number, row in enumerate(rows):
                    file.write(",\n" * (number > 0) + json.dumps(row))
                file.write("]")
            file.write("}\n")


def _annotations(
    dataset: Dataset, indices: Sequence[int], images: Path, progress: Progress | None
) -> Iterator[dict[str, Any]]:
    # Masks take the memory: one for each object.
    at_once, number = max(1, _BATCH_BYTES // (8 * dataset.spec.size**2)), 0
    for start in range(0, len(indices), at_once):
        part = indices[start : start + at_once]
        pixels, targets = dataset.batch(part)
        for index, picture, target in zip(part, pixels, targets, strict=True):
            (images / f"{index:012d}.png").write_bytes(png_bytes(picture, dataset.palette))
            for row in _rows(target):
                number += 1  # pycocotools takes an id of 0 for none
                yield {"id": number, "image_id": int(index), **row}
        if progress:
            progress("drawing", start + len(part), len(indices))


def _rows(target: Target) -> Iterator[dict[str, Any]]:
    for label, box, mask in zip(target["labels"], target["boxes"], target["masks"], strict=True):
        left, top, right, bottom = map(int, box)
        yield {
            "category_id": int(label),
            "bbox": [left, top, right - left, bottom - top],
            "area": int(mask.sum(dtype=np.int64)),
            "iscrowd": 0,
            "segmentation": {"size": list(mask.shape), "counts": run_lengths(mask)},
        }


def run_lengths(mask: NDArray[np.uint8]) -> str:
    """COCO's compressed run-length encoding of a mask (H, W) of zeros and ones, as its maskApi.c defines it.

    The lengths of runs of zeros and ones in turn, column by column, zeros first; from the fourth on, less the one two
    before. Each in groups of five bits with a sign, low ones first, 32 where more follow, as characters from "0" up.

    >>> run_lengths(np.array([[0, 1], [1, 1]], np.uint8))
    '13'
    """
    values = mask.ravel(order="F")
    changes = np.flatnonzero(values[1:] != values[:-1]) + 1
    start = [0, 0] if values[0] else [0]
    lengths = np.diff(np.concatenate([start, changes, [len(values)]]))
    lengths[3:] -= lengths[1:-2].copy()
    groups = lengths[:, None] >> np.arange(0, 30, 5)  # of up to 4,096 x 4,096 pixels
    # A group is the last where what follows is its sign and nothing else.
    more = (groups >> 4 != 0) & (groups >> 4 != -1)
    written = np.concatenate([np.ones((len(lengths), 1), bool), np.cumprod(more, 1, dtype=bool)[:, :-1]], 1)
    characters: NDArray[np.uint8] = ((groups & 31 | more << 5) + 48)[written].astype(np.uint8)
    return characters.tobytes().decode("ascii")
