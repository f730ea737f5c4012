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


def test_a_state_of_something_else_is_refused(dataset: Dataset, catalog: Catalog) -> None:
    state = Feed(dataset, batch_size=7, shuffle_seed=1).state_dict()
    for other, field in (
        (Feed(Dataset(catalog, 11, SPEC), batch_size=7, shuffle_seed=1), "dataset"),
        (Feed(dataset, batch_size=7, shuffle_seed=2), "shuffle_seed"),
        (Feed(dataset, batch_size=7, shuffle_seed=1, repeats=2), "repeats"),
    ):
        with pytest.raises(ValueError, match=f"feed state has {field}"):
            other.load_state_dict(state)


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
        ({"batch_size": 4, "device": "meta"}, "expected 'cpu' or 'cuda'"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], message: str, dataset: Dataset) -> None:
    with pytest.raises(ValueError, match=message):
        Feed(dataset, **arguments)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: the way through pinned memory not run")
def test_a_gpu_gets_the_same_batches(dataset: Dataset) -> None:
    expected = list(Feed(dataset, batch_size=7))
    for (images, labels), (plain, plain_labels) in zip(
        Feed(dataset, batch_size=7, device="cuda"), expected, strict=True
    ):
        assert images.device.type == labels.device.type == "cuda"
        assert torch.equal(images.cpu(), plain)
        assert torch.equal(labels.cpu(), plain_labels)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_named(dataset: Dataset) -> None:
    with pytest.raises(RuntimeError, match="no CUDA GPU; expected device='cpu'"):
        Feed(dataset, batch_size=4, device="cuda")


def test_global_batches_do_not_depend_on_the_ranks(dataset: Dataset) -> None:
    whole = [labels for _, labels in Feed(dataset, global_batch_size=8, rank=0, world_size=1)]
    ranks = [[labels for _, labels in Feed(dataset, global_batch_size=8, rank=r, world_size=3)] for r in range(3)]
    for together, *parts in zip(whole, *ranks, strict=True):
        assert torch.equal(together, torch.cat(parts))


RANK = """
import json, sys, torch, fdsl
rank, store, catalog = int(sys.argv[1]), sys.argv[2], fdsl.Catalog.load(sys.argv[3])
torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
feed = fdsl.Feed(fdsl.Dataset(catalog, 10, fdsl.RenderSpec(size=16, points=100)), global_batch_size=7)
print(json.dumps([[labels.tolist(), int(images.sum())] for images, labels in feed]))
"""


def test_processes_of_a_group_share_each_batch(tmp_path: Path, catalog: Catalog) -> None:
    catalog.save(tmp_path / "catalog.safetensors")
    arguments = [str(tmp_path / "store"), str(tmp_path / "catalog.safetensors")]
    processes = [
        subprocess.Popen([sys.executable, "-c", RANK, str(rank), *arguments], stdout=subprocess.PIPE) for rank in (0, 1)
    ]
    ranks = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    alone = Feed(Dataset(catalog, 10, RenderSpec(size=16, points=100)), global_batch_size=7)
    for (images, labels), (first, second) in zip(alone, zip(*ranks, strict=True), strict=True):
        assert labels.tolist() == first[0] + second[0]
        assert int(images.sum()) == first[1] + second[1]
