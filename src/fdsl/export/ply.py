"""Point clouds as PLY files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from fdsl.whole_files import whole_or_nothing


def write_ply(file: str | os.PathLike[str], points: ArrayLike, labels: ArrayLike | None = None) -> None:
    """Writes a binary little-endian PLY file, whole or not at all: float x, y, z and, if given, int label.

    Args:
        file: its name; an existing file is replaced.
        points: (N, 3).
        labels: whole numbers (N,), such as the class or the object of each point.

    Raises:
        ValueError: the arrays do not fit.
        OSError: it cannot be written; nothing is left behind.

    >>> write_ply("cloud.ply", dataset[0][0])
    """
    content = ply_bytes(points, labels)
    with whole_or_nothing(Path(file).absolute()) as temporary:
        temporary.write_bytes(content)


def ply_bytes(points: ArrayLike, labels: ArrayLike | None = None) -> bytes:
    """The bytes of the file that `write_ply` writes."""
    xyz = np.asarray(points)
    if xyz.ndim != 2 or xyz.shape[1] != 3:
        raise ValueError(f"points are {xyz.dtype} {xyz.shape}; expected (N, 3)")
    fields, properties = [("xyz", "<f4", 3)], ["float x", "float y", "float z"]
    numbers = None if labels is None else np.asarray(labels)
    if numbers is not None:
        if numbers.shape != xyz.shape[:1] or numbers.dtype.kind not in "iu":
            raise ValueError(f"labels are {numbers.dtype} {numbers.shape}; expected whole numbers ({len(xyz)},)")
        fields, properties = [*fields, ("label", "<i4", 1)], [*properties, "int label"]
    vertices = np.zeros(len(xyz), [(name, code, (size,) if size > 1 else ()) for name, code, size in fields])
    vertices["xyz"] = xyz
    if numbers is not None:
        vertices["label"] = numbers
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(xyz)}"]
    header += [f"property {text}" for text in properties] + ["end_header", ""]
    return "\n".join(header).encode() + vertices.tobytes()
