"""Stored pictures: read and decoded ahead of training, in an order that the seed decides."""

from __future__ import annotations

import hashlib
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

try:
    import torch
except ImportError as error:
    raise ImportError(f"training needs {error.name}, which is not installed; pip install 'fdsl[train]'") from error

import numpy as np
from numpy.typing import NDArray

from fdsl.engines import cpu
from fdsl.indexing import content_digest
from fdsl.order import EpochBatches, EpochOrder, checked_state
from fdsl.stalls import FeedStats, StallTimer
from fdsl.streams import marks_of, thread_on
from fdsl.train.framing import Content, Framing, decoded
from fdsl.train.recipes import Data

# Batches under way before they are asked for, and pictures that a thread decodes before it takes others.
_AHEAD, _AT_ONCE = 2, 8
_NAMED = 5


class Piece(NamedTuple):
    """A picture of a batch, before it is decoded.

    Args:
        number: of the picture, among all of its source.
        repeat: how often it came in the epoch before.
        label: its class.
        name: for messages.
        load: gives the file's bytes, or pixels.
    """

    number: int
    repeat: int
    label: int
    name: str
    load: Callable[[], Content]


class Pictures(Protocol):
    """Stored, labelled pictures, and the way that they are read in."""

    def __len__(self) -> int: ...

    def first(self, limit: int) -> Pictures:
        """A fixed choice of so many of them."""

    def place(self, batches: EpochBatches) -> dict[str, int]:
        """What, beside the order, decides where a loader is in it."""

    def read(self, batches: EpochBatches, starts: range, epoch: int) -> Generator[list[Piece], None, None]:
        """This rank's part of the batches that start at these positions; read by one thread."""


class IndexedFiles:
    """Pictures that any number reads: files, rows of a table, an array. Their order is `EpochBatches`'.

    Args:
        contents: gives the encoded bytes or the pixels of each, from any thread.
        labels: int64 (N,).
        names: of each, for messages.
        rows: those of them that are meant; None is all.

    >>> files = IndexedFiles(np.zeros((4, 1, 8, 8), np.uint8), np.array([0, 1, 0, 1]), str)
    >>> len(files), len(files.few(1, seed=0))
    (4, 2)
    """

    def __init__(
        self,
        contents: Any,
        labels: NDArray[np.int64],
        names: Callable[[int], str],
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        self._contents, self._labels, self._names = contents, labels, names
        self._rows = np.arange(len(labels)) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def labels(self) -> NDArray[np.int64]:
        """The labels of those that are meant."""
        return self._labels[self._rows]

    def chosen(self, places: NDArray[np.int64]) -> IndexedFiles:
        """Those at these places."""
        return IndexedFiles(self._contents, self._labels, self._names, self._rows[places])

    def first(self, limit: int) -> IndexedFiles:
        """A fixed, shuffled choice."""
        return self.chosen(EpochOrder(len(self)).at(range(limit)))

    def few(self, count: int, seed: int) -> IndexedFiles:
        """So many of each class, chosen by the seed.

        Raises:
            ValueError: a class has fewer.
        """
        shuffled = np.random.default_rng(seed).permutation(len(self))
        of_class = np.argsort(self.labels[shuffled], kind="stable")
        classes, starts, counts = np.unique(self.labels[shuffled][of_class], return_index=True, return_counts=True)
        if counts.min() < count:
            label = int(classes[counts.argmin()])
            raise ValueError(f"few_shot is {count}, but class {label} has {counts.min()} pictures; expected as many")
        places = np.concatenate([of_class[start : start + count] for start in starts])
        return self.chosen(np.sort(shuffled[places]))

    def place(self, batches: EpochBatches) -> dict[str, int]:
        """Nothing: a position of the order is one of any batch size and any number of ranks."""
        return {}

    def read(self, batches: EpochBatches, starts: range, epoch: int) -> Generator[list[Piece], None, None]:
        """This rank's part of the batches; nothing is read before a piece is loaded."""
        for start in starts:
            places, repeats = batches.slice_at(start, epoch)
            yield [
                Piece(row, repeat, int(self._labels[row]), self._names(row), partial(self._contents.__getitem__, row))
                for row, repeat in zip(self._rows[places].tolist(), repeats.tolist(), strict=True)
            ]


class StoredSource:
    """Stored pictures to train on and to measure with; a `Source`.

    Args:
        data: size, channels, crop_of, view, repeats and seed.
        classes: their names.
        content: in terms of JSON, what tells these pictures from others.
        train: what to train on.
        held_out: what to measure with.
        skip_corrupt: leave out what cannot be decoded, and warn when the iteration ends. In training the next picture
            of its batch stands in for it; what is measured has fewer.

    Raises:
        ValueError: there are fewer than two classes.
    """

    def __init__(
        self,
        data: Data,
        classes: Sequence[str],
        content: object,
        train: Pictures,
        held_out: Pictures | None,
        *,
        skip_corrupt: bool = False,
    ) -> None:
        if len(classes) < 2:
            only = f"one class, {classes[0]!r}" if classes else "no class"
            raise ValueError(f"{data.source} has {only}; expected two or more")
        self.classes, self.size = list(classes), data.size
        self.channels: int = data.channels
        self.images, self.held_out_images = len(train), 0 if held_out is None else len(held_out)
        seen = data.model_dump(mode="json", include={"size", "channels", "crop_of", "view", "held_out", "seed"})
        self.digest = content_digest(seen | {"content": content})
        self._data, self._content, self._train, self._held_out = data, content, train, held_out
        self._corrupt = _Corrupt(skip_corrupt)

    @property
    def corrupt(self) -> list[str]:
        """The names of the pictures that were left out so far, because they cannot be decoded."""
        return sorted(self._corrupt.names)

    def train(
        self,
        batch_size: int,
        device: str | torch.device,
        *,
        seed: int,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> StoredLoader:
        """Shuffled batches of random views; see `Source.train`."""
        batches = EpochBatches(
            len(self._train),
            global_batch_size=batch_size,
            shuffle_seed=seed,
            repeats=self._data.repeats,
            drop_last=True,
            rank=rank,
            world_size=world_size,
        )
        return self._loader(self._train, batches, device, random=True)

    def held_out(
        self,
        batch_size: int,
        device: str | torch.device,
        *,
        limit: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> StoredLoader | None:
        """The held-out pictures' middles; see `Source.held_out`."""
        if self._held_out is None:
            return None
        return self._measured(self._held_out, batch_size, device, limit, rank, world_size)

    def train_as_measured(
        self,
        batch_size: int,
        device: str | torch.device,
        *,
        limit: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> StoredLoader:
        """The training pictures as held-out ones are seen: each once, without a random view; for k-NN."""
        return self._measured(self._train, batch_size, device, limit, rank, world_size)

    def few_shot(self, count: int, seed: int) -> StoredSource:
        """The same with so many training pictures of each class, chosen by the seed.

        Raises:
            ValueError: a class has fewer, or the pictures are in shards.
        """
        if not isinstance(self._train, IndexedFiles):
            raise ValueError(f"few_shot of {self._data.source}; expected pictures that are not in shards")
        content = {"of": self._content, "few_shot": count, "seed": seed}
        few, skip = self._train.few(count, seed), self._corrupt.skip
        return StoredSource(self._data, self.classes, content, few, self._held_out, skip_corrupt=skip)

    def _measured(
        self,
        pictures: Pictures,
        batch_size: int,
        device: str | torch.device,
        limit: int | None,
        rank: int | None,
        world_size: int | None,
    ) -> StoredLoader:
        count = at_most(limit, len(pictures))
        some = pictures if count == len(pictures) else pictures.first(count)
        batches = EpochBatches(
            len(some), global_batch_size=batch_size, shuffle_seed=None, rank=rank, world_size=world_size
        )
        return self._loader(some, batches, device, random=False)

    def _loader(
        self, pictures: Pictures, batches: EpochBatches, device: str | torch.device, random: bool
    ) -> StoredLoader:
        return StoredLoader(pictures, self._data, batches, device, self.digest, random, self._corrupt)


class StoredLoader:
    """Batches of stored pictures on a device; a `Loader`, as `fdsl.Feed` is one.

    One thread reads and others decode, at most two batches ahead: Pillow decodes and resizes without Python's lock, so
    that no process needs to be started and no picture copied between two. What comes is a function of the seed alone:
    the number of threads changes nothing, and a resumed iteration goes on with the next picture.

    Args:
        pictures: what is read.
        data: how it is seen.
        batches: in which order, and of which rank.
        device: where batches are handed over.
        digest: of the source, part of the state.
        random: random views, or the middle.
        corrupt: takes what cannot be decoded.
    """

    def __init__(
        self,
        pictures: Pictures,
        data: Data,
        batches: EpochBatches,
        device: str | torch.device,
        digest: str,
        random: bool,
        corrupt: _Corrupt,
    ) -> None:
        self.batches, self.device = batches, torch.device(device)
        self._pictures, self._framing, self._random, self._corrupt = pictures, Framing(data), random, corrupt
        self._digest, self._seed = digest, data.seed
        self._shape = (data.channels, data.size, data.size)
        self._threads = cpu.thread_count(None)
        self._batch_samples = 0
        self._timer = StallTimer(marks_of(self.device))

    def __len__(self) -> int:
        """Batches of the epoch that is under way or comes next: those handed over and those left."""
        return len(self.batches)

    @property
    def epoch(self) -> int:
        """The epoch that is under way, or comes next."""
        return self.batches.epoch

    @property
    def loss_weight(self) -> float:
        """What each sample of the batch last handed over weighs; see `Feed.loss_weight`.

        Raises:
            RuntimeError: no batch was handed over yet.
        """
        if not self._batch_samples:
            raise RuntimeError("loss_weight is of the batch last handed over; expected one before it is asked for")
        return self.batches.world_size / self._batch_samples

    def set_epoch(self, epoch: int) -> None:
        """Makes `epoch` the one that the next iteration gives."""
        self.batches.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is: plain numbers and strings, the same on all ranks."""
        return self._identity() | self.batches.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The next iteration continues where `state` was taken.

        Raises:
            ValueError: the state is of other pictures or another order, or is none; names the field and both values.
        """
        checked_state(state, self._identity(), self.batches.samples)
        self.batches.load_state_dict(state)

    def _identity(self) -> dict[str, Any]:
        return {"dataset": self._digest} | self._pictures.place(self.batches)

    def stats(self) -> FeedStats:
        """What the loader has cost since it was made; drawing is reading and decoding with all threads."""
        return self._timer.stats()

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        # At once, so that len() and state_dict() are of this iteration before its first batch is asked for.
        self.batches.prepare()
        return self._iterate()

    def _iterate(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        batches, epoch = self.batches, self.batches.epoch
        starts = batches.begin()
        reading = self._pictures.read(batches, starts, epoch)
        pending: deque[Future[_Batch]] = deque()
        self._timer.begin()
        reader = ThreadPoolExecutor(1, "fdsl-reader", *thread_on(self.device))
        decoders = ThreadPoolExecutor(self._threads, "fdsl-decoder")
        try:
            for number in range(len(starts)):
                while len(pending) < min(_AHEAD, len(starts) - number):
                    pending.append(reader.submit(self._begin_batch, reading, decoders, epoch))
                self._timer.ask(ready=sum(batch.done() and batch.result().done() for batch in pending))
                batch = pending.popleft().result()
                seconds, broken = batch.wait()
                if number + 1 + len(pending) < len(starts):
                    pending.append(reader.submit(self._begin_batch, reading, decoders, epoch))
                if broken:
                    self._corrupt.leave_out(batch, broken, stand_in=self._random)
                self._batch_samples = batches.batch_samples(batches.position)
                batches.advance()
                images, labels = (tensor.to(self.device, non_blocking=True) for tensor in (batch.images, batch.labels))
                self._timer.receive(len(labels), partial(float, seconds / self._threads))
                yield images, labels
            self._timer.end()
            batches.end(epoch)
        finally:
            for future in pending:
                future.cancel()
            reader.shutdown(wait=True)
            reading.close()
            decoders.shutdown(wait=True)
            self._corrupt.report()  # of an epoch that is left early too

    def _begin_batch(self, reading: Iterator[list[Piece]], decoders: ThreadPoolExecutor, epoch: int) -> _Batch:
        pieces, pinned = next(reading), self.device.type == "cuda"
        images = torch.empty((len(pieces), *self._shape), dtype=torch.uint8, pin_memory=pinned)
        labels = torch.tensor([piece.label for piece in pieces], dtype=torch.int64)
        rows = images.numpy()
        tasks = [
            decoders.submit(self._decode, pieces[start : start + _AT_ONCE], rows[start : start + _AT_ONCE], epoch)
            for start in range(0, len(pieces), _AT_ONCE)
        ]
        return _Batch(images, labels.pin_memory() if pinned else labels, [piece.name for piece in pieces], tasks)

    def _decode(self, pieces: list[Piece], rows: NDArray[np.uint8], epoch: int) -> tuple[float, list[str]]:
        began, reasons = time.perf_counter(), []
        for piece, row in zip(pieces, rows, strict=True):
            content = piece.load()
            try:
                image = decoded(content, len(row))
            except Exception as error:  # decoders raise many kinds for damaged files
                reasons.append(str(error).partition("\n")[0] or type(error).__name__)
                continue
            if self._random:
                row[:] = self._framing.random(image, (self._seed, piece.number, epoch, piece.repeat))
            else:
                row[:] = self._framing.central(image)
            reasons.append("")
        return time.perf_counter() - began, reasons


@dataclass
class _Batch:
    """A batch that is being decoded."""

    images: torch.Tensor
    labels: torch.Tensor
    names: list[str]
    tasks: list[Future[tuple[float, list[str]]]]

    def done(self) -> bool:
        """Whether all is decoded."""
        return all(task.done() for task in self.tasks)

    def wait(self) -> tuple[float, dict[int, str]]:
        """Seconds that decoding took all threads together, and what is wrong with which picture."""
        results = [task.result() for task in self.tasks]
        reasons = [reason for _, some in results for reason in some]
        return sum(seconds for seconds, _ in results), {place: why for place, why in enumerate(reasons) if why}


class _Corrupt:
    """Pictures that cannot be decoded, by name."""

    def __init__(self, skip: bool) -> None:
        self.skip, self.names, self._reported = skip, set[str](), 0

    def leave_out(self, batch: _Batch, broken: dict[int, str], stand_in: bool) -> None:
        """Takes the broken pictures out of a batch.

        Raises:
            ValueError: they are not to be skipped, or the batch has no others.
        """
        place, reason = next(iter(broken.items()))
        if not self.skip:
            expected = "expected a picture, or skip_corrupt, which leaves such out"
            raise ValueError(f"{batch.names[place]}: cannot be decoded ({reason}); {expected}")
        self.names.update(batch.names[place] for place in broken)
        good = [place for place in range(len(batch.names)) if place not in broken]
        if stand_in and not good:
            raise ValueError(f"{batch.names[place]}: cannot be decoded ({reason}), nor any other picture of its batch")
        if stand_in:
            for place in broken:
                # The next good one, after the last one the first.
                other = next((after for after in good if after > place), good[0])
                batch.images[place], batch.labels[place] = batch.images[other], batch.labels[other]
        else:
            batch.images, batch.labels = batch.images[good], batch.labels[good]

    def report(self) -> None:
        """Warns of what was left out, if that has grown."""
        if len(self.names) > self._reported:
            self._reported = len(self.names)
            names = sorted(self.names)
            more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
            left_out = f"{len(names):,} pictures cannot be decoded and were left out"
            warnings.warn(f"{left_out}: {', '.join(names[:_NAMED])}{more}", stacklevel=2)


def at_most(limit: int | None, images: int) -> int:
    """The limit, or all; a ValueError where it is no number of at least 1."""
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ValueError(f"limit is {limit!r}; expected a whole number of at least 1, or None")
    return images if limit is None else min(limit, images)


def keyed_share(seed: int, name: str) -> float:
    """A number from 0 to under 1 that depends on the seed and the name alone: what is under a share is held out.

    >>> keyed_share(0, "cat/1.png") == keyed_share(0, "cat/1.png")
    True
    """
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:6], "big") / 2**48


class FilesIn:
    """The bytes of files of a folder, by number."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._folder, self._names = folder, names

    def __getitem__(self, number: int) -> bytes:
        return (self._folder / self._names[number]).read_bytes()
