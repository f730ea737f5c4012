"""The order in which an epoch visits a dataset: a keyed permutation, evaluated per position."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fdsl import _core, keyed
from fdsl.keyed import check_seed
from fdsl.ranks import Rank, this_rank


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
    differ by at most one sample, so the last batch of an epoch may leave a rank with fewer samples, or none. Where the
    epoch is, is counted in samples of that order, so that it goes on with other batches and other ranks.

    With `node_local` each node holds a fixed part of the dataset, as if it had its own shards, and shuffles that: then
    every batch takes as much from each node's part, and the node's ranks share it. That is what a loader of shards
    does that gives each node some; it is here so that what training loses by it can be measured.

    Args:
        size: samples of the dataset.
        batch_size: samples of a batch on this rank. Or:
        global_batch_size: samples of a batch on all ranks together; what it holds depends on no number of ranks.
        shuffle_seed: keys the order; None keeps the dataset's own.
        repeats: how often each sample comes in an epoch (repeated augmentation), one after the other in the order.
        drop_last: leave out the last batch if it is short.
        rank, world_size: None asks torch.distributed, else the launcher (torchrun, Open MPI, PMI, Slurm).
        node_local: None shuffles all together; "shuffled" gives each node a random part of the dataset, "category" a
            run of the dataset's own order, as shards written in that order hold it.
        nodes: for `node_local`, over how many nodes the ranks go in blocks; None asks the launcher, which also tells
            blocks from other ways to place them.

    Raises:
        ValueError: an argument is out of its range; nothing tells the nodes.

    Iterated, it yields lists of (epoch, repeat, index), so that DataLoader workers that live on see each new epoch; the
    next iteration is the next epoch. One iteration goes on at a time.

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
        node_local: str | None = None,
        nodes: int | None = None,
    ) -> None:
        if (batch_size is None) == (global_batch_size is None):
            raise ValueError(
                f"batch_size is {batch_size!r} and global_batch_size is {global_batch_size!r}; expected one of them"
            )
        for name, value in (
            ("batch_size", batch_size),
            ("global_batch_size", global_batch_size),
            ("repeats", repeats),
            ("nodes", nodes),
        ):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} is {value!r}; expected a whole number of at least 1")
        if repeats > 4096:
            raise ValueError(f"repeats is {repeats}; expected at most 4096")
        if (rank is None) != (world_size is None):
            raise ValueError(f"rank is {rank!r} and world_size is {world_size!r}; expected both or neither")
        self._found = this_rank() if rank is None or world_size is None else None
        here = self._found or Rank(rank or 0, world_size or 0)
        self.rank, self.world_size = here.rank, here.world_size
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank is {self.rank} of world_size {self.world_size}; expected 0 <= rank < world_size")
        self.global_batch_size = global_batch_size or (batch_size or 0) * self.world_size
        if self.global_batch_size < self.world_size:
            raise ValueError(
                f"global_batch_size is {global_batch_size}; expected one per rank or more, {self.world_size}"
            )
        self.order = EpochOrder(size, shuffle_seed or 0)
        self.shuffle_seed, self.repeats, self.drop_last, self.node_local = shuffle_seed, repeats, drop_last, node_local
        self.nodes = nodes
        self._part = None if node_local is None else self._part_of(here)
        self.samples = size * repeats
        if drop_last and self.samples < self.global_batch_size:
            raise ValueError(f"a batch of {self.global_batch_size} is larger than the epoch's {self.samples} samples")
        # The epoch that is under way or comes next; the samples and batches of it that were handed over.
        self.epoch = self.position = self.batches = 0
        self._resume, self._begun = (0, 0), False

    def _part_of(self, here: Rank) -> _NodePart:
        if self.node_local not in ("shuffled", "category"):
            raise ValueError(f"node_local is {self.node_local!r}; expected None, 'shuffled' or 'category'")
        if self.shuffle_seed is None:
            raise ValueError("shuffle_seed is None; expected a seed, with which node_local shuffles")
        node, local_rank, local_size = here.node, here.local_rank, here.local_size
        if self.nodes is None:
            self.nodes = here.nodes
        else:
            local_size = self.world_size // self.nodes
            if local_size * self.nodes != self.world_size:
                raise ValueError(f"nodes is {self.nodes}; expected a divisor of world_size {self.world_size}")
            node, local_rank = divmod(self.rank, local_size)
        if self.nodes is None or node is None or local_rank is None or local_size is None:
            raise ValueError(f"nodes is None and nothing tells the node of rank {self.rank}; expected nodes=")
        if self.nodes > self.order.size:
            raise ValueError(f"nodes is {self.nodes}; expected at most one per sample, {self.order.size}")
        return _NodePart(self.order, self.node_local, node, self.nodes, local_rank, local_size)

    def __len__(self) -> int:
        """Batches of the epoch that is under way or comes next: those handed over and those left.

        It differs from other epochs' only in one that was resumed with another size of the global batch.
        """
        return self.batches + self._left(self.position)

    def _left(self, position: int) -> int:
        samples = self.samples - position
        return samples // self.global_batch_size if self.drop_last else -(-samples // self.global_batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Makes `epoch` the one that the next iteration follows, from its start; nothing if it is under way."""
        if epoch != self.epoch or self._finished:
            self._go_to(epoch, 0, 0)

    def count_from(self, batches: int) -> None:
        """Makes the next iteration, from the epoch's start, count as if so many batches had been handed over."""
        self._go_to(self.epoch, 0, batches)

    def _go_to(self, epoch: int, position: int, batches: int) -> None:
        self.epoch, self.position, self.batches = epoch, position, batches
        self._resume, self._begun = (position, batches), False

    @property
    def _finished(self) -> bool:
        return self._begun and not self._left(self.position)

    def batch_samples(self, position: int) -> int:
        """How many samples the batch that starts at a position of the global order has, on all ranks together."""
        return min(self.global_batch_size, self.samples - position)

    def slice_at(self, position: int, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """This rank's part of the batch that starts at a position of the global order: (indices, repeats), int64."""
        start, count = position, self.batch_samples(position)
        if self._part is not None:
            places, repeats = np.divmod(np.arange(start, start + count), self.repeats)
            return self._part.share(places, repeats, epoch)
        mine = slice_of(count, self.rank, self.world_size)
        places, repeats = np.divmod(np.arange(start + mine.start, start + mine.stop), self.repeats)
        return (places if self.shuffle_seed is None else self.order.at(places, epoch)), repeats

    def prepare(self) -> None:
        """Before an iteration: after an epoch's last batch comes the next epoch; ranks are checked if they were found.

        Raises:
            RuntimeError: torch.distributed was initialised since, and says another rank.
        """
        now = this_rank() if self._found else None
        if now and now.launcher == "torch.distributed" and (now.rank, now.world_size) != (self.rank, self.world_size):
            raise RuntimeError(
                f"this order is of rank {self.rank} of {self.world_size}, and torch.distributed says {now.rank} of "
                f"{now.world_size}; expected it to be initialised first (with Lightning: FeedDataModule)"
            )
        if self._finished:
            self._go_to(self.epoch + 1, 0, 0)
        self.position, self.batches = self._resume

    def begin(self) -> range:
        """Starts what `prepare` prepared: the positions at which the batches of the iteration start."""
        (self.position, self.batches), self._resume, self._begun = self._resume, (0, 0), True
        step = self.global_batch_size
        return range(self.position, self.position + self._left(self.position) * step, step)

    def advance(self) -> None:
        """Counts a batch that was handed over."""
        self.position += self.batch_samples(self.position)
        self.batches += 1

    def end(self, epoch: int) -> None:
        """Ends an iteration over `epoch`: the next one is over the next epoch, unless another was set meanwhile."""
        if self.epoch == epoch:
            self._go_to(epoch + 1, 0, 0)

    def state_dict(self) -> dict[str, Any]:
        """What the order is and where it is: plain numbers and strings, the same on all ranks.

        Taken after an epoch's last batch, it resumes with the empty rest of that epoch, so that a loop that counts
        epochs itself counts right; once the iteration has ended it is the start of the next epoch.
        """
        return self._identity() | dict(zip(_WHERE, (self.epoch, self.position, self.batches), strict=True))

    def _identity(self) -> dict[str, Any]:
        return {
            "size": self.order.size,
            "shuffle_seed": self.shuffle_seed,
            "repeats": self.repeats,
            "node_local": self.node_local,
            "nodes": None if self.node_local is None else self.nodes,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The next iteration continues where `state` was taken, in O(1); also with other batches and other ranks.

        Raises:
            ValueError: the state is of another order, or is none; names the field and both values.
        """
        self._go_to(*checked_state(state, self._identity(), self.samples))

    @property
    def sampler(self) -> EpochBatches:
        """Itself: Lightning calls `set_epoch` of a batch sampler's sampler."""
        return self

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        self.prepare()
        return self._iterate()

    def _iterate(self) -> Iterator[list[tuple[int, int, int]]]:
        epoch = self.epoch
        for start in self.begin():
            indices, repeats = self.slice_at(start, epoch)
            self.advance()
            yield [(epoch, repeat, index) for repeat, index in zip(repeats.tolist(), indices.tolist(), strict=True)]
        self.end(epoch)


class _NodePart:
    """The part of a dataset that one node holds, in an order of its own each epoch; and a rank's share of it.

    Place q of an epoch is of node q mod nodes, whose place q // nodes it is: every batch takes as much from each node.
    """

    def __init__(self, order: EpochOrder, kind: str, node: int, nodes: int, local_rank: int, local_size: int) -> None:
        self._node, self._nodes, self._local_rank, self._local_size = node, nodes, local_rank, local_size
        # Parts are runs of the dataset's order or of a fixed, keyed one; the first size mod nodes have one sample more.
        each, more = divmod(order.size, nodes)
        self._offset = node * each + min(node, more)
        self._cut = order if kind == "shuffled" else None
        low, high = keyed.words(order.seed, keyed.Purpose.ORDER, category=node, number=1)[:2].tolist()
        self._order = EpochOrder(each + (node < more), low | high << 32)

    def share(
        self, places: NDArray[np.int64], repeats: NDArray[np.int64], epoch: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The (indices, repeats) that this rank takes of a batch of (places, repeats)."""
        on_node = np.flatnonzero(places % self._nodes == self._node)
        mine = on_node[slice_of(len(on_node), self._local_rank, self._local_size)]
        held = self._offset + self._order.at(places[mine] // self._nodes, epoch)
        return (held if self._cut is None else self._cut.at(held)), repeats[mine]


def slice_of(count: int, rank: int, world_size: int) -> slice:
    """The part of `count` samples that a rank takes; parts differ by at most one.

    >>> [slice_of(5, rank, 2) for rank in (0, 1)]
    [slice(0, 2, None), slice(2, 5, None)]
    """
    return slice(count * rank // world_size, count * (rank + 1) // world_size)


_WHERE = ("epoch", "position", "batches")


def checked_state(state: Mapping[str, Any], identity: Mapping[str, Any], samples: int) -> tuple[int, int, int]:
    """The epoch, position and batches of a state that is of this identity.

    Raises:
        ValueError: a field is missing, of something else or out of its range; names it and both values.
    """
    if not isinstance(state, Mapping):
        raise ValueError(f"feed state is {state!r}; expected what state_dict() gave")
    for name in (*identity, *_WHERE):
        if name not in state:
            raise ValueError(f"feed state has no {name}; expected what state_dict() gave")
    for name, value in identity.items():
        if state[name] != value:
            raise ValueError(f"feed state has {name} {state[name]!r}, this feed {value!r}; expected the same")
    epoch, position, batches = (state[name] for name in _WHERE)
    for name, value, limit in zip(_WHERE, (epoch, position, batches), (2**32 - 1, samples, 2**62), strict=True):
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= limit:
            raise ValueError(f"feed state has {name} {value!r}; expected a whole number from 0 to {limit}")
    return epoch, position, batches
