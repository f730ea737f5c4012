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


SIZES_AROUND_POWERS = sorted(
    {2**k + d for k in range(8, 18) for d in (-1, 0, 1)} | {n * n + d for n in (77, 300) for d in (0, 1)}
)


def test_every_size_has_permutations() -> None:
    for size in [*range(1, 401), *SIZES_AROUND_POWERS]:
        for seed, epoch in ((0, 0), (size, 1), (2**64 - 1, 2**32 - 1)):
            indices = EpochOrder(size, seed).at(np.arange(size), epoch)
            assert np.array_equal(np.bincount(indices, minlength=size), np.ones(size)), (size, seed, epoch)


@pytest.mark.parametrize("size", [2**33 + 7, 2**48 - 1, 2**48])
def test_windows_of_huge_orders_hold_no_index_twice(size: int) -> None:
    positions = np.concatenate([np.arange(200_000), np.arange(size - 200_000, size)])
    indices = EpochOrder(size, seed=9).at(positions, epoch=3)
    assert len(np.unique(indices)) == len(positions)
    assert indices.min() >= 0
    assert indices.max() < size


# From here on statistics with fixed seeds, so no test is flaky; bounds are five standard deviations of a uniform order.
LARGE = [10_007, 1_000_003, 300_000_000, 2**48]


def chi_square_of_table(first: np.ndarray, second: np.ndarray, size: int) -> float:
    """Of a 16 x 16 table of where two sequences of [0, size) lie, against independence."""
    cells = (first.astype(float) / size * 16).astype(int) * 16 + (second.astype(float) / size * 16).astype(int)
    expected = len(first) / 256
    return float(((np.bincount(cells, minlength=256) - expected) ** 2 / expected).sum())


def spread(size: int, count: int = 10_000) -> np.ndarray:
    """Positions over the whole of [0, size), evenly."""
    return np.arange(count) * (size // count)


@pytest.mark.parametrize("size", LARGE)
def test_any_part_of_an_epoch_holds_any_part_of_the_indices_evenly(size: int) -> None:
    positions = spread(size)
    # 255 cells are free, of which an order that takes each index once fixes 30 more where all of it is looked at.
    assert all(
        abs(chi_square_of_table(positions, EpochOrder(size, seed).at(positions, epoch), size) - 240) < 15 + 5 * 510**0.5
        for seed in range(4)
        for epoch in range(4)
    )


@pytest.mark.parametrize("size", LARGE)
def test_neighbours_of_an_epoch_are_far_apart_as_often_as_near(size: int) -> None:
    for seed in range(4):
        indices = EpochOrder(size, seed).at(np.arange(10_000), epoch=1) / size
        # Of two uniform numbers the distance is at most x with probability 1 - (1 - x)^2; Kolmogorov and Smirnov.
        expected = 1 - (1 - np.sort(abs(np.diff(indices)))) ** 2
        assert abs(expected - np.arange(1, 10_000) / 9_999).max() < 2.2 / 100
        for lag in (1, 2, 3, 16, 256, int(size**0.5) % 9_000 + 1):  # the base of the digits is about the root
            assert abs(np.corrcoef(indices[:-lag], indices[lag:])[0, 1]) < 5 / (10_000 - lag) ** 0.5
            assert chi_square_of_table(indices[:-lag], indices[lag:], 1) < 255 + 5 * 510**0.5


@pytest.mark.parametrize("size", LARGE)
def test_epochs_and_seeds_tell_nothing_of_each_other(size: int) -> None:
    positions = spread(size)
    keys = [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (0, 2**31), (2**63, 0), (2**32, 0)]
    orders = [EpochOrder(size, seed).at(positions, epoch) for seed, epoch in keys]
    for first, second in itertools.combinations(orders, 2):
        assert abs(np.corrcoef(first, second)[0, 1]) < 5 / 100
        assert chi_square_of_table(first, second, size) < 255 + 5 * 510**0.5


def test_permutations_have_as_many_fixed_points_and_cycles_as_random_ones() -> None:
    size, epochs = 500, 400
    orders = [EpochOrder(size, seed=3).at(range(size), epoch) for epoch in range(epochs)]
    fixed = sum(int((order == np.arange(size)).sum()) for order in orders)
    kept = sum(int((a == b).sum()) for a, b in itertools.pairwise(orders))
    assert abs(fixed - epochs) < 5 * epochs**0.5  # Poisson, mean 1
    assert abs(kept - epochs) < 5 * epochs**0.5
    cycles = 0
    for order in orders:
        seen = np.zeros(size, bool)
        for start in range(size):
            cycles += not seen[start]
            while not seen[start]:
                seen[start] = True
                start = order[start]
    harmonic = sum(1 / k for k in range(1, size + 1))
    assert abs(cycles / epochs - harmonic) < 5 * (harmonic / epochs) ** 0.5


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


def keys_in_order(size: int, seed: int, epoch: int, repeats: int = 1) -> list[tuple[int, int, int]]:
    order = EpochOrder(size, seed).at(range(size), epoch).tolist()
    return [(epoch, repeat, index) for index in order for repeat in range(repeats)]


@given(
    size=st.integers(1, 120),
    repeats=st.integers(1, 3),
    drop_last=st.booleans(),
    sessions=st.lists(st.tuples(st.integers(1, 25), st.integers(0, 9)), min_size=1, max_size=5),
)
def test_other_batches_in_mid_epoch_miss_no_sample_and_give_no_short_batch(
    size: int, repeats: int, drop_last: bool, sessions: list[tuple[int, int]]
) -> None:
    samples = size * repeats
    sessions = [(min(batch, samples), steps) for batch, steps in sessions]
    state, seen, done = None, [], 0
    for number, (batch, steps) in enumerate(sessions):
        keywords = {"repeats": repeats, "drop_last": drop_last, "shuffle_seed": 7, "rank": 0, "world_size": 1}
        batches = EpochBatches(size, batch, **keywords)
        if state is not None:
            batches.load_state_dict(state)
        left = samples - len(seen)
        assert len(batches) == done + (left // batch if drop_last else -(-left // batch))
        length = len(batches)
        last = number == len(sessions) - 1
        for keys in batches:
            assert len(keys) == batch or (not drop_last and len(seen) + len(keys) == samples)
            seen += keys
            done += 1
            assert len(batches) == length
            steps -= 1
            if steps <= 0 and not last:
                break
        state = batches.state_dict()
        if state["epoch"] == 1:  # this epoch has ended
            break
    if state["epoch"] == 1 or last:
        assert done == length
        assert samples - len(seen) < (sessions[number][0] if drop_last else 1)
    assert seen == keys_in_order(size, 7, 0, repeats)[: len(seen)]


def test_an_iteration_is_an_epoch_unless_it_was_left() -> None:
    batches = EpochBatches(5, 2, rank=0, world_size=1)
    assert [keys[0][0] for epoch in range(2) for keys in batches] == [0] * 3 + [1] * 3
    next(iter(batches))
    assert batches.state_dict()["position"] == 2
    assert [keys[0][0] for keys in batches] == [2] * 3
    batches.set_epoch(7)
    assert next(iter(batches))[0][0] == 7
    batches.set_epoch(7)  # which is under way
    assert batches.state_dict()["position"] == 2


@pytest.mark.parametrize("taken", [0, 1, 3, 4])
def test_a_state_after_the_last_batch_is_the_empty_rest_of_its_epoch(taken: int) -> None:
    first, second = (EpochBatches(7, 2, rank=0, world_size=1) for _ in range(2))
    iteration = iter(first)
    seen = [next(iteration) for _ in range(taken)]
    second.load_state_dict(first.state_dict())
    assert sum(seen + list(second), []) == keys_in_order(7, 0, 0)
    assert sum(second, []) == keys_in_order(7, 0, 1)


def test_resuming_a_huge_epoch_takes_no_steps() -> None:
    batches = EpochBatches(2**48, 256, rank=0, world_size=1, drop_last=True)
    batches.load_state_dict(batches.state_dict() | {"epoch": 5, "position": 2**47, "batches": 2**39})
    expected = EpochOrder(2**48, 0).at(np.arange(2**47, 2**47 + 256), 5)
    assert next(iter(batches)) == [(5, 0, index) for index in expected.tolist()]
    assert len(batches) == 2**40


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 9}, "size 9, this feed 10"),
        ({"shuffle_seed": 2}, "shuffle_seed 2, this feed 1"),
        ({"shuffle_seed": None}, "shuffle_seed None, this feed 1"),
        ({"repeats": 3}, "repeats 3, this feed 2"),
        ({"node_local": None, "nodes": None}, "node_local None, this feed 'shuffled'"),
        ({"nodes": 4}, "nodes 4, this feed 2"),
        ({"position": 21}, "position 21; expected a whole number from 0 to 20"),
        ({"position": -1}, "position -1; expected"),
        ({"position": 2.0}, "position 2.0; expected"),
        ({"position": True}, "position True; expected"),
        ({"epoch": 2**32}, "epoch 4294967296; expected"),
        ({"epoch": "0"}, "epoch '0'; expected"),
        ({"batches": None}, "batches None; expected"),
    ],
)
def test_a_state_of_another_order_is_named(change: dict[str, object], message: str) -> None:
    batches = EpochBatches(10, 2, shuffle_seed=1, repeats=2, rank=0, world_size=2, node_local="shuffled", nodes=2)
    state = batches.state_dict()
    with pytest.raises(ValueError, match=message):
        batches.load_state_dict(state | change)
    for name in state:
        with pytest.raises(ValueError, match=f"feed state has no {name}; expected what state_dict"):
            batches.load_state_dict({key: value for key, value in state.items() if key != name})
    for other in (None, [], "state"):
        with pytest.raises(ValueError, match="expected what state_dict"):
            batches.load_state_dict(other)  # type: ignore[arg-type]
    assert batches.state_dict() == state


@given(
    size=st.integers(8, 150),
    nodes=st.integers(1, 4),
    per_node=st.integers(1, 3),
    per_rank=st.integers(1, 5),
    repeats=st.integers(1, 3),
    kind=st.sampled_from(["shuffled", "category"]),
)
def test_nodes_shuffle_only_their_own_parts(
    size: int, nodes: int, per_node: int, per_rank: int, repeats: int, kind: str
) -> None:
    world_size = nodes * per_node
    ranks = [
        EpochBatches(
            size,
            per_rank,
            shuffle_seed=2,
            repeats=repeats,
            rank=rank,
            world_size=world_size,
            node_local=kind,
            nodes=nodes,
        )
        for rank in range(world_size)
    ]
    parts: list[set[int]] = [set() for _ in range(nodes)]
    orders = []
    for epoch in range(2):
        batches = [list(rank) for rank in ranks]
        keys = [key for rank in batches for batch in rank for key in batch]
        assert Counter(keys) == Counter((epoch, repeat, index) for index in range(size) for repeat in range(repeats))
        assert [sum(map(len, shares)) for shares in zip(*batches, strict=True)][:-1] == [per_rank * world_size] * (
            len(ranks[0]) - 1
        )
        for shares in zip(*batches, strict=True):
            counts = [sum(map(len, shares[node * per_node : (node + 1) * per_node])) for node in range(nodes)]
            assert max(counts) - min(counts) <= repeats
        orders.append([index for batch in batches[0] for _, _, index in batch])
        for rank, of_rank in enumerate(batches):
            parts[rank // per_node] |= {index for batch in of_rank for _, _, index in batch}
    assert sum(map(len, parts)) == size  # the same part in both epochs, and of no other node
    if kind == "category":
        assert [index for part in parts for index in sorted(part)] == list(range(size))
    elif nodes > 1 and size > 50:
        assert any(max(part) - min(part) >= len(part) for part in parts)
    assert size < 50 or nodes > 1 or orders[0] != orders[1]


def test_nodes_come_from_the_launcher_or_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said = EpochBatches(100, 5, rank=3, world_size=4, node_local="category", nodes=2)
    torchrun = {
        "RANK": 3,
        "WORLD_SIZE": 4,
        "LOCAL_RANK": 1,
        "LOCAL_WORLD_SIZE": 2,
        "GROUP_RANK": 1,
        "GROUP_WORLD_SIZE": 2,
    }
    for name, value in torchrun.items():
        monkeypatch.setenv(name, str(value))
    assert list(EpochBatches(100, 5, node_local="category")) == list(said)
    for arguments, message in (
        ({"node_local": "nodes"}, "node_local is 'nodes'; expected None, 'shuffled' or 'category'"),
        ({"node_local": "category", "nodes": 3}, "nodes is 3; expected a divisor of world_size 4"),
        ({"node_local": "category", "nodes": 0}, "nodes is 0"),
        ({"node_local": "category", "shuffle_seed": None}, "shuffle_seed is None"),
        ({"node_local": "category", "rank": 0, "world_size": 4}, "nothing tells the node of rank 0"),
        ({"rank": 0}, "rank is 0 and world_size is None; expected both or neither"),
    ):
        with pytest.raises(ValueError, match=message):
            EpochBatches(100, 5, **arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at most one per sample, 1"):
        EpochBatches(1, 5, rank=0, world_size=2, node_local="category", nodes=2)


def test_nodes_and_epochs_have_orders_of_their_own() -> None:
    nodes = [EpochBatches(200, 100, rank=node, world_size=2, node_local="category", nodes=2) for node in (0, 1)]
    orders = [tuple(index % 100 for _, _, index in keys) for _ in range(2) for node in nodes for keys in node]
    assert len(set(orders)) == 4
    assert {tuple(sorted(order)) for order in orders} == {tuple(range(100))}
