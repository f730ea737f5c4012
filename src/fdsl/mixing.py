"""Mixing: datasets of several families and catalogs as one, by weight, labels offset."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import accumulate
from math import isfinite
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from fdsl.datasets import Dataset, IndexedPictures
from fdsl.engines.protocol import Engine
from fdsl.indexing import content_digest
from fdsl.keyed import check_seed
from fdsl.order import EpochOrder
from fdsl.rendering import RenderSpec


def mix(
    datasets: Sequence[IndexedPictures],
    weights: Sequence[float] | None = None,
    length: int | None = None,
    *,
    seed: int = 0,
    transform: Callable[[Any], Any] | None = None,
) -> MixedDataset:
    """Several datasets as one, whose labels follow each other: those of the second start where the first one's end.

    Without weights an epoch holds every sample once: the datasets one after the other. With weights it holds `length`
    samples, shared out by largest remainder; each dataset walks on from epoch to epoch through keyed permutations of
    its samples, so that all of them come equally often, and none twice before all came once. Where a sample comes
    again, its view, and what is `fresh` in it, is drawn anew.

    Args:
        datasets: of one size and one number of channels; mixed ones too.
        weights: one each, over 0: shares of an epoch.
        length: samples of an epoch with weights; None is as many as the datasets have together.
        seed: keys the walks.
        transform: applied to a PIL image by `mixed[i]` and DataLoader.

    Raises:
        ValueError: the datasets do not fit together, or an argument is out of its range.

    >>> import fdsl
    >>> curves, noise = (fdsl.Dataset(fdsl.search(family, categories=4), 10) for family in ("bezier", "perlin"))
    >>> mixed = fdsl.mix([curves, noise], weights=[3, 1], length=100)
    >>> len(mixed), mixed[80][1] >= 4
    (100, True)
    """
    return MixedDataset(datasets, weights, length, seed, transform)


class MixedDataset(IndexedPictures):
    """Several datasets as one; `fdsl.mix` makes it and says how.

    Indices run through the first dataset's samples of an epoch, then the second one's, and so on; Feed and samplers
    shuffle them. A picture is a pure function of the digest, the index, the epoch and the repeat.

    Attributes:
        datasets: the parts.
        counts: how many samples of an epoch are of each.
    """

    def __init__(
        self,
        datasets: Sequence[IndexedPictures],
        weights: Sequence[float] | None = None,
        length: int | None = None,
        seed: int = 0,
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        if not isinstance(datasets, (list, tuple)):  # a dataset would be walked, and drawn
            raise ValueError(f"datasets is {datasets!r}; expected several in a list, such as [first, second]")
        self.datasets: list[IndexedPictures] = list(datasets)
        _check_parts(self.datasets)
        self.seed, self.transform = check_seed(seed), transform
        spec = self.datasets[0].spec
        self.labels = self.datasets[0].labels
        self.spec = RenderSpec(size=spec.size, channels=spec.image_channels)
        sizes = [len(part) for part in self.datasets]
        self.weights, self._length = None if weights is None else tuple(weights), length
        if self.weights is None:
            if length is not None:
                raise ValueError(f"length is {length!r} without weights; expected weights too, or length=None")
            self.counts = sizes
        else:
            self.counts = _shares(self.weights, sum(sizes) if length is None else length, len(sizes))
        self._starts = np.array([0, *accumulate(self.counts)])
        self._first_labels = [0, *accumulate(len(part.classes) for part in self.datasets)]
        # Two datasets of one length walk in two orders.
        self._walks = [EpochOrder(size, (self.seed + part) % 2**64) for part, size in enumerate(sizes)]

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __repr__(self) -> str:
        parts = ", ".join(f"{count:,} of {part!r}" for part, count in zip(self.datasets, self.counts, strict=True))
        return f"MixedDataset({parts}; digest {self.digest[:12]})"

    @property
    def digest(self) -> str:
        """sha256 hex of all that decides a pixel: the parts' digests and, with weights, their shares and the seed."""
        content: dict[str, object] = {"parts": [part.digest for part in self.datasets]}
        if self.weights is not None:
            content |= {"counts": self.counts, "seed": self.seed}
        return content_digest(content)

    @property
    def classes(self) -> list[str]:
        """Names of the classes: their labels, in at least five digits."""
        return [self.class_name(label) for label in range(self._first_labels[-1])]

    def class_name(self, label: int) -> str:
        """The name of one class."""
        return f"{label:0{max(5, len(str(self._first_labels[-1] - 1)))}d}"

    @property
    def targets(self) -> MixedTargets:
        """The label of every index, computed when asked for.

        Raises:
            ValueError: the mix is by weight, so that each epoch has its own.
        """
        if self.weights is not None:
            raise ValueError("targets of a mix by weight change with the epoch; expected a mix without weights")
        return MixedTargets([part.targets for part in self.datasets], self._first_labels)

    def part_of(self, category: int) -> tuple[Dataset, int]:
        """The dataset that a label is of, and the category's row in its catalog.

        >>> mixed.part_of(4)[1]
        0
        """
        part = bisect_right(self._first_labels, category) - 1
        return self.datasets[part].part_of(category - self._first_labels[part])

    def file_name(self, category: int, instance: int) -> str:
        """The name of a picture's file without its suffix, as its own dataset names it."""
        part, own = self.part_of(category)
        return part.file_name(own, instance)

    def split(self, share: float) -> tuple[MixedDataset, MixedDataset]:
        """Every part split as its own `split` does; the held-out samples come once each, whatever the weights.

        Raises:
            ValueError: `share` leaves one side of a part empty, or a part is `fresh`.

        >>> train, held_out = mixed.split(0.9)
        >>> len(held_out)
        8
        """
        first, held_out = zip(*(part.split(share) for part in self.datasets), strict=True)
        return (
            MixedDataset(first, self.weights, self._length, self.seed, self.transform),
            MixedDataset(held_out, seed=self.seed, transform=self.transform),
        )

    def _draw(
        self,
        positions: NDArray[np.int64],
        epochs: NDArray[np.int64],
        repeats: NDArray[np.int64],
        out: Any,
        engine: Engine,
    ) -> Any:
        labels: Any = [{}] * len(positions) if self.labels else np.empty(len(positions), np.int64)
        parts = np.searchsorted(self._starts, positions, side="right") - 1
        for number in np.unique(parts).tolist():
            rows = np.flatnonzero(parts == number)
            indices, seen = positions[rows] - self._starts[number], epochs[rows]
            if self.weights is not None:
                indices, seen = self._walk(number, indices, seen)
            together = rows[-1] - rows[0] == len(rows) - 1
            into = out[rows[0] : rows[-1] + 1] if together else engine.empty((len(rows), *out.shape[1:]))
            drawn, first = self.datasets[number]._draw(indices, seen, repeats[rows], into, engine), self._first_labels
            if not self.labels:
                labels[rows] = first[number] + drawn
            else:
                for row, target in zip(rows, drawn, strict=True):
                    offset = {"labels": target["labels"] + first[number]} if "labels" in target else {}
                    labels[row] = target | offset
            if not together:
                engine.put(out, rows, into)
        return labels

    def _walk(
        self, number: int, indices: NDArray[np.int64], epochs: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """A part's own indices, and how often all of its samples came before: what its views take for the epoch."""
        walk = self._walks[number]
        passes, places = np.divmod(epochs * self.counts[number] + indices, walk.size)
        own = np.empty_like(places)
        for one in np.unique(passes).tolist():
            own[passes == one] = walk.at(places[passes == one], one)
        return own, passes


class MixedTargets(Sequence[int]):
    """The labels of a mix without weights in index order, computed when asked for."""

    def __init__(self, parts: Sequence[Sequence[int]], first_labels: Sequence[int]) -> None:
        self._parts, self._first_labels = parts, first_labels
        self._starts = [0, *accumulate(len(part) for part in parts)]

    def __len__(self) -> int:
        return self._starts[-1]

    @overload
    def __getitem__(self, place: int) -> int: ...
    @overload
    def __getitem__(self, place: slice) -> list[int]: ...
    def __getitem__(self, place: int | slice) -> int | list[int]:
        positions = range(len(self))[place]
        if isinstance(positions, range):
            return [self[position] for position in positions]
        part = bisect_right(self._starts, positions) - 1
        return self._first_labels[part] + self._parts[part][positions - self._starts[part]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        labels = np.concatenate(
            [first + np.asarray(part) for first, part in zip(self._first_labels[:-1], self._parts, strict=True)]
        )
        return labels if dtype is None else labels.astype(dtype)


def _check_parts(datasets: Sequence[IndexedPictures]) -> None:
    if not datasets:
        raise ValueError("datasets is empty; expected at least one")
    for number, part in enumerate(datasets):
        if not isinstance(part, IndexedPictures):
            raise ValueError(f"datasets[{number}] is {type(part).__name__}; expected an fdsl.Dataset")
        if part.transform is not None:
            raise ValueError(f"datasets[{number}] has a transform; expected mix(..., transform=) instead")
        shapes = [(spec.image_channels, spec.size, spec.size) for spec in (datasets[0].spec, part.spec)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"datasets[{number}] draws {shapes[1]}, datasets[0] {shapes[0]}; expected the same shape")
        if part.labels != datasets[0].labels:
            labels = f"datasets[{number}] has the labels {part.labels}, datasets[0] {datasets[0].labels}"
            raise ValueError(f"{labels}; expected the same")


def _shares(weights: Sequence[float], length: int, parts: int) -> list[int]:
    """`length` shared out in proportion to the weights, what is left over to the largest remainders."""
    if isinstance(length, bool) or not isinstance(length, (int, np.integer)) or not 1 <= length <= 2**48:
        raise ValueError(f"length is {length!r}; expected a whole number from 1 to 2**48")
    good = [isinstance(w, (int, float, np.number)) and isfinite(w) and w > 0 for w in weights]
    if len(good) != parts or not all(good):
        raise ValueError(f"weights is {weights!r}; expected {parts} numbers over 0, one for each dataset")
    # Fractions are exact: no machine shares out otherwise.
    exact = [Fraction(float(w)) for w in weights]
    quotas = [int(length) * w / sum(exact) for w in exact]
    counts = [int(quota) for quota in quotas]
    by_remainder = sorted(range(parts), key=lambda part: counts[part] - quotas[part])
    for part in by_remainder[: length - sum(counts)]:
        counts[part] += 1
    if 0 in counts:
        raise ValueError(
            f"weights {weights!r} leave nothing of {length} samples to datasets[{counts.index(0)}]; "
            "expected a larger weight or length"
        )
    return counts
