"""Feed: batches of a Dataset on a device, in a shuffled order, drawn ahead of training."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

try:
    import torch
except ImportError as error:
    raise ImportError("fdsl.Feed needs torch, which is not installed; pip install 'fdsl[torch]'") from error

from fdsl.datasets import IndexedPictures
from fdsl.engines import check_gpu
from fdsl.order import EpochBatches, checked_state
from fdsl.stalls import FeedStats, HostMark, Mark, StallTimer

# A tensor of classes, or a dict of tensors for each picture where the labels are dense.
Labels = Any
_Batch = tuple[torch.Tensor, Labels]


class Feed:
    """An iterable of (images, labels) that ends with the epoch; the next iteration is the next epoch.

    images: uint8 tensor (B, channels, size, size); labels: int64 tensor (B,), or a list of B dicts of tensors where the
    dataset's labels are dense; both on `device`. Rendering runs in threads of its own, at most `ahead` batches before
    the caller. On a CUDA device batches come through pinned memory, copied on the stream that is current when they are
    asked for. `stats()` says what the caller waits for them.

    Args:
        dataset: what to draw.
        batch_size: of this rank. Or:
        global_batch_size: of all ranks together, cut into slices as even as it goes.
        device: "cpu", "cuda", "cuda:1", ...
        shuffle_seed: keys the order; None keeps the dataset's own.
        repeats: how often each sample comes in an epoch, each time with another view.
        drop_last: leave out the last batch if it is short.
        ahead: batches drawn before they are asked for.
        threads: of the rendering; None uses the processors there are.
        rank, world_size: None asks torch.distributed, else the launcher (torchrun, Open MPI, PMI, Slurm).
        node_local, nodes: shuffle only what each node holds, as loaders of shards do; see `EpochBatches`.

    Raises:
        ValueError: an argument is out of its range.
        RuntimeError: the device is not there.

    >>> import fdsl
    >>> dataset = fdsl.Dataset(fdsl.search("fractaldb", categories=2), instances=10)
    >>> [len(labels) for images, labels in fdsl.Feed(dataset, batch_size=8)]
    [8, 8, 4]
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
        rank: int | None = None,
        world_size: int | None = None,
        node_local: str | None = None,
        nodes: int | None = None,
    ) -> None:
        if isinstance(ahead, bool) or not isinstance(ahead, int) or ahead < 1:
            raise ValueError(f"ahead is {ahead!r}; expected a whole number of batches of at least 1")
        self.dataset = dataset
        self.device = torch.device(device)
        if self.device.type not in ("cpu", "cuda"):
            raise ValueError(f"device is {str(device)!r}; expected 'cpu' or 'cuda'")
        if self.device.type == "cuda":
            check_gpu(self.device)
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
        self._threads = threads
        self._batch_samples = 0
        self._timer = StallTimer(HostMark if self.device.type == "cpu" else self._event)

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
        starts = iter(batches.begin())
        pending: deque[Future[tuple[_Batch, float]]] = deque()
        self._timer.begin()
        pool = ThreadPoolExecutor(1, "fdsl-feed", *self._on_device())
        try:
            for start in starts:
                pending.append(pool.submit(_timed, self._draw, start, epoch))
                if len(pending) == self._ahead:
                    break
            while pending:
                self._timer.ask(ready=sum(batch.done() for batch in pending))
                pending[0].result()
                for start in starts:
                    pending.append(pool.submit(_timed, self._draw, start, epoch))
                    break
                self._batch_samples = batches.batch_samples(batches.position)
                batches.advance()
                yield self._hand_over(*pending.popleft().result())
            self._timer.end()
            batches.end(epoch)
        finally:
            # Not by shutdown(cancel_futures=True), which fails where Python ends before the iteration.
            for batch in pending:
                batch.cancel()
            pool.shutdown(wait=True)

    def _hand_over(self, batch: _Batch, drawing_s: float) -> _Batch:
        # Pinned memory may be let go of at once: torch reuses it only after the stream has copied from it.
        to_device = partial(torch.Tensor.to, device=self.device, non_blocking=True)
        images, labels = to_device(batch[0]), _each(batch[1], to_device)
        self._timer.receive(len(labels), drawing_s)
        return images, labels

    def _event(self) -> Mark:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        mark: Mark = event
        return mark

    def _on_device(self) -> tuple[Any, ...]:
        # A thread begins on the first GPU, and pinning there would take up its memory for the ranks of all others.
        if self.device.type == "cpu":
            return ()
        index = torch.cuda.current_device() if self.device.index is None else self.device.index
        return torch.cuda.set_device, (index,)

    def _draw(self, position: int, epoch: int) -> tuple[torch.Tensor, Labels]:
        indices, repeats = self.batches.slice_at(position, epoch)
        spec, pinned = self.dataset.spec, self.device.type == "cuda"
        shape = (len(indices), spec.image_channels, spec.size, spec.size)
        images = torch.empty(shape, dtype=torch.uint8, pin_memory=pinned)
        _, labels = self.dataset.batch(indices, epoch=epoch, repeat=repeats, out=images.numpy(), threads=self._threads)
        drawn = _each(labels, torch.from_numpy)
        return images, _each(drawn, torch.Tensor.pin_memory) if pinned else drawn


def _timed(draw: Callable[[int, int], _Batch], position: int, epoch: int) -> tuple[_Batch, float]:
    began = time.perf_counter()
    return draw(position, epoch), time.perf_counter() - began


def _each(labels: Any, change: Callable[[Any], torch.Tensor]) -> Labels:
    """Labels with `change` done to each array or tensor of theirs."""
    if isinstance(labels, list):
        return [{name: change(array) for name, array in target.items()} for target in labels]
    return change(labels)
