"""Compositions: several instances on one canvas, and the labels that this gives for nothing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdsl import _core

# The labels of one composed picture, in torchvision's detection format.
Target = dict[str, Any]
LABELS = ("class", "mask", "boxes")

# kernels/shared/composition.h has the same records.
_COMPOSITION = np.dtype(
    [
        ("seed", np.uint64),
        ("overlap", np.float64),
        ("categories", np.uint64),
        ("instances", np.uint64),
        ("size", np.int32),
        ("objects", np.int32, 2),
        ("side", np.int32, _core.OBJECT_SIDES),
        ("", np.int32),
    ]
)
OBJECT = np.dtype(
    [
        ("offset", np.int64),
        *((name, np.uint32) for name in ("picture", "category", "place")),
        *((name, np.int32) for name in ("side", "left", "top")),
        ("box", np.int32, 4),
        ("pixels", np.int32),
        ("", np.int32),
    ]
)
assert _COMPOSITION.itemsize == _core.COMPOSITION_BYTES
assert OBJECT.itemsize == _core.OBJECT_BYTES


@dataclass(frozen=True)
class Composition:
    """How many objects a composed picture has, how large they are, and how far they may overlap.

    An object is the square picture of one instance, drawn anew at its side: no resampling. Sides are 16 whole numbers
    of pixels, evenly from the smallest to the largest; points and pad shrink with the side, so that small objects look
    as large ones do. Objects lie wholly on the canvas, at places that are drawn uniformly; later ones are in front.

    Args:
        objects: smallest and largest number of objects, 1 to 255. One that finds no room in 16 tries is left out.
        scale: smallest and largest side as a share of the canvas's.
        overlap: the largest share of the smaller of two objects' squares that both may cover; 0 parts all squares, 1
            lets them lie anywhere.

    Raises:
        ValueError: an argument is out of its range.

    >>> Composition(objects=(3, 3), scale=(0.1, 0.3)).sides(100).tolist()
    [10, 11, 13, 14, 15, 17, 18, 19, 21, 22, 23, 25, 26, 27, 29, 30]
    """

    objects: tuple[int, int] = (1, 8)
    scale: tuple[float, float] = (0.2, 0.6)
    overlap: float = 0.5

    def __post_init__(self) -> None:
        objects, most = self.objects, _core.MAX_OBJECTS
        whole = _is_pair(objects, (int, np.integer)) and 1 <= objects[0] <= objects[1] <= most
        for name, good, expected in (
            ("objects", whole, f"a pair of whole numbers 1 <= low <= high <= {most}"),
            ("scale", _is_pair(self.scale, (int, float)) and 0 < self.scale[0] <= self.scale[1] <= 1,
             "a pair 0 < low <= high <= 1"),
            ("overlap", _is_number(self.overlap, (int, float)) and 0 <= self.overlap <= 1, "a share from 0 to 1"),
        ):  # fmt: skip
            if not good:
                raise ValueError(f"Composition({name}=) is {getattr(self, name)!r}; expected {expected}")
        # Equal compositions have equal digests, however their numbers came.
        object.__setattr__(self, "objects", (int(objects[0]), int(objects[1])))
        object.__setattr__(self, "scale", (float(self.scale[0]), float(self.scale[1])))
        object.__setattr__(self, "overlap", float(self.overlap))

    def canonical(self) -> dict[str, Any]:
        """What digests cover."""
        return asdict(self)

    def sides(self, size: int) -> NDArray[np.int32]:
        """The sides that objects can have on a canvas of `size` pixels: int32 (16,), rising."""
        low, high = self.scale
        share = np.arange(_core.OBJECT_SIDES) / (_core.OBJECT_SIDES - 1)
        sides = np.floor((low + (high - low) * share) * size + 0.5)
        return np.clip(sides, 1, size).astype(np.int32)

    def place(
        self, pictures: NDArray[np.uint32], size: int, seed: int, categories: int, instances: int
    ) -> NDArray[np.void]:
        """Where the objects of some pictures lie: OBJECT records, picture by picture, those behind first.

        Args:
            pictures: uint32 (B, 5): category, place and number of the first object's instance, epoch, repeat.
            size: pixels of a canvas's side.
            seed: of the dataset.
            categories: of the catalog, from which the other objects are drawn,
            instances: and of the dataset, a category.
        """
        shared = np.zeros((), _COMPOSITION)
        shared["seed"], shared["overlap"], shared["size"] = seed, self.overlap, size
        shared["categories"], shared["instances"] = categories, instances
        shared["objects"], shared["side"] = self.objects, self.sides(size)
        objects = np.zeros(len(pictures) * self.objects[1], OBJECT)
        as_bytes = objects.view(np.uint8).reshape(-1, OBJECT.itemsize)
        return objects[: _core.place_objects(np.frombuffer(shared.tobytes(), np.uint8), pictures, as_bytes)]


def check_labels(labels: str | Collection[str]) -> tuple[str, ...]:
    """The dense labels that are asked for, () for "class" alone; a ValueError that names what is none."""
    if labels == "class":
        return ()
    chosen = tuple(labels) if isinstance(labels, Collection) and not isinstance(labels, str) else ()
    if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(LABELS):
        raise ValueError(f"labels is {labels!r}; expected 'class', or a tuple of some of {', '.join(LABELS)}")
    return tuple(name for name in LABELS if name in chosen)


def targets(objects: NDArray[np.void], masks: Any, count: int, labels: Collection[str]) -> list[Target]:
    """The labels of `count` composed pictures; an object of which nothing is seen has none.

    Args:
        objects: OBJECT (N,), composed, picture by picture.
        masks: uint8 (N, H, W), where they are asked for: an array, or a tensor on a device.
        count: of pictures.
        labels: some of LABELS.
    """
    seen = objects["pixels"] > 0
    objects, masks = objects[seen], masks if seen.all() or "mask" not in labels else masks[np.flatnonzero(seen)]
    arrays: Target = {}
    if "class" in labels:
        arrays["labels"] = objects["category"].astype(np.int64) + 1
    if "boxes" in labels:
        arrays["boxes"] = objects["box"].astype(np.float32)
    if "mask" in labels:
        arrays["masks"] = masks
    ends = np.searchsorted(objects["picture"], np.arange(count + 1)).tolist()
    return [{name: array[start:end] for name, array in arrays.items()} for start, end in pairwise(ends)]


def _is_number(value: object, kinds: tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


def _is_pair(value: object, kinds: tuple[type, ...]) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(_is_number(end, kinds) for end in value)
