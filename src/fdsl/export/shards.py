"""Which samples a shard holds and what they are called: pure functions of a dataset and a layout."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fdsl.datasets import Dataset, IndexedPictures
from fdsl.export.encodings import SUFFIXES, encode
from fdsl.mixing import MixedDataset
from fdsl.order import EpochOrder

LAYOUTS = ("folder", "webdataset", "parquet")
ORDERS = ("shuffled", "category")
# Of pixels drawn at once: what a near cache still holds when they are encoded.
_BATCH_BYTES = 4 << 20


class Digest(Protocol):
    """What hashlib makes."""

    def update(self, data: memoryview, /) -> None:
        """Takes more bytes."""


@dataclass(frozen=True)
class Picture:
    """A picture as a file.

    Args:
        name: without a suffix; in shards of a mix its class and a slash come first, because names repeat in its parts.
        label: its class.
        content: the bytes of the file.
    """

    name: str
    label: int
    content: bytes


class FilePictures:
    """The samples of a dataset as files; of a mix, every sample of its parts once, whatever the weights.

    Args:
        dataset: epoch 0 of a view or a fresh dataset.

    Attributes:
        dataset: what is drawn: the dataset without its transform, or its parts one after the other.
        parts: the datasets that are not mixes.

    Raises:
        ValueError: the dataset has dense labels, which no file of a picture can hold.
    """

    def __init__(self, dataset: IndexedPictures) -> None:
        if dataset.labels:
            raise ValueError(
                f"labels is {dataset.labels!r}; expected 'class', or export_coco (fdsl render --labels coco)"
            )
        self.parts = _leaves(dataset)
        self.dataset = self.parts[0] if isinstance(dataset, Dataset) else MixedDataset(self.parts)
        self._starts = np.array([0, *accumulate(map(len, self.parts))])
        self._first_labels = [0, *accumulate(len(part.catalog) for part in self.parts)]

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return self._first_labels[-1]

    def class_name(self, label: int) -> str:
        """The name of a class, and of its folder."""
        return self.dataset.class_name(label)

    def class_size(self, label: int) -> int:
        """How many samples a class has."""
        return len(self._part_of(label)[0].instances)

    def of_class(self, label: int) -> NDArray[np.int64]:
        """The indices of a class's samples, in the order of their names."""
        dataset, category, first = self._part_of(label)
        names = [dataset.file_name(category, int(number)) for number in dataset.instances]
        return first + np.array(sorted(range(len(names)), key=names.__getitem__), np.int64)

    def _part_of(self, label: int) -> tuple[Dataset, int, int]:
        """The part that a class is of, its category there, and the index of its first sample."""
        part = bisect_right(self._first_labels, label) - 1
        dataset, category = self.parts[part], label - self._first_labels[part]
        return dataset, category, int(self._starts[part]) + category * len(dataset.instances)

    def encoded(
        self,
        indices: NDArray[np.int64],
        encoding: str,
        pixels_digest: Digest | None = None,
        drew: Callable[[int], object] | None = None,
        threads: int | None = 1,
    ) -> Iterator[Picture]:
        """Draws and encodes some samples, a few megabytes at a time.

        Args:
            indices: int64 (N,).
            encoding: "png", "webp" or "raw".
            pixels_digest: takes the pixels of all, uint8 (channels, size, size) each, in their order.
            drew: called with the number of pictures of each batch that is done.
            threads: of the drawing.
        """
        spec, several = self.dataset.spec, len(self.parts) > 1
        at_once = max(1, _BATCH_BYTES // (spec.image_channels * spec.size**2))
        memory = np.empty((min(at_once, len(indices)), spec.image_channels, spec.size, spec.size), np.uint8)
        for start in range(0, len(indices), at_once):
            some = indices[start : start + at_once]
            images, labels = self.dataset.batch(some, out=memory[: len(some)], threads=threads)
            if pixels_digest:
                pixels_digest.update(images.data)
            # What follows is once a picture: plain numbers are quicker than NumPy's.
            parts = (np.searchsorted(self._starts, some, side="right") - 1).tolist()
            for index, part, label, pixels in zip(some.tolist(), parts, labels.tolist(), images, strict=True):
                dataset = self.parts[part]
                category = label - self._first_labels[part]
                place = index - int(self._starts[part]) - category * len(dataset.instances)
                name = dataset.file_name(category, int(dataset.instances[place]))
                key = f"{self.class_name(label)}/{name}" if several else name
                yield Picture(key, label, encode(pixels, dataset.palette, encoding))
            if drew:
                drew(len(some))


@dataclass(frozen=True)
class ShardPlan:
    """Which samples each shard of an export holds: shards of a size, or the folder of a category.

    Args:
        pictures: of the dataset.
        layout: "folder" (a shard is a folder CATEGORY of files), "webdataset" (tar) or "parquet".
        encoding: "png", "webp" or "raw".
        shard_size: pictures of a shard, the last one's fewer; None where a shard is a category.
        order: "shuffled" by EpochOrder, or "category": as the dataset has them.
        shuffle_seed: keys the order; None where it is by category.
    """

    pictures: FilePictures
    layout: str
    encoding: str
    shard_size: int | None
    order: str
    shuffle_seed: int | None

    def __len__(self) -> int:
        if self.shard_size is None:
            return self.pictures.classes
        return -(-len(self.pictures.dataset) // self.shard_size)

    def name(self, shard: int) -> str:
        """The name of a shard's file or folder."""
        if self.layout == "folder":
            return self.pictures.class_name(shard)
        if self.layout == "webdataset":
            return f"shard-{shard:06d}.tar"
        return f"train-{shard:05d}-of-{len(self):05d}.parquet"

    def size(self, shard: int) -> int:
        """Pictures of a shard."""
        if self.shard_size is None:
            return self.pictures.class_size(shard)
        return min(self.shard_size, len(self.pictures.dataset) - shard * self.shard_size)

    def indices(self, shard: int) -> NDArray[np.int64]:
        """The indices of a shard's samples in their order, int64."""
        if self.shard_size is None:
            return self.pictures.of_class(shard)
        places = shard * self.shard_size + np.arange(self.size(shard))
        return places if self.shuffle_seed is None else self._shuffled.at(places)

    @cached_property
    def _shuffled(self) -> EpochOrder:
        return EpochOrder(len(self.pictures.dataset), self.shuffle_seed or 0)


def check_layout(
    layout: str, encoding: str, shard_size: int | None, order: str | None, shuffle_seed: int | None
) -> tuple[int | None, str, int | None]:
    """The shard size, the order and the seed where they are None.

    Raises:
        ValueError: one is not there, or does not fit the layout.
    """
    for name, value, known in (("to", layout, LAYOUTS), ("encoding", encoding, tuple(SUFFIXES))):
        if value not in known:
            raise ValueError(f"{name} is {value!r}; expected one of {', '.join(known)}")
    if layout == "parquet" and encoding == "raw":
        raise ValueError("encoding is 'raw', which no reader of parquet shows as a picture; expected 'png' or 'webp'")
    if layout == "folder":
        for name, chosen, only in (("order", order, "category"), ("shard_size", shard_size, None)):
            if chosen not in (None, only):
                raise ValueError(f"{name} is {chosen!r}, but folders hold a category each; expected {only!r}")
        return None, "category", None
    if order not in (None, *ORDERS):
        raise ValueError(f"order is {order!r}; expected one of {', '.join(ORDERS)}")
    size = 10_000 if shard_size is None else shard_size
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(f"shard_size is {size!r}; expected a whole number of at least 1")
    if order == "category":
        return size, order, None
    return size, "shuffled", EpochOrder(1, 0 if shuffle_seed is None else shuffle_seed).seed


def _leaves(dataset: IndexedPictures) -> list[Dataset]:
    if isinstance(dataset, Dataset):
        # A transform means nothing here, and may not pickle.
        plain = copy(dataset)
        plain.transform = None
        return [plain]
    if not isinstance(dataset, MixedDataset):
        raise ValueError(f"dataset is {dataset!r}; expected an fdsl.Dataset, or one that fdsl.mix made")
    return [leaf for part in dataset.datasets for leaf in _leaves(part)]
