from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fdsl
from fdsl import Dataset, MixedDataset, RandomView, RenderSpec
from fdsl.contact_sheet import contact_sheet
from fdsl.export.folder import export_folder

SPEC = RenderSpec(size=24)


@cache
def parts(view: RandomView | None = None, fresh: bool = False) -> tuple[Dataset, Dataset]:
    spec = RenderSpec(size=24, view=view)
    curves = Dataset(fdsl.search("bezier", categories=9), 5, spec, seed=1, fresh=fresh)
    noise = Dataset(fdsl.search("perlin", categories=4), 10, spec, seed=2, fresh=fresh)
    return curves, noise


def identities(images: np.ndarray) -> list[bytes]:
    return [image.tobytes() for image in images]


def test_without_weights_the_datasets_follow_each_other() -> None:
    curves, noise = parts()
    mixed = fdsl.mix([curves, noise])
    images, labels = mixed.batch(range(len(mixed)), epoch=3)
    assert len(mixed) == 45 + 40
    assert np.array_equal(images[:45], curves.batch(range(45))[0])
    assert np.array_equal(images[45:], noise.batch(range(40))[0])
    assert labels.tolist() == [*np.repeat(range(9), 5), *np.repeat(range(9, 13), 10)]
    assert np.array_equal(mixed.targets, labels)
    assert [mixed.targets[place] for place in (0, 44, 45, -1)] == [0, 8, 9, 12]
    assert mixed.targets[40:50] == labels[40:50].tolist()
    assert mixed.classes[9] == "00009"
    assert (mixed.part_of(9), mixed.part_of(8)) == ((noise, 0), (curves, 8))
    assert mixed.file_name(10, 3) == "00001_0003"


@pytest.mark.parametrize(
    ("weights", "length", "counts"),
    [
        ((1, 1), 10, [5, 5]),
        ((3, 1), 100, [75, 25]),
        ((1, 1, 1), 11, [4, 4, 3]),
        ((0.5, 0.3, 0.2), 9, [4, 3, 2]),  # quotas 4.5, 2.7, 1.8
        ((2, 1), None, [57, 28]),
        ((1e-3, 1), 85_000, [85, 84_915]),
    ],
)
def test_an_epoch_is_shared_out_by_largest_remainder(
    weights: tuple[float, ...], length: int | None, counts: list[int]
) -> None:
    mixed = fdsl.mix([*parts(), parts()[0]][: len(weights)], weights, length)
    assert mixed.counts == counts
    assert len(mixed) == sum(counts)


@pytest.mark.parametrize("length", [20, 85, 300])
def test_with_weights_every_sample_comes_equally_often_and_once_a_pass(length: int) -> None:
    curves, noise = parts()
    mixed = fdsl.mix([curves, noise], [1, 3], length)
    epochs = [mixed.batch(range(length), epoch=epoch) for epoch in range(12)]
    for part, first in ((curves, 0), (noise, 9)):
        own = identities(part.batch(range(len(part)))[0])
        mine = [(labels >= first) & (labels < first + len(part.classes)) for _, labels in epochs]
        walk = identities(np.concatenate([images[rows] for (images, _), rows in zip(epochs, mine, strict=True)]))
        orders = [walk[start : start + len(own)] for start in range(0, len(walk), len(own))]
        for order in orders[:-1]:
            assert sorted(order) == sorted(own)
        assert orders[0] != own
        assert orders[0] != orders[1]
        times = Counter(walk)
        assert max(times.values()) - min(times.get(one, 0) for one in own) <= 1


def test_labels_name_the_dataset_and_category_of_the_picture() -> None:
    curves, noise = parts()
    mixed = fdsl.mix([curves, noise], [1, 1], 170)
    label_of = dict(zip(identities(curves.batch(range(45))[0]), np.repeat(range(9), 5), strict=True))
    label_of |= zip(identities(noise.batch(range(40))[0]), np.repeat(range(9, 13), 10), strict=True)
    images, labels = mixed.batch(range(170), epoch=1)
    assert [label_of[one] for one in identities(images)] == labels.tolist()


@pytest.mark.parametrize("weights", [None, (2, 1)])
def test_batch_splits_threads_and_order_change_nothing(weights: tuple[int, int] | None) -> None:
    mixed = fdsl.mix(parts(RandomView(rotation=20)), weights)
    epochs = np.arange(len(mixed)) % 3
    whole, labels = mixed.batch(range(len(mixed)), epoch=epochs, repeat=1, threads=1)
    shuffled = np.random.default_rng(0).permutation(len(mixed))
    for some in np.array_split(shuffled, 4):
        out = np.empty((len(some), 1, 24, 24), np.uint8)
        drawn, found = mixed.batch(some, epoch=epochs[some], repeat=1, out=out, threads=2)
        assert drawn is out
        assert np.array_equal(out, whole[some])
        assert np.array_equal(found, labels[some])
    assert np.array_equal(mixed[2, 1, -1][0], mixed.batch([len(mixed) - 1], epoch=2, repeat=1)[0][0])


@pytest.mark.parametrize(("view", "fresh"), [(RandomView(), False), (None, True)])
def test_what_comes_again_is_drawn_anew(view: RandomView | None, fresh: bool) -> None:
    mixed = fdsl.mix(parts(view, fresh), [1, 1], 400)
    images = np.concatenate([mixed.batch(range(200, 400), epoch=epoch)[0] for epoch in (0, 1)])  # noise only
    assert len(np.unique(images.reshape(400, -1), axis=0)) == 400


def test_a_feed_and_a_data_loader_run_over_it() -> None:
    torch = pytest.importorskip("torch")
    mixed = fdsl.mix(parts(), [1, 1], 60, transform=lambda image: torch.from_numpy(np.array(image)))
    feed = fdsl.Feed(mixed, batch_size=16)
    found = Counter(label for _, labels in feed for label in labels.tolist())
    assert found == Counter(mixed.batch(range(60))[1].tolist())
    assert feed.state_dict()["dataset"] == mixed.digest
    loader = torch.utils.data.DataLoader(mixed, batch_size=16, num_workers=2)
    images, labels = (torch.cat(every) for every in zip(*loader, strict=True))
    assert np.array_equal(images.numpy(), mixed.batch(range(60))[0][:, 0])
    assert np.array_equal(labels.numpy(), mixed.batch(range(60))[1])


def test_the_digest_covers_parts_shares_and_seed() -> None:
    curves, noise = parts()
    mixes = [
        fdsl.mix([curves, noise]),
        fdsl.mix([noise, curves]),
        fdsl.mix([curves, parts(RandomView())[1]]),
        fdsl.mix([curves, noise], [1, 1]),
        fdsl.mix([curves, noise], [1, 2]),
        fdsl.mix([curves, noise], [1, 1], 40),
        fdsl.mix([curves, noise], [1, 1], seed=1),
    ]
    assert len({mixed.digest for mixed in mixes}) == len(mixes)
    assert fdsl.mix([curves, noise], [1, 1]).digest == fdsl.mix([curves, noise], [2, 2]).digest


def test_a_split_parts_every_dataset_and_holds_samples_out_once() -> None:
    train, held_out = fdsl.mix(parts(), [1, 1], 500).split(0.8)
    assert isinstance(held_out, MixedDataset)
    assert (len(train), len(held_out)) == (500, 9 + 8)
    seen = set(identities(train.batch(range(500))[0]))
    assert not seen & set(identities(held_out.batch(range(17))[0]))
    assert sorted(set(held_out.targets)) == list(range(13))


def test_a_mix_of_mixes_is_a_mix() -> None:
    curves, noise = parts()
    nested = fdsl.mix([fdsl.mix([curves, noise]), curves])
    assert np.array_equal(nested.batch(range(130))[0], fdsl.mix([curves, noise, curves]).batch(range(130))[0])
    assert np.array_equal(nested.targets, nested.batch(range(130))[1])
    assert nested.part_of(10) == (noise, 1)


def test_it_is_exported_and_shown_part_by_part(tmp_path: Path) -> None:
    curves, noise = parts()
    mixed = fdsl.mix([curves, noise])
    export_folder(mixed, tmp_path / "pictures", categories=[8, 9])
    assert len(list((tmp_path / "pictures" / "00008").iterdir())) == 5
    with Image.open(tmp_path / "pictures" / "00009" / "00000_0007.png") as picture:
        assert np.array_equal(picture, noise[7][0][0])
    sheet = np.asarray(contact_sheet(mixed, categories=[8, 9], instances=2))
    windows = np.lib.stride_tricks.sliding_window_view(sheet[..., 0], (24, 24))
    for picture in (curves[40][0], curves[44][0], noise[0][0], noise[9][0]):
        assert (windows == picture[0]).all((2, 3)).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"datasets": []}, "datasets is empty; expected at least one"),
        ({"datasets": parts()[0]}, r"datasets is Dataset\(.*; expected several in a list"),
        ({"datasets": None}, "datasets is None; expected several in a list"),
        ({"datasets": [parts()[0], 3]}, r"datasets\[1\] is int; expected an fdsl.Dataset"),
        ({"datasets": [parts()[0], Dataset(parts()[1].catalog, 1, RenderSpec(size=32))]}, r"draws \(1, 32, 32\), data"),
        ({"datasets": [Dataset(parts()[1].catalog, 1, SPEC, transform=str)]}, r"datasets\[0\] has a transform"),
        ({"length": 5}, "length is 5 without weights"),
        ({"weights": [1, 1], "length": 0}, "length is 0; expected a whole number from 1"),
        ({"weights": [1, 1], "length": 2.5}, "length is 2.5; expected a whole number"),
        ({"weights": [1]}, r"weights is \(1,\); expected 2 numbers over 0"),
        ({"weights": [1, 0]}, r"weights is \(1, 0\); expected 2 numbers over 0"),
        ({"weights": [1, float("nan")]}, "expected 2 numbers over 0"),
        ({"weights": [1, "2"]}, "expected 2 numbers over 0"),
        ({"weights": [1, 1000], "length": 10}, r"leave nothing of 10 samples to datasets\[0\]"),
        ({"weights": [1, 1], "seed": -1}, "seed is -1"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fdsl.mix(**{"datasets": parts(), **arguments})


def test_targets_of_a_mix_by_weight_are_refused() -> None:
    with pytest.raises(ValueError, match="targets of a mix by weight change with the epoch"):
        _ = fdsl.mix(parts(), [1, 1]).targets
    with pytest.raises(IndexError, match="index 85 is out of range"):
        fdsl.mix(parts()).batch([85])


def test_dense_labels_are_offset_as_classes_are() -> None:
    catalog = fdsl.search("fractaldb", categories=2)
    dense = fdsl.Dataset(catalog, 4, fdsl.RenderSpec(size=48, points=500), labels=("class", "boxes"))
    mixed = fdsl.mix([dense, dense])
    images, targets = mixed.batch([3, 11])
    assert np.array_equal(images[0], images[1])
    assert np.array_equal(targets[0]["labels"] + 2, targets[1]["labels"])
    assert np.array_equal(targets[0]["boxes"], targets[1]["boxes"])
    with pytest.raises(ValueError, match=r"datasets\[1\] has the labels \(\), datasets\[0\]"):
        fdsl.mix([dense, fdsl.Dataset(catalog, 4, dense.spec)])
