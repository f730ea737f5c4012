from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import fdsl
from fdsl import Catalog, Dataset, Feed, RandomView, RenderSpec
from fdsl.order import EpochBatches

torch = pytest.importorskip("torch")
SPEC = RenderSpec(size=32, points=500, view=RandomView())


@pytest.fixture
def dataset(catalog: Catalog) -> Dataset:
    return Dataset(catalog, 10, SPEC)


def test_an_epoch_holds_every_image_once_in_the_keyed_order(dataset: Dataset) -> None:
    feed = Feed(dataset, batch_size=7, shuffle_seed=5)
    for epoch in range(2):
        images, labels = zip(*feed, strict=True)
        assert [len(part) for part in labels] == [7] * 5 + [5]
        order = fdsl.EpochOrder(40, 5).at(range(40), epoch)
        expected, expected_labels = dataset.batch(order, epoch=epoch)
        assert np.array_equal(torch.cat(images).numpy(), expected)
        assert np.array_equal(torch.cat(labels).numpy(), expected_labels)
        assert images[0].dtype == torch.uint8
        assert labels[0].dtype == torch.int64
    assert feed.epoch == 2


def test_no_shuffling_keeps_the_datasets_order(dataset: Dataset) -> None:
    labels = torch.cat([labels for _, labels in Feed(dataset, batch_size=16, shuffle_seed=None)])
    assert labels.tolist() == sorted(labels.tolist())


def test_repeats_bring_another_view_of_each_sample(dataset: Dataset) -> None:
    images, labels = zip(*Feed(dataset, batch_size=12, repeats=3), strict=True)
    triples = torch.cat(images).reshape(40, 3, -1)
    assert torch.cat(labels).reshape(40, 3).unique(dim=1).shape == (40, 1)
    assert not (triples[:, 0] == triples[:, 1]).all(1).any()


@pytest.mark.parametrize("taken", [0, 1, 3, 6])
@pytest.mark.parametrize("batch_size", [7, 5])
def test_a_resumed_feed_continues_with_the_next_sample(taken: int, batch_size: int, dataset: Dataset) -> None:
    whole = [labels.tolist() for feed in [Feed(dataset, batch_size=7)] for _ in range(2) for _, labels in feed]
    first, seen = Feed(dataset, batch_size=7), []
    for _, labels in first:
        if len(seen) == taken:
            break
        seen.append(labels.tolist())
        state = first.state_dict()
    if not taken:
        state = Feed(dataset, batch_size=7).state_dict()
    second = Feed(dataset, batch_size=batch_size)
    second.load_state_dict(state)
    rest = [labels.tolist() for _ in range(2) for _, labels in second]  # of 6, the rest of the first epoch is empty
    assert sum(seen, []) + sum(rest, []) == sum(whole, [])


@pytest.mark.parametrize(("first_batch", "second_batch", "length"), [(7, 7, 6), (7, 5, 8), (7, 20, 4), (5, 7, 7)])
def test_the_length_of_a_resumed_epoch_is_what_was_trained_on_and_what_is_left(
    first_batch: int, second_batch: int, length: int, dataset: Dataset
) -> None:
    first, second = Feed(dataset, batch_size=first_batch), Feed(dataset, batch_size=second_batch)
    batches = iter(first)
    for _ in range(2):
        next(batches)
    batches.close()
    second.load_state_dict(first.state_dict())
    for _ in range(2):  # Lightning asks for an iterator more than once
        batches = iter(second)
        assert len(second) == length
    assert 2 + len(list(batches)) == length
    assert len(second) == -(-40 // second_batch)


def test_a_new_iteration_after_the_last_batch_is_the_next_epoch(dataset: Dataset) -> None:
    feed = Feed(dataset, batch_size=20)
    for epoch in range(3):
        batches = iter(feed)  # as Lightning does, which never asks whether there is another batch
        assert feed.epoch == epoch
        assert feed.state_dict()["position"] == 0
        labels = torch.cat([next(batches)[1] for _ in range(2)])
        expected = dataset.batch(fdsl.EpochOrder(40, 0).at(range(40), epoch), epoch=epoch)[1]
        assert labels.tolist() == expected.tolist()


def test_a_state_of_something_else_is_refused(dataset: Dataset, catalog: Catalog) -> None:
    state = Feed(dataset, batch_size=7, shuffle_seed=1).state_dict()
    for other, field in (
        (Feed(Dataset(catalog, 11, SPEC), batch_size=7, shuffle_seed=1), "dataset"),
        (Feed(dataset, batch_size=7, shuffle_seed=2), "shuffle_seed"),
        (Feed(dataset, batch_size=7, shuffle_seed=1, repeats=2), "repeats"),
    ):
        with pytest.raises(ValueError, match=f"feed state has {field} .*, this feed "):
            other.load_state_dict(state)
    feed = Feed(dataset, batch_size=7, shuffle_seed=1)
    for name in state:
        with pytest.raises(ValueError, match=f"feed state has no {name}"):
            feed.load_state_dict({key: value for key, value in state.items() if key != name})
    with pytest.raises(ValueError, match="position 41; expected a whole number from 0 to 40"):
        feed.load_state_dict(state | {"position": 41})
    with pytest.raises(ValueError, match="feed state is None"):
        feed.load_state_dict(None)


def test_leaving_early_ends_the_threads(dataset: Dataset) -> None:
    feed = Feed(dataset, batch_size=4)
    for _ in feed:
        break
    gc.collect()
    deadline = time.monotonic() + 5
    while any(thread.name.startswith("fdsl-feed") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert len(list(feed)) == len(feed)  # and the epoch starts again


def test_an_error_in_drawing_reaches_the_caller(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FDSL_CPU", "none")
    with pytest.raises(ValueError, match="FDSL_CPU"):
        next(iter(Feed(dataset, batch_size=4)))


def test_memory_does_not_grow(catalog: Catalog) -> None:
    feed = Feed(Dataset(catalog, 1000, RenderSpec(size=64, points=100)), batch_size=256)
    pages = []
    for _ in range(16):
        for _ in feed:
            pass
        pages.append(int(Path("/proc/self/statm").read_text().split()[1]))
    assert max(pages[8:]) - max(pages[:8]) < 8192  # of 4 KiB: 32 MiB, where eight epochs are 128 MiB


def test_a_loader_follows_the_same_batches(dataset: Dataset) -> None:
    batches = EpochBatches(len(dataset), 7, shuffle_seed=5)
    loader = torch.utils.data.DataLoader(dataset, batch_sampler=batches, num_workers=2, persistent_workers=True)
    feed = Feed(dataset, batch_size=7, shuffle_seed=5)
    for epoch in range(2):
        batches.set_epoch(epoch)
        for (images, labels), (fed, fed_labels) in zip(loader, feed, strict=True):
            assert np.array_equal(np.asarray(images), fed.numpy())
            assert labels.tolist() == fed_labels.tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "batch_size"),
        ({"batch_size": 4, "ahead": 0}, "ahead is 0"),
        ({"batch_size": 4, "device": "meta"}, "device is 'meta'; expected 'auto'"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], message: str, dataset: Dataset) -> None:
    with pytest.raises(ValueError, match=message):
        Feed(dataset, **arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_named(dataset: Dataset) -> None:
    with pytest.raises(RuntimeError, match=r"no CUDA GPU \(.*\); expected .* or device='cpu'"):
        Feed(dataset, batch_size=4, device="cuda")


def test_global_batches_do_not_depend_on_the_ranks(dataset: Dataset) -> None:
    whole = [labels for _, labels in Feed(dataset, global_batch_size=8, rank=0, world_size=1)]
    ranks = [[labels for _, labels in Feed(dataset, global_batch_size=8, rank=r, world_size=3)] for r in range(3)]
    for together, *parts in zip(whole, *ranks, strict=True):
        assert torch.equal(together, torch.cat(parts))


def test_nodes_can_hold_parts_of_their_own(dataset: Dataset) -> None:
    nodes = [Feed(dataset, batch_size=6, rank=rank, world_size=2, node_local="category", nodes=2) for rank in (0, 1)]
    for _ in range(2):
        first, second = (torch.cat([labels for _, labels in feed]).tolist() for feed in nodes)
        assert set(first) == {0, 1}
        assert set(second) == {2, 3}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("taken", [1, 4, 6])
def test_a_stateful_loader_resumes_with_other_batches(workers: int, taken: int, dataset: Dataset) -> None:
    loaders = pytest.importorskip("torchdata.stateful_dataloader")
    first, second = (
        loaders.StatefulDataLoader(
            dataset, batch_sampler=EpochBatches(len(dataset), size, shuffle_seed=5), num_workers=workers
        )
        for size in (7, 5)
    )
    seen, batches = [], iter(first)
    for _ in range(taken):
        seen += next(batches)[1].tolist()
    second.load_state_dict(first.state_dict())
    if taken == 6:
        assert list(batches) == []
    seen += [label for _ in range(2) for _, labels in second for label in labels.tolist()]
    orders = [fdsl.EpochOrder(40, 5).at(range(40), epoch) for epoch in range(2)]
    assert seen == [label for order in orders for label in dataset.batch(order)[1].tolist()]
    ended = loaders.StatefulDataLoader(
        dataset, batch_sampler=EpochBatches(len(dataset), 5, shuffle_seed=5), num_workers=workers
    )
    ended.load_state_dict(second.state_dict())
    third = [label for _, labels in ended for label in labels.tolist()]
    assert third == dataset.batch(fdsl.EpochOrder(40, 5).at(range(40), 2))[1].tolist()


def test_a_feed_made_before_the_process_group_is_refused(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    feed, said = Feed(dataset, batch_size=4), Feed(dataset, batch_size=4, rank=0, world_size=1)
    for name, value in {"is_initialized": True, "get_rank": 1, "get_world_size": 2}.items():
        monkeypatch.setattr(torch.distributed, name, lambda value=value: value)
    with pytest.raises(RuntimeError, match=r"rank 0 of 1, and torch\.distributed says 1 of 2"):
        iter(feed)
    assert len(list(said)) == 10


RANK = """
import json, sys, torch, fdsl
rank, store, catalog = int(sys.argv[1]), sys.argv[2], fdsl.Catalog.load(sys.argv[3])
torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
feed = fdsl.Feed(fdsl.Dataset(catalog, 10, fdsl.RenderSpec(size=16, points=100)), global_batch_size=13)
torch.manual_seed(0)
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(256, 4))
for images, labels in feed:
    model.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(images.flatten(1) / 255), labels, reduction="sum")
    (feed.loss_weight * loss).backward()
    gradient = model.module.weight.grad.flatten().tolist()
    print(json.dumps([labels.tolist(), int(images.sum()), gradient]))
torch.distributed.destroy_process_group()
"""


def test_processes_of_a_group_share_each_batch_and_its_gradient(tmp_path: Path, catalog: Catalog) -> None:
    catalog.save(tmp_path / "catalog.safetensors")
    arguments = [str(tmp_path / "store"), str(tmp_path / "catalog.safetensors")]
    processes = [
        subprocess.Popen([sys.executable, "-c", RANK, str(rank), *arguments], stdout=subprocess.PIPE) for rank in (0, 1)
    ]
    ranks = [[*map(json.loads, process.communicate(timeout=120)[0].splitlines())] for process in processes]
    alone = Feed(Dataset(catalog, 10, RenderSpec(size=16, points=100)), global_batch_size=13)
    torch.manual_seed(0)
    model = torch.nn.Linear(256, 4)
    sizes = []
    for (images, labels), (first, second) in zip(alone, zip(*ranks, strict=True), strict=True):
        assert labels.tolist() == first[0] + second[0]
        assert int(images.sum()) == first[1] + second[1]
        model.zero_grad()
        torch.nn.functional.cross_entropy(model(images.flatten(1) / 255), labels).backward()
        for gradient in (first[2], second[2]):
            assert torch.allclose(torch.tensor(gradient), model.weight.grad.flatten(), atol=1e-7)
        sizes.append((len(first[0]), len(second[0])))
    assert sizes == [(6, 7)] * 3 + [(0, 1)]  # uneven slices, and an empty one


def test_the_loss_weight_is_of_a_batch(dataset: Dataset) -> None:
    feed = Feed(dataset, batch_size=6, rank=1, world_size=3)
    with pytest.raises(RuntimeError, match="of the batch last handed over"):
        _ = feed.loss_weight
    assert [feed.loss_weight for _ in feed] == [3 / 18, 3 / 18, 3 / 4]
