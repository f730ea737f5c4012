from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdsl import EpochOrder
from fdsl.order import EpochBatches


@given(size=st.integers(1, 3000), seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 2**32 - 1))
def test_every_epoch_is_a_permutation(size: int, seed: int, epoch: int) -> None:
    indices = EpochOrder(size, seed).at(np.arange(size), epoch)
    assert np.array_equal(np.sort(indices), np.arange(size))


def test_its_bytes_are_final() -> None:
    assert EpochOrder(10, seed=0).at(range(10), epoch=0).tolist() == [2, 7, 4, 9, 5, 0, 3, 6, 8, 1]
    huge = EpochOrder(2**48, seed=2**64 - 1).at([0, 1, 2**47], epoch=2**32 - 1)
    assert huge.tolist() == [174783785650713, 240347374043713, 197126787240656]


@pytest.mark.parametrize("size", [2, 3, 4])
def test_small_permutations_are_uniform(size: int) -> None:
    orders = [EpochOrder(size, seed) for seed in range(60)]
    counts = Counter(tuple(order.at(range(size), epoch).tolist()) for order in orders for epoch in range(40))
    permutations = list(itertools.permutations(range(size)))
    expected = 2400 / len(permutations)
    chi_square = sum((counts[p] - expected) ** 2 / expected for p in permutations)
    assert chi_square < 3 * len(permutations) + 12  # far out in the tail for size! - 1 degrees of freedom


@pytest.mark.parametrize("size", [1000, 1_000_003, 300_000_000, 2**48])
def test_positions_are_spread_evenly_and_neighbours_do_not_stay_together(size: int) -> None:
    order = EpochOrder(size, seed=1)
    indices = order.at(np.arange(1000) + (size - 1000) // 2, epoch=1)
    buckets = np.bincount((indices / size * 20).astype(int), minlength=20)
    assert ((buckets - 50) ** 2 / 50).sum() < 60
    assert abs(np.corrcoef(indices[:-1], indices[1:])[0, 1]) < 0.12
    assert (indices != order.at(np.arange(1000) + (size - 1000) // 2, epoch=2)).mean() > 0.9


@pytest.mark.parametrize("arguments", [{"size": 0}, {"size": 2**48 + 1}, {"size": 5, "seed": -1}, {"size": True}])
def test_bad_arguments_are_named(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        EpochOrder(**arguments)
    with pytest.raises(IndexError, match="expected 0 to 4"):
        EpochOrder(5).at([5])
    with pytest.raises(ValueError, match="epoch is -1"):
        EpochOrder(5).at([0], epoch=-1)


@given(
    size=st.integers(1, 200),
    world_size=st.integers(1, 7),
    per_rank=st.integers(1, 9),
    repeats=st.integers(1, 3),
    drop_last=st.booleans(),
)
def test_ranks_share_each_global_batch(
    size: int, world_size: int, per_rank: int, repeats: int, drop_last: bool
) -> None:
    total = per_rank * world_size
    keywords = {"global_batch_size": total, "repeats": repeats, "drop_last": drop_last, "shuffle_seed": 4}
    if drop_last and size * repeats < total:
        with pytest.raises(ValueError, match="larger than the epoch"):
            EpochBatches(size, rank=0, world_size=1, **keywords)
        return
    alone = list(EpochBatches(size, rank=0, world_size=1, **keywords))
    shared = [list(EpochBatches(size, rank=rank, world_size=world_size, **keywords)) for rank in range(world_size)]
    assert [sum((ranks[i] for ranks in shared), []) for i in range(len(alone))] == alone
    assert all(max(map(len, part)) - min(map(len, part)) <= 1 for part in zip(*shared, strict=True))
    keys = Counter(sum(alone, []))
    if not drop_last:
        assert keys == Counter((0, repeat, index) for repeat in range(repeats) for index in range(size))


def test_batch_size_is_of_a_rank() -> None:
    batches = EpochBatches(100, 4, rank=1, world_size=3)
    assert len(batches) == 9
    assert [len(batch) for batch in batches] == [4] * 8 + [1]
    batches.set_epoch(2)
    assert next(iter(batches))[0][0] == 2


@pytest.mark.parametrize(
    "arguments",
    [{}, {"batch_size": 0}, {"batch_size": 1, "global_batch_size": 1}, {"global_batch_size": 1, "world_size": 2}]
    + [{"batch_size": 1, "rank": 2, "world_size": 2}, {"batch_size": 1, "repeats": 5000}],
)
def test_bad_batches_are_named(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        EpochBatches(10, **({"rank": 0, "world_size": 1} | arguments))
