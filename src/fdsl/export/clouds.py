"""Point clouds and scenes as PLY or NumPy files, named as the published ones."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdsl.clouds import CloudDataset, SceneDataset
from fdsl.export.ply import ply_bytes
from fdsl.indexing import numbers_at
from fdsl.progress import Progress
from fdsl.whole_files import whole_folder

_BATCH_BYTES = 16 << 20


def export_clouds(
    dataset: CloudDataset | SceneDataset,
    folder: str | os.PathLike[str],
    format: str = "ply",
    items: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> None:
    """Writes clouds or scenes into a folder that appears when it is complete.

    A cloud is CATEGORY/CATEGORY_NNNN.ply, as published, or .npz (points, label). A scene is scene_NNNNN.npz (the arrays
    of the scene) or .ply (points, labelled with their object), and beside it scene_NNNNN.json as published: for each
    object size, c_pos (centre), theta (heading), class_name and file_name (its cloud).

    Args:
        dataset: what to draw; epoch 0 where it is fresh.
        folder: does not exist, or is empty.
        format: "ply" or "npz".
        items: indices into the dataset; None is all.
        progress: called with (what, done, total).

    Raises:
        ValueError: the format is another.
        OSError: it cannot be written; nothing is left behind.

    >>> export_clouds(dataset, "clouds", format="ply", items=range(100))
    """
    if format not in ("ply", "npz"):
        raise ValueError(f"format is {format!r}; expected 'ply' or 'npz'")
    chosen = range(len(dataset)) if items is None else items
    clouds = 1 if isinstance(dataset, CloudDataset) else dataset.objects + 5
    at_once = max(1, _BATCH_BYTES // (12 * dataset.points * clouds))
    write = _write_clouds if isinstance(dataset, CloudDataset) else _write_scenes
    with whole_folder(folder) as temporary:
        for start in range(0, len(chosen), at_once):
            some = np.asarray(chosen[start : start + at_once])
            write(dataset, some, temporary, format)  # type: ignore[arg-type]
            if progress:
                progress("drawing", min(start + at_once, len(chosen)), len(chosen))


def _write_clouds(dataset: CloudDataset, items: NDArray[np.int64], folder: Path, format: str) -> None:
    clouds, labels = dataset.batch(items)
    numbers = numbers_at(dataset.instances, items % len(dataset.instances))
    for points, label, number in zip(clouds, labels.tolist(), numbers.tolist(), strict=True):
        name = dataset.file_name(label, number)
        here = folder / name.split("_")[0]
        here.mkdir(exist_ok=True)
        content = ply_bytes(points) if format == "ply" else _npz_bytes({"points": points, "label": label})
        (here / f"{name}.{format}").write_bytes(content)


def _write_scenes(dataset: SceneDataset, items: NDArray[np.int64], folder: Path, format: str) -> None:
    for item, scene in zip(items.tolist(), dataset.__getitems__(items.tolist()), strict=True):
        name = folder / f"scene_{item % len(dataset):05d}"
        content = ply_bytes(scene["points"], scene["objects"]) if format == "ply" else _npz_bytes(scene)
        name.with_suffix(f".{format}").write_bytes(content)
        objects = [
            {
                "size": box[3:6],
                "c_pos": box[:3],
                "theta": box[6],
                "class_name": dataset.file_name(category, number).split("_")[0],
                "file_name": f"{dataset.file_name(category, number)}.ply",
            }
            for box, category, number in zip(
                *(scene[array].tolist() for array in ("boxes", "classes", "instances")), strict=True
            )
        ]
        name.with_suffix(".json").write_text(json.dumps(objects), encoding="ascii")


def _npz_bytes(arrays: dict[str, Any]) -> bytes:
    buffer = BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()
