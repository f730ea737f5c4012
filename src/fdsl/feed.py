"""Feed: batches of a Dataset on a device, in a shuffled order, drawn ahead of training."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

try:
    import torch
except ImportError as error:
    raise ImportError("fdsl.Feed needs torch, which is not installed; pip install 'fdsl[torch]'") from error

from fdsl.datasets import IndexedPictures
from fdsl.engines import check_gpu, engine_for
from fdsl.engines.pixel_format import PixelFormat
from fdsl.engines.protocol import Engine
from fdsl.order import EpochBatches, checked_state
from fdsl.stalls import FeedStats, Mark, StallTimer
from fdsl.streams import SideStream, marks_of, thread_on

# A tensor of classes, or a dict of tensors for each picture where the labels are dense.
Labels = Any


class _Drawn(NamedTuple):
    """A batch on its device, and when its drawing began and was done there."""

    images: torch.Tensor
    labels: Labels
    began: Mark
    ready: Mark


class Feed:
    """An iterable of (images, labels) that ends with the epoch; the next iteration is the next epoch.

    images: tensor (B, channels, size, size), uint8 or of the dtype of `pixels`; labels: int64 tensor (B,), or a list of
    B dicts of tensors where the dataset's labels are dense; both on `device`. A thread draws at most `ahead` batches
    before the caller, and on a CUDA device before the GPU too. `stats()` says what the caller waits for them.

    On a CUDA device the GPU draws, on a stream of its own, unless `engine` says otherwise; what another engine draws
    comes there through pinned memory. The stream that is current when a batch is asked for waits for it, the host does
    not. Dense labels make the drawing thread wait, because it needs to know what is seen of each object.

    Args:
        dataset: what to draw.
        batch_size: of this rank. Or:
        global_batch_size: of all ranks together, cut into slices as even as it goes.
        device: "cpu", "cuda", "cuda:1", ..., or "auto": "cuda" where a GPU can draw, else "cpu".
            "gl" is "cpu", drawn with OpenGL.
        shuffle_seed: keys the order; None keeps the dataset's own.
        repeats: how often each sample comes in an epoch, each time with another view.
        drop_last: leave out the last batch if it is short.
        ahead: batches drawn before they are asked for.
        threads: of the cpu engine; None uses the processors there are.
        pixels: dtype, normalisation and memory layout of the images; None is plain bytes. The same bits on every
            device: the cuda engine writes them itself, what others draw is looked up in the drawing thread, in one pass
            that takes about as long as it takes one core to draw.
        engine: what draws; None is the cuda engine on a CUDA device, else the cpu engine. With
            `fdsl.engines.cpu.Engine()` the processors draw for a GPU that is too old, or has enough to do.
        rank, world_size: None asks torch.distributed, else the launcher (torchrun, Open MPI, PMI, Slurm).
        node_local, nodes: shuffle only what each node holds, as loaders of shards do; see `EpochBatches`.

    Raises:
        ValueError: an argument is out of its range, or two contradict each other.
        ImportError: the device is a GPU and what draws on it is not installed; the message names it.
        RuntimeError: the device is not there, or too old.
        torch.OutOfMemoryError: when a batch is asked for that the device has no room for.

    >>> import fdsl
    >>> dataset = fdsl.Dataset(fdsl.search("fractaldb", categories=2), instances=10)
    >>> [len(labels) for images, labels in fdsl.Feed(dataset, batch_size=8)]
    [8, 8, 4]
    >>> half = fdsl.PixelFormat("float16", mean=0.5, std=0.5)
    >>> next(iter(fdsl.Feed(dataset, batch_size=8, pixels=half)))[0].dtype
    torch.float16
    """

    def __init__(
        self,
        dataset: IndexedPictures,
        batch_size: int | None = None,
        *,
        global_batch_size: int | None = None,
        device: str | torch.device = "cpu",
        shuffle_seed: int | None = 0,
        repeats: int = 1,
        drop_last: bool = False,
        ahead: int = 2,
        threads: int | None = None,
        pixels: PixelFormat | None = None,
        engine: Engine | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        node_local: str | None = None,
        nodes: int | None = None,
    ) -> None:
        if isinstance(ahead, bool) or not isinstance(ahead, int) or ahead < 1:
            raise ValueError(f"ahead is {ahead!r}; expected a whole number of batches of at least 1")
        self.dataset = dataset
        if isinstance(engine, (str, type)):
            raise ValueError(f"engine is {engine!r}; expected one of fdsl.engines, such as cpu.Engine(), or None")
        self._engine = engine_for(str(device), threads, pixels) if engine is None else engine
        self.device = _device(str(device), engine, self._engine)
        self.pixels = _checked_pixels(pixels, self._engine, dataset.spec.image_channels)
        if engine is not None and threads is not None:
            raise ValueError(f"threads is {threads!r} and engine is given; expected the engine's own, or no engine")
        self.batches = EpochBatches(
            len(dataset),
            batch_size,
            global_batch_size=global_batch_size,
            shuffle_seed=shuffle_seed,
            repeats=repeats,
            drop_last=drop_last,
            rank=rank,
            world_size=world_size,
            node_local=node_local,
            nodes=nodes,
        )
        self._ahead = ahead
        self._batch_samples = 0
        self._side = SideStream(self.device) if self.device.type == "cuda" else None
        self._mark = marks_of(self.device)
        self._timer = StallTimer(self._mark)

    def __len__(self) -> int:
        """Batches of the epoch that is under way or comes next: those handed over and those left."""
        return len(self.batches)

    @property
    def epoch(self) -> int:
        """The epoch that is under way, or comes next."""
        return self.batches.epoch

    @property
    def batch_sampler(self) -> EpochBatches:
        """The order, where a DataLoader has it: there Lightning looks for `set_epoch`."""
        return self.batches

    @property
    def loss_weight(self) -> float:
        """What each sample of the batch last handed over weighs: world size / samples of the batch on all ranks.

        DistributedDataParallel averages gradients over ranks, whose slices may be uneven, or empty. With

            loss = feed.loss_weight * cross_entropy(output, labels, reduction="sum")

        the average is the gradient of the mean over the global batch, as one process would have it.

        Raises:
            RuntimeError: no batch was handed over yet.
        """
        if not self._batch_samples:
            raise RuntimeError("loss_weight is of the batch last handed over; expected one before it is asked for")
        return self.batches.world_size / self._batch_samples

    def set_epoch(self, epoch: int) -> None:
        """Makes `epoch` the one that the next iteration draws; without it, each iteration draws the next one."""
        self.batches.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where the feed is: plain numbers and strings, the same on all ranks.

        The next sample is the first that was not handed over; see `EpochBatches.state_dict` for the end of an epoch.
        """
        return {"dataset": self.dataset.digest} | self.batches.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The next iteration continues where `state` was taken, also with another batch size or number of ranks.

        Raises:
            ValueError: the state is of another dataset or another order, or is none; names the field and both values.
        """
        checked_state(state, {"dataset": self.dataset.digest}, self.batches.samples)
        self.batches.load_state_dict(state)

    def stats(self) -> FeedStats:
        """What the feed has cost since it was made; at once, also where the device has not finished its steps.

        >>> feed = fdsl.Feed(dataset, batch_size=4)
        >>> for images, labels in feed:
        ...     pass
        >>> feed.stats().images
        20
        """
        return self._timer.stats()

    def __iter__(self) -> Iterator[tuple[torch.Tensor, Labels]]:
        # At once, so that len() and state_dict() are of this iteration before its first batch is asked for.
        self.batches.prepare()
        return self._iterate()

    def _iterate(self) -> Iterator[tuple[torch.Tensor, Labels]]:
        batches, epoch = self.batches, self.batches.epoch
        tasks = ((start, epoch, self._side and self._side.taken) for start in batches.begin())
        pending: deque[Future[_Drawn]] = deque()
        self._timer.begin()
        pool = ThreadPoolExecutor(1, "fdsl-feed", *thread_on(self.device))
        try:
            pending.extend(pool.submit(self._draw_ahead, *ahead) for ahead in islice(tasks, self._ahead))
            while pending:
                self._timer.ask(ready=sum(map(_is_ready, pending)))
                pending[0].result()
                pending.extend(pool.submit(self._draw_ahead, *ahead) for ahead in islice(tasks, 1))
                self._batch_samples = batches.batch_samples(batches.position)
                batches.advance()
                yield self._hand_over(pending.popleft().result())
            self._timer.end()
            batches.end(epoch)
        finally:
            # Not by shutdown(cancel_futures=True), which fails where Python ends before the iteration.
            for batch in pending:
                batch.cancel()
            pool.shutdown(wait=True)

    def _hand_over(self, drawn: _Drawn) -> tuple[torch.Tensor, Labels]:
        images, labels, began, ready = drawn
        if self._side:
            self._side.take([images, *_tensors(labels)], ready)
        self._timer.receive(len(labels), lambda: began.elapsed_time(ready) / 1e3)
        return images, labels

    def _draw_ahead(self, position: int, epoch: int, taken: Any) -> _Drawn:
        with self._side.after(taken) if self._side else nullcontext():
            began = self._mark()
            try:
                images, labels = self._draw(position, epoch)
            except torch.OutOfMemoryError as error:
                count, spec = len(self.batches.slice_at(position, epoch)[0]), self.dataset.spec
                asked = f"{count} pictures of {spec.image_channels} x {spec.size} x {spec.size} {self.pixels.dtype}"
                ahead = f"and of {self._ahead} such batches ahead"
                raise torch.OutOfMemoryError(
                    f"{self.device} has no room to draw {asked}, {ahead}; expected a smaller batch_size or ahead"
                ) from error
            return _Drawn(images, labels, began, self._mark())

    def _draw(self, position: int, epoch: int) -> tuple[torch.Tensor, Labels]:
        indices, repeats = self.batches.slice_at(position, epoch)
        spec, engine = self.dataset.spec, self._engine
        shape = (len(indices), spec.image_channels, spec.size, spec.size)
        images = self._empty(shape, PixelFormat()) if engine.device is None else engine.empty(shape)
        out = images.numpy() if engine.device is None else images
        _, labels = self.dataset.batch(indices, epoch=epoch, repeat=repeats, out=out, engine=engine)
        if self.pixels != engine.pixels:
            images = self._empty(shape, self.pixels)
            self.pixels.write(out, images.view(getattr(torch, f"int{8 * self.pixels.element_bytes}")).numpy())
        return images.to(self.device, non_blocking=True), self._on_device(labels)

    def _empty(self, shape: tuple[int, ...], pixels: PixelFormat) -> torch.Tensor:
        """Memory of the host's for pictures; pinned where they are to be copied to a GPU."""
        return torch.empty(
            shape,
            dtype=getattr(torch, pixels.dtype),
            pin_memory=self._side is not None,
            memory_format=torch.channels_last if pixels.channels_last else torch.contiguous_format,
        )

    def _on_device(self, labels: Any) -> Labels:
        """Labels as tensors on the device. Dense ones go there in one copy of each kind, not picture by picture."""
        if not isinstance(labels, list):
            return self._copied(labels)
        if self._side is None:
            return [{name: torch.as_tensor(array) for name, array in target.items()} for target in labels]
        lengths = [len(next(iter(target.values()))) for target in labels]
        columns: dict[str, Sequence[torch.Tensor]] = {}
        for name in labels[0] if labels else ():
            arrays = [target[name] for target in labels]
            there = isinstance(arrays[0], torch.Tensor)
            columns[name] = arrays if there else torch.split(self._copied(np.concatenate(arrays)), lengths)
        return [{name: column[row] for name, column in columns.items()} for row in range(len(labels))]

    def _copied(self, array: Any) -> torch.Tensor:
        # Pinned memory may be let go of at once: torch reuses it only after the stream has copied from it.
        tensor = torch.from_numpy(array)
        return tensor.pin_memory().to(self.device, non_blocking=True) if self._side else tensor


def _device(device: str, engine: Engine | None, drawing: Engine) -> torch.device:
    """Where batches are handed over: where the engine draws, unless one was given that draws elsewhere."""
    if engine is None or device == "auto":
        return torch.device("cpu" if drawing.device is None else drawing.device)
    try:
        named = torch.device(device)
    except RuntimeError:
        named = torch.device("meta")
    if named.type not in ("cpu", "cuda"):
        raise ValueError(f"device is {device!r}; expected 'auto', 'cpu', 'cuda' or 'cuda:N'")
    if named.type == "cuda":
        check_gpu(named, least=(0, 0))  # who draws need not be that GPU
        named = torch.device("cuda", torch.cuda.current_device() if named.index is None else named.index)
    if engine.device not in (None, named):
        raise ValueError(f"device is {device!r}, but the engine draws on {engine.device}; expected the same")
    return named


def _checked_pixels(pixels: PixelFormat | None, engine: Engine, channels: int) -> PixelFormat:
    """How images are written, by the engine or after it."""
    if pixels is None:
        pixels = engine.pixels
    elif not isinstance(pixels, PixelFormat):
        raise ValueError(f"pixels is {pixels!r}; expected an fdsl.PixelFormat(...) or None")
    elif engine.device is not None and pixels != engine.pixels:
        raise ValueError(f"pixels is {pixels!r}, but the engine writes {engine.pixels!r}; expected the same, or None")
    pixels.values(np.zeros((1, channels), np.uint8))  # whose error names what does not fit
    return pixels


def _tensors(labels: Labels) -> Iterator[torch.Tensor]:
    """Those of a batch's labels."""
    if not isinstance(labels, list):
        yield labels
        return
    for target in labels:
        yield from target.values()


def _is_ready(batch: Future[_Drawn]) -> bool:
    """Whether a batch lies on its device."""
    return batch.done() and (batch.exception() is not None or batch.result().ready.query())
