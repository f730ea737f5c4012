"""The order in which an epoch visits a dataset: a keyed permutation, evaluated per position."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fdsl import _core
from fdsl.keyed import check_seed
from fdsl.ranks import this_rank


class EpochOrder:
    """A permutation of [0, size) for each epoch, without memory or start-up, for up to 2^48 items.

    A Feistel network with cycle walking (kernels/shared/order.h). Its bytes are final: an order is the same in every
    release, on every machine.

    Args:
        size: how many items.
        seed: keys the permutations.

    Raises:
        ValueError: the size or the seed is out of range.

    >>> order = EpochOrder(5, seed=0)
    >>> sorted(order.at(range(5), epoch=3).tolist())
    [0, 1, 2, 3, 4]
    """

    def __init__(self, size: int, seed: int = 0) -> None:
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or not 1 <= size <= 2**48:
            raise ValueError(f"size is {size!r}; expected a whole number from 1 to 2**48")
        self.size, self.seed = int(size), check_seed(seed)

    def at(self, positions: ArrayLike, epoch: int = 0) -> NDArray[np.int64]:
        """The indices at `positions` (integers in [0, size), any shape) of an epoch: int64 of the same shape.

        Raises:
            IndexError: a position is out of range.
            ValueError: the epoch is not a whole number from 0 to 2^32 - 1.
        """
        if not isinstance(epoch, (int, np.integer)) or not 0 <= epoch < 2**32:
            raise ValueError(f"epoch is {epoch!r}; expected a whole number from 0 to 2**32 - 1")
        indices = np.array(positions, np.int64)
        if indices.size and (indices.min() < 0 or indices.max() >= self.size):
            raise IndexError(f"positions run from {indices.min()} to {indices.max()}; expected 0 to {self.size - 1}")
        _core.epoch_order(self.seed, int(epoch), self.size, indices.reshape(-1))
        return indices


class EpochBatches:
    """The batches of an epoch, and this rank's slice of each: what Feed draws, and a `batch_sampler` for DataLoader.

    The order is global: batch after batch is cut from it, and each rank takes its slice of each. The slices of a batch
    differ by at most one sample, so the last batch of an epoch may leave a rank with fewer samples, or none.

    Args:
        size: samples of the dataset.
        batch_size: samples of a batch on this rank. Or:
        global_batch_size: samples of a batch on all ranks together; what it holds depends on no number of ranks.
        shuffle_seed: keys the order; None keeps the dataset's own.
        repeats: how often each sample comes in an epoch (repeated augmentation), one after the other in the order.
        drop_last: leave out the last batch if it is short.
        rank, world_size: None asks torch.distributed, else the launcher (torchrun, Open MPI, PMI, Slurm).

    Iterated, it yields lists of (epoch, repeat, index), so that DataLoader workers that live on see each new epoch:

    >>> batches = EpochBatches(5, batch_size=2, shuffle_seed=None)
    >>> list(batches)[-1]
    [(0, 0, 4)]
    """

    def __init__(
        self,
        size: int,
        batch_size: int | None = None,
        *,
        global_batch_size: int | None = None,
        shuffle_seed: int | None = 0,
        repeats: int = 1,
        drop_last: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        if (batch_size is None) == (global_batch_size is None):
            raise ValueError(
                f"batch_size is {batch_size!r} and global_batch_size is {global_batch_size!r}; expected one of them"
            )
        for name, value in (("batch_size", batch_size), ("global_batch_size", global_batch_size), ("repeats", repeats)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} is {value!r}; expected a whole number of at least 1")
        if repeats > 4096:
            raise ValueError(f"repeats is {repeats}; expected at most 4096")
        if rank is None or world_size is None:
            here = this_rank()
            rank = here.rank if rank is None else rank
            world_size = here.world_size if world_size is None else world_size
        self.rank, self.world_size = rank, world_size
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank is {self.rank} of world_size {self.world_size}; expected 0 <= rank < world_size")
        self.global_batch_size = global_batch_size or (batch_size or 0) * self.world_size
        if self.global_batch_size < self.world_size:
            raise ValueError(
                f"global_batch_size is {global_batch_size}; expected one per rank or more, {self.world_size}"
            )
        self.order = EpochOrder(size, shuffle_seed or 0)
        self.shuffle_seed, self.repeats, self.drop_last = shuffle_seed, repeats, drop_last
        self.epoch = 0
        samples = size * repeats
        self.samples = samples - samples % self.global_batch_size if drop_last else samples
        if not self.samples:
            raise ValueError(f"a batch of {self.global_batch_size} is larger than the epoch's {samples} samples")

    def __len__(self) -> int:
        return -(-self.samples // self.global_batch_size)

    def set_epoch(self, epoch: int) -> None:
        """The epoch whose order the next iteration follows."""
        self.epoch = epoch

    def slice_at(self, position: int, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """This rank's part of the batch that starts at a position of the global order: (indices, repeats), int64."""
        count = min(self.global_batch_size, self.samples - position)
        start = position + count * self.rank // self.world_size
        end = position + count * (self.rank + 1) // self.world_size
        places, repeats = np.divmod(np.arange(start, end), self.repeats)
        return (places if self.shuffle_seed is None else self.order.at(places, epoch)), repeats

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        for position in range(0, self.samples, self.global_batch_size):
            indices, repeats = self.slice_at(position, self.epoch)
            yield [
                (self.epoch, repeat, index) for repeat, index in zip(repeats.tolist(), indices.tolist(), strict=True)
            ]
