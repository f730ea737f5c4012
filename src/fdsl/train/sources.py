"""Sources of pictures to train on: drawn in real time, stored in tar shards, or in a folder of files."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, cast

try:
    import torch
except ImportError as error:
    raise ImportError(f"training needs {error.name}, which is not installed; pip install 'fdsl[train]'") from error

import numpy as np
from numpy.typing import NDArray

import fdsl
from fdsl.datasets import Dataset, IndexedPictures
from fdsl.engines.protocol import Engine
from fdsl.feed import Feed
from fdsl.mixing import MixedDataset
from fdsl.order import EpochOrder
from fdsl.progress import Progress
from fdsl.rendering import Crop, RandomView, RenderSpec
from fdsl.stalls import FeedStats
from fdsl.train import downstream
from fdsl.train.image_folders import open_folder
from fdsl.train.recipes import Data
from fdsl.train.stored import at_most


class Loader(Protocol):
    """Batches of this rank on a device; `fdsl.Feed` is one.

    One iteration is an epoch of (images uint8 (B, C, S, S), labels int64 (B,)); the next iteration is the next epoch.
    """

    def __len__(self) -> int:
        """Batches of the epoch that is under way or comes next."""

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The epoch's batches."""

    @property
    def epoch(self) -> int:
        """The epoch that is under way, or comes next."""

    @property
    def loss_weight(self) -> float:
        """What each sample of the batch last handed over weighs: world size / samples of the batch on all ranks."""

    def set_epoch(self, epoch: int) -> None:
        """Makes `epoch` the one that the next iteration gives."""

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is: plain numbers and strings."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The next iteration continues where `state` was taken."""

    def stats(self) -> FeedStats:
        """What the loader has cost since it was made."""


class Source(Protocol):
    """Labelled pictures for training and, where some are held out, for measuring.

    Attributes:
        classes: names of the classes, by label.
        digest: sha256 hex of what decides the pictures.
        size: pixels of a side.
        channels: 1 or 3.
        images: how many there are to train on.
        held_out_images: how many are held out.
    """

    classes: list[str]
    digest: str
    size: int
    channels: int
    images: int
    held_out_images: int

    def train(
        self,
        batch_size: int,
        device: str | torch.device,
        *,
        seed: int,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> Loader:
        """Shuffled batches to train on; the last, short batch of an epoch is left out.

        Args:
            batch_size: pictures of a batch, on all ranks together.
            device: where batches are handed over.
            seed: keys the order.
            rank, world_size: None asks torch.distributed, else the launcher.
        """

    def held_out(
        self,
        batch_size: int,
        device: str | torch.device,
        *,
        limit: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> Loader | None:
        """The held-out pictures, the same in each iteration and each once over all ranks; None where there are none.

        Args:
            batch_size: pictures of a batch, on all ranks together.
            device: where batches are handed over.
            limit: at most so many of them, a fixed choice.
            rank, world_size: None asks torch.distributed, else the launcher.
        """


def open_source(data: Data, *, progress: Progress | None = None, skip_corrupt: bool = False) -> Source:
    """The pictures that a recipe's `data` names.

    Args:
        data: `data.source` is shards:PATTERN (tar files; `train.shards`), imagefolder:FOLDER (`train.image_folders`),
            a downstream dataset (`train.downstream`), or else a catalog, whose pictures are drawn.
        progress: called with (what, done, total) while a catalog is searched or files are counted.
        skip_corrupt: leave out files that cannot be decoded, with a warning when the iteration ends that names them.

    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: there is nothing in it to train on, or a setting does not fit.

    >>> source = open_source(Data(source="fractaldb-1k", held_out=0.1))  # doctest: +SKIP
    >>> source.images, source.held_out_images
    (920000, 80000)
    """
    if data.source in ("shards:", "imagefolder:", "hf:"):
        raise ValueError(f"source is {data.source!r}; expected a name after the colon")
    if data.source.startswith("shards:"):
        from fdsl.train.shards import open_shards  # needs webdataset

        return open_shards(data, progress=progress, skip_corrupt=skip_corrupt)
    if data.source.startswith("imagefolder:"):
        return open_folder(data, progress=progress, skip_corrupt=skip_corrupt)
    if downstream.has(data.source):
        return downstream.open_downstream(data, progress=progress, skip_corrupt=skip_corrupt)
    near = difflib.get_close_matches(data.source.lower(), downstream.NAMES, n=1, cutoff=0.8)
    if near and not Path(data.source).exists():
        raise ValueError(f"source is {data.source!r}; expected a catalog or a dataset, such as {near[0]!r}")
    return _drawn(data, progress)


def _drawn(data: Data, progress: Progress | None) -> DrawnSource:
    view: Crop | RandomView | None = None
    if data.crop_of is not None:
        view = Crop(data.crop_of)
    elif data.view is not None:
        view = RandomView(data.view.scale, data.view.ratio, data.view.rotation, data.view.flip)
    spec = RenderSpec(
        data.size, data.points, data.draw, data.color, data.channels, data.pad, data.fit, view, data.options
    )
    dataset = Dataset(fdsl.catalog(data.source, progress=progress), data.instance_numbers, spec, data.seed)
    if not data.held_out:
        return DrawnSource(dataset, repeats=data.repeats)
    return DrawnSource(*dataset.split(round(1 - data.held_out, 12)), repeats=data.repeats)


class DrawnSource:
    """Pictures of catalogs, drawn while training goes on.

    Held-out pictures are drawn without a random view, as published evaluations crop at the centre: whole, or where
    training sees windows of a larger picture (`Crop`), the window in its middle, at the same scale.

    Args:
        dataset: what to train on.
        held_out: what to measure on, such as the second part of `dataset.split(0.9)`.
        repeats: how often each picture comes in an epoch, each time with another view.

    >>> source = DrawnSource(*fdsl.Dataset(fdsl.search("fractaldb", categories=2)).split(0.9))
    >>> source.images, source.held_out_images
    (1840, 160)
    """

    def __init__(self, dataset: IndexedPictures, held_out: IndexedPictures | None = None, *, repeats: int = 1) -> None:
        if dataset.labels:
            raise ValueError(f"labels is {dataset.labels!r}; expected 'class', which a classifier learns")
        self.dataset, self.held_out_dataset, self._repeats = dataset, held_out, repeats
        self.classes, self.digest = dataset.classes, dataset.digest
        self.size, self.channels = dataset.spec.size, dataset.spec.image_channels
        self.images, self.held_out_images = len(dataset), len(held_out) if held_out is not None else 0

    def train(
        self,
        batch_size: int,
        device: str | torch.device,
        *,
        seed: int,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> Feed:
        """A Feed of the training pictures; see `Source.train`."""
        return Feed(
            self.dataset,
            global_batch_size=batch_size,
            device=device,
            shuffle_seed=seed,
            repeats=self._repeats,
            drop_last=True,
            rank=rank,
            world_size=world_size,
        )

    def held_out(
        self,
        batch_size: int,
        device: str | torch.device,
        *,
        limit: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> Feed | None:
        """A Feed of the held-out pictures; see `Source.held_out`."""
        if self.held_out_dataset is None:
            return None
        pictures = _HeldOutPictures(self.held_out_dataset, at_most(limit, self.held_out_images))
        return Feed(
            cast(IndexedPictures, pictures),  # as far as a Feed needs it
            global_batch_size=batch_size,
            device=device,
            shuffle_seed=None,
            rank=rank,
            world_size=world_size,
        )


def _without_view(dataset: IndexedPictures) -> IndexedPictures:
    if isinstance(dataset, MixedDataset):
        length = None if dataset.weights is None else len(dataset)
        return MixedDataset(list(map(_without_view, dataset.datasets)), dataset.weights, length, dataset.seed)
    if isinstance(dataset, Dataset) and dataset.spec.view is not None:
        spec = replace(dataset.spec, size=dataset.spec.whole, view=None)
        return Dataset(dataset.catalog, dataset.instances, spec, dataset.seed, dataset.fresh)
    return dataset


class _HeldOutPictures:
    """A fixed choice of a dataset's pictures, without a random view."""

    def __init__(self, dataset: IndexedPictures, images: int) -> None:
        self.spec = RenderSpec(dataset.spec.size, channels=dataset.spec.image_channels)
        self._whole = _without_view(dataset)
        self._images, self._order = images, EpochOrder(len(dataset))
        self.digest = self._whole.digest

    def __len__(self) -> int:
        return self._images

    def batch(
        self,
        indices: NDArray[np.int64],
        epoch: int = 0,
        repeat: Any = 0,
        out: Any = None,
        threads: int | None = None,
        engine: Engine | None = None,
    ) -> tuple[Any, NDArray[np.int64]]:
        """As `IndexedPictures.batch`."""
        chosen, edge = self._order.at(indices), self._whole.spec.size - self.spec.size
        if not edge:
            return self._whole.batch(chosen, out=out, threads=threads, engine=engine)
        whole, labels = self._whole.batch(chosen, threads=threads, engine=engine)
        middle = slice(edge // 2, edge // 2 + self.spec.size)
        window = whole[:, :, middle, middle]
        if out is None:
            return window, labels
        out[:] = window
        return out, labels
