from __future__ import annotations

import io
import tarfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fdsl
from fdsl.export import export_dataset
from fdsl.order import EpochOrder

pytest.importorskip("fdsl.train.recipes")
pytest.importorskip("torch")
pytest.importorskip("webdataset")
import torch

from fdsl.train import shards, stored
from fdsl.train.framing import Framing, decoded, random_box
from fdsl.train.recipes import Data, View
from fdsl.train.sources import DrawnSource, open_source

SIZE = 16
SPEC = fdsl.RenderSpec(size=SIZE, points=2000, pad=0)
# 4 categories x 9 variations: 36 pictures, no two alike.
VARIATIONS = range(0, 360, 40)


@pytest.fixture(scope="module")
def dataset(catalog: fdsl.Catalog) -> fdsl.Dataset:
    return fdsl.Dataset(catalog, VARIATIONS, SPEC)


@pytest.fixture(scope="module")
def exports(dataset: fdsl.Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The dataset as a folder, and as shards of uneven sizes with a manifest and without."""
    root = tmp_path_factory.mktemp("exports")
    export_dataset(dataset, root / "folder", "folder", workers=1)
    export_dataset(dataset, root / "shards", "webdataset", shard_size=7, workers=1)
    (root / "bare").mkdir()
    for file in (root / "shards").glob("*.tar"):
        (root / "bare" / file.name).write_bytes(file.read_bytes())
    return {
        "folder": f"imagefolder:{root / 'folder'}",
        "shards": f"shards:{root}/shards/shard-{{000000..000005}}.tar",
        "bare": f"shards:{root}/bare/*.tar",
    }


STORED = pytest.mark.parametrize("kind", ["folder", "shards"])


def opened(source: str, **settings: Any) -> Any:
    skip_corrupt = settings.pop("skip_corrupt", False)
    return open_source(Data(**{"source": source, "size": SIZE, "channels": 1, **settings}), skip_corrupt=skip_corrupt)


def keys(batches: Iterable[Any]) -> list[tuple[int, bytes]]:
    return [
        (int(label), image.numpy().tobytes())
        for images, labels in batches
        for image, label in zip(images, labels, strict=True)
    ]


def all_of(dataset: fdsl.Dataset) -> list[tuple[int, bytes]]:
    images, labels = dataset.batch(range(len(dataset)))
    return [(int(label), image.tobytes()) for image, label in zip(images, labels, strict=True)]


class TestDrawn:
    @pytest.fixture
    def settings(self, catalog: fdsl.Catalog, tmp_path: Path) -> dict[str, Any]:
        catalog.save(tmp_path / "catalog.safetensors")
        return {"source": str(tmp_path / "catalog.safetensors"), "instances": 100, "points": 2000, "pad": 0}

    def test_training_is_a_feed_of_the_recipes_dataset(self, settings: dict[str, Any], catalog: fdsl.Catalog) -> None:
        source = opened(**settings, view=View(scale=(0.3, 1.0)), repeats=2)
        spec = fdsl.RenderSpec(SIZE, 2000, pad=0, view=fdsl.RandomView((0.3, 1.0), flip=0.0))
        expected = fdsl.Dataset(catalog, 100, spec)
        assert (source.digest, source.classes) == (expected.digest, expected.classes)
        assert (source.images, source.held_out_images, source.held_out(8, "cpu")) == (400, 0, None)
        loader = source.train(64, "cpu", seed=5, rank=1, world_size=2)
        assert len(loader) == 800 // 64
        images, labels = next(iter(loader))
        places, repeats = np.divmod(np.arange(32, 64), 2)
        drawn = expected.batch(EpochOrder(400, 5).at(places), repeat=repeats)
        np.testing.assert_array_equal(images, drawn[0])
        np.testing.assert_array_equal(labels, drawn[1])

    @pytest.mark.parametrize("seen", [{"view": View()}, {}])
    def test_held_out_pictures_are_whole(self, settings: dict[str, Any], catalog: fdsl.Catalog, seen: Any) -> None:
        source = opened(**settings, held_out=0.4, **seen)
        whole = fdsl.RenderSpec(SIZE, 2000, pad=0)
        held_out = fdsl.Dataset(catalog, 100, whole).split(0.6)[1]
        assert source.held_out_images == len(held_out)
        batches = source.held_out(50, "cpu")
        first, again = keys(batches), keys(batches)
        assert sorted(first) == sorted(all_of(held_out))
        assert first == again

    def test_held_out_pictures_of_a_mix_are_whole(self, catalog: fdsl.Catalog) -> None:
        def mixed(view: fdsl.RandomView | None) -> fdsl.MixedDataset:
            parts = fdsl.Dataset(catalog, 100, fdsl.RenderSpec(SIZE, 2000, pad=0, view=view)).split(0.6)
            return fdsl.mix(list(parts), weights=[2, 1], length=30)

        source = DrawnSource(mixed(None), mixed(fdsl.RandomView(scale=(0.08, 0.1))))
        assert sorted(keys(source.held_out(8, "cpu"))) == sorted(all_of(mixed(None)))

    def test_held_out_windows_are_in_the_middle(self, settings: dict[str, Any], catalog: fdsl.Catalog) -> None:
        source = opened(**settings, held_out=0.4, crop_of=24)
        held_out = fdsl.Dataset(catalog, 100, fdsl.RenderSpec(24, 2000, pad=0)).split(0.6)[1]
        images, labels = held_out.batch(range(len(held_out)))
        middle = [(int(label), image[:, 4:20, 4:20].tobytes()) for image, label in zip(images, labels, strict=True)]
        assert sorted(keys(source.held_out(50, "cpu"))) == sorted(middle)

    def test_a_limit_is_a_fixed_choice_shared_by_the_ranks(self, settings: dict[str, Any]) -> None:
        source = opened(**settings, held_out=0.4)
        alone = keys(source.held_out(8, "cpu", limit=30))
        both = [keys(source.held_out(8, "cpu", limit=30, rank=rank, world_size=2)) for rank in (0, 1)]
        assert len(alone) == 30
        assert sorted(alone) == sorted(both[0] + both[1])

    def test_dense_labels_are_refused(self, catalog: fdsl.Catalog) -> None:
        with pytest.raises(ValueError, match="expected 'class', which a classifier learns"):
            DrawnSource(fdsl.Dataset(catalog, 10, labels=("class", "boxes")))


class TestStored:
    @pytest.mark.parametrize("kind", ["folder", "shards", "bare"])
    def test_pictures_of_the_size_come_as_they_were_drawn(
        self, exports: dict[str, str], dataset: fdsl.Dataset, kind: str
    ) -> None:
        source = opened(exports[kind])
        assert (source.classes, source.images) == (dataset.classes, 36)
        assert (source.size, source.channels) == (SIZE, 1)
        for loader in (source.train(12, "cpu", seed=0), source.train_as_measured(10, "cpu")):
            for _ in range(2):
                assert sorted(keys(loader)) == sorted(all_of(dataset))
        stats = loader.stats()
        assert stats.drawn == 72
        assert stats.render_images_per_s > 0

    @STORED
    @pytest.mark.parametrize(("batch_size", "world_size", "repeats"), [(6, 1, 1), (6, 3, 2), (8, 8, 2), (9, 2, 3)])
    def test_an_epoch_has_each_picture_once_over_all_ranks(
        self, exports: dict[str, str], dataset: fdsl.Dataset, kind: str, batch_size: int, world_size: int, repeats: int
    ) -> None:
        source = opened(exports[kind], repeats=repeats)
        loaders = [
            source.train(batch_size, "cpu", seed=1, rank=rank, world_size=world_size) for rank in range(world_size)
        ]
        for _ in range(2):
            seen = [keys(loader) for loader in loaders]
            assert Counter(sum(seen, [])) == dict.fromkeys(all_of(dataset), repeats)
        assert {len(loader) for loader in loaders} == {36 * repeats // batch_size}

    @STORED
    def test_short_batches_are_left_out_of_training_only(
        self, exports: dict[str, str], dataset: fdsl.Dataset, kind: str
    ) -> None:
        source = opened(exports[kind])
        loader = source.train(10, "cpu", seed=0, rank=0, world_size=1)
        assert [len(labels) for _, labels in loader] == [10, 10, 10]
        measured = [source.train_as_measured(10, "cpu", rank=rank, world_size=4) for rank in range(4)]
        seen = [[keys([batch]) for batch in loader] for loader in measured]
        assert [sum(len(part[number]) for part in seen) for number in range(4)] == [10, 10, 10, 6]
        assert sorted(sum(sum(seen, []), [])) == sorted(all_of(dataset))

    @STORED
    def test_the_order_changes_with_the_epoch_and_the_seed(self, exports: dict[str, str], kind: str) -> None:
        source = opened(exports[kind])
        loader = source.train(12, "cpu", seed=0)
        first, second = keys(loader), keys(loader)
        assert loader.epoch == 2
        loader.set_epoch(0)
        assert keys(loader) == first
        assert keys(source.train(12, "cpu", seed=1)) not in (first, second)
        assert first != second

    @STORED
    @pytest.mark.parametrize("taken", [0, 1, 3, 5, 6, 9])
    def test_a_resumed_loader_goes_on_with_the_next_picture(
        self, exports: dict[str, str], kind: str, taken: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shards, "_SHUFFLED", 5)

        def loader() -> Any:
            source = opened(exports[kind], view=View(flip=0.5), repeats=2)
            return source.train(12, "cpu", seed=3, rank=1, world_size=2)

        whole = loader()
        batches = [keys([batch]) for _ in range(3) for batch in whole]
        assert len(batches) == 18
        stopped, count = loader(), 0
        while count < taken:
            for _ in stopped:
                count += 1
                if count == taken:
                    state = stopped.state_dict()
                    break
        resumed = loader()
        if taken:
            resumed.load_state_dict(state)
        rest = [keys([batch]) for _ in range(3) for batch in resumed]
        assert rest[: 18 - taken] == batches[taken:]

    def test_a_folder_is_resumed_with_another_batch_size_and_other_ranks(self, exports: dict[str, str]) -> None:
        source = opened(exports["folder"])
        loader = source.train(9, "cpu", seed=0)
        whole = keys(loader)
        loader.set_epoch(0)
        next(iter(loader))
        rest = []
        for rank in range(3):
            resumed = source.train(27, "cpu", seed=0, rank=rank, world_size=3)
            resumed.load_state_dict(loader.state_dict())
            rest += keys(resumed)
        assert rest == whole[9:]

    def test_resumed_shards_are_read_only_where_something_is_left(
        self, exports: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shards, "_SHUFFLED", 2)
        loader = opened(exports["shards"]).train(3, "cpu", seed=0)
        batches = iter(loader)
        for _ in range(10):
            next(batches)
        state = loader.state_dict()
        batches.close()
        read: list[Path] = []
        samples_of = shards._samples_of
        monkeypatch.setattr(shards, "_samples_of", lambda file: read.append(file) or samples_of(file))
        resumed = opened(exports["shards"]).train(3, "cpu", seed=0)
        resumed.load_state_dict(state)
        assert len(keys(resumed)) == 6
        assert 1 <= len(read) <= 3

    @STORED
    def test_threads_change_nothing(self, exports: dict[str, str], kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        seen = []
        for threads in (1, 5):
            monkeypatch.setattr(stored.cpu, "thread_count", lambda _, threads=threads: threads)
            seen.append(keys(opened(exports[kind], view=View()).train(18, "cpu", seed=0)))
        assert seen[0] == seen[1]

    def test_views_depend_on_seed_epoch_and_repeat(self, exports: dict[str, str]) -> None:
        def epochs(**settings: Any) -> list[set[Any]]:
            loader = opened(exports["folder"], view=View(), **settings).train(36, "cpu", seed=0)
            return [set(keys(loader)) for _ in range(2)]

        first, second = epochs(repeats=2)
        other, _ = epochs(repeats=2, seed=1)
        assert len(first) > 60
        assert len(first & second) < 6
        assert len(first & other) < 6
        assert epochs(repeats=2) == [first, second]

    def test_a_loader_that_is_left_early_begins_anew(self, exports: dict[str, str]) -> None:
        loader = opened(exports["folder"]).train(6, "cpu", seed=0)
        first = next(iter(loader))
        assert torch.equal(next(iter(loader))[0], first[0])
        assert loader.loss_weight == 1 / 6

    @STORED
    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"crop_of": 20}, "feed state has dataset"),
            ({"seed": 1}, "feed state has dataset"),
            ({"repeats": 2}, "feed state has repeats 1, this feed 2"),
        ],
    )
    def test_a_state_of_something_else_is_refused(
        self, exports: dict[str, str], kind: str, changed: dict[str, Any], message: str
    ) -> None:
        state = opened(exports[kind]).train(6, "cpu", seed=0).state_dict()
        with pytest.raises(ValueError, match=message):
            opened(exports[kind], **changed).train(6, "cpu", seed=0).load_state_dict(state)

    def test_shards_cannot_be_resumed_with_other_ranks(self, exports: dict[str, str]) -> None:
        source = opened(exports["shards"])
        state = source.train(6, "cpu", seed=0, rank=0, world_size=1).state_dict()
        with pytest.raises(ValueError, match="feed state has world_size 1, this feed 2"):
            source.train(6, "cpu", seed=0, rank=0, world_size=2).load_state_dict(state)


class TestHeldOut:
    def test_of_a_folder_a_share_of_the_files_that_stays_when_others_come(self, tmp_path: Path) -> None:
        def parts() -> tuple[set[Any], set[Any]]:
            source = opened(f"imagefolder:{tmp_path}", held_out=0.3)
            train, held_out = keys(source.train_as_measured(9, "cpu")), keys(source.held_out(9, "cpu"))
            assert (source.images, source.held_out_images) == (len(train), len(held_out))
            return set(train), set(held_out)

        write_pictures(tmp_path, {"cat": range(40), "dog": range(100, 140)})
        train, held_out = parts()
        assert not train & held_out
        assert len(train | held_out) == 80
        assert 10 <= len(held_out) <= 38
        write_pictures(tmp_path, {"dog": range(140, 150)})
        more_train, more_held_out = parts()
        assert train < more_train
        assert held_out <= more_held_out

    def test_of_shards_whole_ones(self, exports: dict[str, str], dataset: fdsl.Dataset) -> None:
        source = opened(exports["shards"], held_out=0.3)
        train, held_out = keys(source.train_as_measured(5, "cpu")), keys(source.held_out(5, "cpu"))
        assert (len(train), len(held_out)) == (source.images, source.held_out_images)
        assert len(held_out) in (8, 14)  # two shards of seven, or one of them and the last, with one
        assert sorted(train + held_out) == sorted(all_of(dataset))
        assert keys(source.held_out(5, "cpu", limit=3)) == held_out[:3]

    @pytest.mark.parametrize("name", ["val", "test"])
    def test_a_folder_beside_train(self, tmp_path: Path, name: str) -> None:
        write_pictures(tmp_path / "train", {"cat": [1, 2], "dog": [3]})
        write_pictures(tmp_path / name, {"cat": [4], "dog": [5]})
        source = opened(f"imagefolder:{tmp_path}", held_out=0.5)
        assert (source.classes, source.images, source.held_out_images) == (["cat", "dog"], 3, 2)
        assert {image[0] for _, image in keys(source.held_out(2, "cpu"))} == {4, 5}

    def test_few_shot_has_so_many_of_each_class(self, tmp_path: Path) -> None:
        write_pictures(tmp_path, {"cat": range(10), "dog": range(100, 120)})
        source = opened(f"imagefolder:{tmp_path}", held_out=0.2)
        few = source.few_shot(3, seed=0)
        labels, pixels = zip(*keys(few.train_as_measured(6, "cpu")), strict=True)
        assert Counter(labels) == {0: 3, 1: 3}
        assert (few.images, few.held_out_images) == (6, source.held_out_images)
        assert few.digest != source.digest
        assert set(pixels) == {image for _, image in keys(source.few_shot(3, seed=0).train_as_measured(6, "cpu"))}
        assert set(pixels) != {image for _, image in keys(source.few_shot(3, seed=1).train_as_measured(6, "cpu"))}
        with pytest.raises(ValueError, match=r"few_shot is 11, but class 0 has \d+ pictures"):
            source.few_shot(11, seed=0)


class TestFraming:
    @pytest.fixture
    def photo(self) -> Image.Image:
        noise = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)
        return Image.fromarray(noise).resize((106, 74), Image.Resampling.BICUBIC)

    def test_the_middle_is_torchvisions(self, photo: Image.Image) -> None:
        from torchvision.transforms import v2

        for image in (photo, photo.transpose(Image.Transpose.ROTATE_90)):
            reference = v2.Compose(
                [v2.Resize(256 * 28 // 224, v2.InterpolationMode.BICUBIC), v2.CenterCrop(28), v2.PILToTensor()]
            )
            np.testing.assert_array_equal(Framing(Data(size=28)).central(image), reference(image))

    def test_a_random_view_is_torchvisions(self, photo: Image.Image) -> None:
        from torchvision.transforms import v2

        view = View(scale=(0.1, 0.6), flip=0.0)
        for number in range(5):
            left, top, right, bottom = random_box(photo.size, view, np.random.default_rng((number, 1)))
            box = (top, left, bottom - top, right - left)
            reference = v2.functional.resized_crop(photo, *box, [28, 28], v2.InterpolationMode.BICUBIC)
            found = Framing(Data(size=28, view=view)).random(photo, (number, 1))
            np.testing.assert_array_equal(found, np.asarray(reference).transpose(2, 0, 1))

    def test_random_boxes_keep_to_scale_and_ratio(self) -> None:
        generator, view = np.random.default_rng(0), View(scale=(0.2, 0.5), ratio=(0.5, 2.0))
        shares, ratios = [], []
        for _ in range(2000):
            left, top, right, bottom = random_box((300, 200), view, generator)
            assert 0 <= left < right <= 300
            assert 0 <= top < bottom <= 200
            shares.append((right - left) * (bottom - top) / 60_000)
            ratios.append((right - left) / (bottom - top))
        assert 0.195 < min(shares) < 0.21
        assert 0.49 < max(shares) < 0.505
        assert 0.49 < min(ratios) < 0.52
        assert 1.9 < max(ratios) < 2.05
        assert abs(np.mean(np.log(ratios)) - 0.0) < 0.1

    def test_a_box_that_never_fits_is_the_middle(self) -> None:
        view = View(scale=(1.0, 1.0), ratio=(1.0, 1.0))
        assert random_box((30, 10), view, np.random.default_rng(0)) == (10, 0, 20, 10)

    def test_a_window_is_not_scaled(self) -> None:
        picture = np.arange(24 * 24, dtype=np.uint16).reshape(1, 24, 24).astype(np.uint8)
        framing, image = Framing(Data(size=16, crop_of=24)), decoded(picture, 1)
        corners = set()
        for number in range(200):
            window = framing.random(image, (number,))
            place = next(
                (top, left)
                for top in range(9)
                for left in range(9)
                if np.array_equal(picture[:, top : top + 16, left : left + 16], window)
            )
            corners.add(place)
        assert len(corners) > 70  # of 81
        np.testing.assert_array_equal(framing.central(image), picture[:, 4:20, 4:20])
        twice = Image.fromarray(picture[0]).resize((48, 96), Image.Resampling.NEAREST)
        assert framing.random(twice, (0,)).shape == (1, 16, 16)

    def test_flips_and_turns(self) -> None:
        picture = np.zeros((1, 16, 16), np.uint8)
        picture[:, :, 8:] = 200
        image, whole = decoded(picture, 1), {"scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
        flips = Framing(Data(size=16, view=View(**whole, flip=0.5)))
        seen = {flips.random(image, (number,)).tobytes() for number in range(20)}
        assert seen == {picture.tobytes(), picture[:, :, ::-1].tobytes()}
        turns = Framing(Data(size=16, view=View(**whole, rotation=90.0)))
        assert len({turns.random(image, (number,)).tobytes() for number in range(20)}) == 20

    @pytest.mark.parametrize(
        ("mode", "color", "gray", "rgb"),
        [
            ("1", 1, [255], [255] * 3),
            ("L", 77, [77], [77] * 3),
            ("RGB", (200, 100, 50), [124], [200, 100, 50]),
            ("RGBA", (200, 100, 50, 128), [124], [200, 100, 50]),
            ("I;16", 77 * 256 + 5, [77], [77] * 3),
        ],
    )
    def test_any_mode_is_converted(self, mode: str, color: Any, gray: list[int], rgb: list[int]) -> None:
        file = io.BytesIO()
        Image.new(mode, (3, 3), color).save(file, "PNG")
        for channels, expected in ((1, gray), (3, rgb)):
            pixels = np.asarray(decoded(file.getvalue(), channels)).reshape(9, -1)
            assert pixels.tolist() == [expected] * 9


def write_pictures(folder: Path, classes: dict[str, Iterable[int]]) -> None:
    """Uniform pictures, of the value that is their name."""
    for name, values in classes.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for value in values:
            Image.new("L", (SIZE, SIZE), value).save(folder / name / f"{value:03d}.png")


def test_classes_and_order_are_torchvisions(tmp_path: Path) -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    write_pictures(tmp_path, {"b": [5, 4], "a": [3], "B": [2], "a/deeper": [9], ".hidden/x": [7]})
    (tmp_path / "a" / "notes.txt").write_text("not a picture")
    (tmp_path / "b" / "PHOTO.PNG").write_bytes((tmp_path / "b" / "005.png").read_bytes())
    source = opened(f"imagefolder:{tmp_path}")
    listed = stored.IndexedFiles.read(source._train, Batches(source.images), range(1), 0)
    (tmp_path / ".hidden").rename(tmp_path / "z")
    reference = datasets.ImageFolder(tmp_path)
    assert source.classes == reference.classes[:-1]
    assert [(piece.name, piece.label) for piece in next(listed)] == reference.samples[:-1]


class Batches:
    """One batch of all."""

    def __init__(self, count: int) -> None:
        self._count = count

    def slice_at(self, start: int, epoch: int) -> tuple[Any, Any]:
        return np.arange(self._count), np.zeros(self._count, int)


class TestBadFolders:
    def test_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="nowhere: no such folder; expected one that holds a folder"):
            opened(f"imagefolder:{tmp_path / 'nowhere'}")

    def test_no_pictures(self, tmp_path: Path) -> None:
        write_pictures(tmp_path, {"cat": [], "dog": []})
        with pytest.raises(ValueError, match="has no pictures; expected a folder for each class"):
            opened(f"imagefolder:{tmp_path}")
        write_pictures(tmp_path, {"cat": [1]})
        with pytest.raises(ValueError, match="dog has no pictures; expected some of each class"):
            opened(f"imagefolder:{tmp_path}")

    def test_one_class(self, tmp_path: Path) -> None:
        write_pictures(tmp_path, {"cat": [1, 2]})
        with pytest.raises(ValueError, match=r"imagefolder:.* has one class, 'cat'; expected two or more"):
            opened(f"imagefolder:{tmp_path}")

    def test_other_classes_held_out(self, tmp_path: Path) -> None:
        write_pictures(tmp_path / "train", {"cat": [1], "dog": [2]})
        write_pictures(tmp_path / "val", {"cat": [3], "fox": [4]})
        with pytest.raises(ValueError, match="class 'dog' is in train or in val alone"):
            opened(f"imagefolder:{tmp_path}")

    def test_too_little_to_hold_out(self, tmp_path: Path) -> None:
        write_pictures(tmp_path, {"cat": [1], "dog": [2]})
        with pytest.raises(ValueError, match=r"held_out is 0.01 of 2 files, which leaves one part empty"):
            opened(f"imagefolder:{tmp_path}", held_out=0.01)

    @pytest.fixture
    def damaged(self, tmp_path: Path) -> Path:
        """Twelve good pictures, and three files that are none: empty, cut short, and text."""
        write_pictures(tmp_path, {"cat": range(1, 7), "dog": range(7, 13)})
        noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE), np.uint8)
        Image.fromarray(noise).save(tmp_path / "cat" / "short.png")
        whole = (tmp_path / "cat" / "short.png").read_bytes()
        (tmp_path / "cat" / "short.png").write_bytes(whole[: len(whole) // 2])
        (tmp_path / "cat" / "empty.jpg").touch()
        (tmp_path / "dog" / "text.jpg").write_text("no picture")
        return tmp_path

    def test_corrupt_pictures_are_named(self, damaged: Path) -> None:
        loader = opened(f"imagefolder:{damaged}").train_as_measured(15, "cpu")
        with pytest.raises(ValueError, match=r"cat/empty\.jpg: cannot be decoded \(.+\); expected .* skip_corrupt"):
            next(iter(loader))

    def test_corrupt_pictures_are_skipped_and_counted_where_asked(self, damaged: Path) -> None:
        source = opened(f"imagefolder:{damaged}", skip_corrupt=True)
        with pytest.warns(UserWarning, match=r"3 pictures cannot be decoded and were left out: .*empty\.jpg, .*text"):
            measured = keys(source.train_as_measured(4, "cpu"))
        assert [Path(name).name for name in source.corrupt] == ["empty.jpg", "short.png", "text.jpg"]
        assert sorted(image[0] for _, image in measured) == list(range(1, 13))
        trained = keys(source.train(15, "cpu", seed=0))  # said once
        assert len(trained) == 15
        assert Counter(image[0] for _, image in trained).keys() == set(range(1, 13))
        assert all(label == (image[0] > 6) for label, image in trained)

    def test_a_batch_without_any_picture(self, damaged: Path) -> None:
        for file in damaged.glob("*/0*.png"):
            file.write_bytes(b"")
        nothing = pytest.raises(ValueError, match=r"cannot be decoded .*, nor any other picture of its batch")
        with nothing, pytest.warns(UserWarning, match="left out"):
            next(iter(opened(f"imagefolder:{damaged}", skip_corrupt=True).train(5, "cpu", seed=0)))

    def test_a_file_that_is_gone_is_not_a_corrupt_one(self, tmp_path: Path) -> None:
        write_pictures(tmp_path, {"cat": [1], "dog": [2]})
        source = opened(f"imagefolder:{tmp_path}", skip_corrupt=True)
        (tmp_path / "dog" / "002.png").unlink()
        with pytest.raises(FileNotFoundError, match=r"002\.png"):
            keys(source.train(2, "cpu", seed=0))


def write_shard(file: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(file, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


class TestShards:
    @pytest.fixture
    def picture(self) -> bytes:
        file = io.BytesIO()
        Image.new("RGB", (40, 30), (10, 20, 30)).save(file, "JPEG")
        return file.getvalue()

    def test_others_shards(self, tmp_path: Path, picture: bytes) -> None:
        """Names with folders, other files beside the picture, capital suffixes, labels with a line's end."""
        members = {}
        for number in range(6):
            members |= {
                f"train/n{number}.JPG": picture,
                f"train/n{number}.cls": b"%d\n" % (number % 3),
                f"train/n{number}.json": b"{}",
            }
        for shard in "ab":
            write_shard(tmp_path / f"{shard}.tar", members)
        done: list[tuple[str, int, int]] = []
        for pattern in (f"{tmp_path}/{{a,b}}.tar", f"{tmp_path}/*.tar", f"{tmp_path}"):
            source = open_source(Data(source=f"shards:{pattern}", size=SIZE), progress=lambda *at: done.append(at))
            assert (source.classes, source.images) == (["00000", "00001", "00002"], 12)
            assert done.pop() == ("counting shards", 2, 2)
        images, labels = next(iter(source.train(12, "cpu", seed=0)))
        assert images.shape == (12, 3, SIZE, SIZE)
        assert Counter(labels.tolist()) == {0: 4, 1: 4, 2: 4}
        assert len(list(tmp_path.iterdir())) == 2  # nothing is written beside them

    def test_corrupt_pictures_in_shards(self, tmp_path: Path, picture: bytes) -> None:
        members = {}
        for number in range(8):
            members |= {f"{number}.jpg": b"none" if number == 5 else picture, f"{number}.cls": b"%d" % (number % 2)}
        write_shard(tmp_path / "s.tar", members)
        with pytest.raises(ValueError, match=r"s\.tar: 5: cannot be decoded"):
            keys(opened(f"shards:{tmp_path}").train(4, "cpu", seed=0))
        source = opened(f"shards:{tmp_path}", skip_corrupt=True)
        with pytest.warns(UserWarning, match=r"1 pictures cannot be decoded and were left out: .*s\.tar: 5"):
            assert len(keys(source.train_as_measured(4, "cpu"))) == 7

    def test_raw_pixels(self, dataset: fdsl.Dataset, tmp_path: Path) -> None:
        export_dataset(dataset, tmp_path / "raw", "webdataset", encoding="raw", workers=1)
        assert sorted(keys(opened(f"shards:{tmp_path / 'raw'}").train(36, "cpu", seed=0))) == sorted(all_of(dataset))

    def test_patterns_that_match_nothing(self, tmp_path: Path) -> None:
        for pattern in ("*.tar", "shard-{0..3}.tar", ""):
            with pytest.raises(FileNotFoundError, match=r"expected \.tar files, such as shards:FOLDER/shard-"):
                opened(f"shards:{tmp_path}/{pattern}")
        with pytest.raises(ValueError, match=r"s3://bucket/a.tar is no path"):
            opened("shards:s3://bucket/a.tar")

    @pytest.mark.parametrize(
        ("members", "message"),
        [
            ({}, "has no samples"),
            ({"a.jpg": b"x", "a.cls": b"0", "b.jpg": b"x"}, r"s\.tar: b has no \.cls; expected both"),
            ({"a.cls": b"0"}, r"s\.tar: a has no picture; expected both"),
            ({"a.jpg": b"x", "a.cls": b"cat"}, r"a\.cls is b'cat'; expected the number of a class"),
            ({"a.jpg": b"x", "a.cls": b"3"}, "all shards together have 1 classes; expected two or more"),
        ],
    )
    def test_samples_that_lack_something(self, tmp_path: Path, members: dict[str, bytes], message: str) -> None:
        write_shard(tmp_path / "s.tar", members)
        with pytest.raises(ValueError, match=message):
            opened(f"shards:{tmp_path}/s.tar")

    def test_files_that_are_no_tar(self, tmp_path: Path, picture: bytes) -> None:
        (tmp_path / "s.tar").write_bytes(b"no tar" * 1000)
        with pytest.raises(ValueError, match=r"s\.tar: a damaged tar file"):
            opened(f"shards:{tmp_path}/s.tar")

    @pytest.mark.parametrize("damage", [slice(100), slice(0), slice(512, 600)])
    def test_a_shard_that_ends_in_a_header_is_damaged(self, tmp_path: Path, picture: bytes, damage: slice) -> None:
        write_shard(tmp_path / "s.tar", {f"{n}{suffix}": b"%d" % n for n in range(4) for suffix in (".jpg", ".cls")})
        whole = (tmp_path / "s.tar").read_bytes()
        (tmp_path / "s.tar").write_bytes(whole[:4096] + whole[4096:4608][damage])  # the headers of two come before
        with pytest.raises(ValueError, match=r"s\.tar: a damaged tar file"):
            opened(f"shards:{tmp_path}/s.tar")

    def test_shards_that_changed_since(self, tmp_path: Path, picture: bytes) -> None:
        members = {
            f"{n}{suffix}": content
            for n in range(20)
            for suffix, content in ((".jpg", picture), (".cls", b"%d" % (n % 2)))
        }
        write_shard(tmp_path / "s.tar", members)
        source = opened(f"shards:{tmp_path}/s.tar")
        whole = (tmp_path / "s.tar").read_bytes()
        (tmp_path / "s.tar").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ValueError, match=r"s\.tar(: a damaged tar file| has \d+ samples; expected 20)"):
            keys(source.train(20, "cpu", seed=0))

    def test_shards_that_are_not_the_manifests(self, dataset: fdsl.Dataset, tmp_path: Path) -> None:
        export_dataset(dataset, tmp_path / "x", "webdataset", shard_size=9, workers=1)
        with (tmp_path / "x" / "shard-000001.tar").open("ab") as file:
            file.write(bytes(512))
        with pytest.raises(ValueError, match=r"shard-000001\.tar has [\d,]+ bytes; expected [\d,]+, as its manifest"):
            opened(f"shards:{tmp_path / 'x'}")

    def test_shards_in_category_order(self, dataset: fdsl.Dataset, tmp_path: Path) -> None:
        export_dataset(dataset, tmp_path / "x", "webdataset", shard_size=9, order="category", workers=1)
        with pytest.warns(UserWarning, match="a category's pictures follow one another"):
            opened(f"shards:{tmp_path / 'x'}")
        with pytest.raises(ValueError, match="held_out is whole shards; expected an export in shuffled order"):
            opened(f"shards:{tmp_path / 'x'}", held_out=0.5)

    def test_too_few_to_hold_one_out(self, dataset: fdsl.Dataset, tmp_path: Path) -> None:
        export_dataset(dataset, tmp_path / "x", "webdataset", workers=1)
        with pytest.raises(ValueError, match=r"held_out is 0.1 of 1 shards, which leaves none to train on"):
            opened(f"shards:{tmp_path / 'x'}", held_out=0.1)

    def test_few_shot_is_refused(self, exports: dict[str, str]) -> None:
        with pytest.raises(ValueError, match=r"few_shot of shards:.*; expected pictures that are not in shards"):
            opened(exports["shards"]).few_shot(1, seed=0)

    def test_the_buffer_mixes_shards(self) -> None:
        import random

        mixed = list(shards._shuffled(range(10_000), random.Random(0)))
        assert sorted(mixed) == list(range(10_000))
        moved = np.abs(np.array(mixed) - np.arange(10_000))
        assert moved.mean() > shards._SHUFFLED / 2


@pytest.mark.parametrize("kind", ["shards:", "imagefolder:", "hf:"])
def test_kinds_without_a_name(kind: str) -> None:
    with pytest.raises(ValueError, match=f"source is '{kind}'; expected a name after the colon"):
        opened(kind)


def test_names_that_are_nearly_one() -> None:
    with pytest.raises(ValueError, match="source is 'cifar-10'; expected a catalog or a dataset, such as 'cifar10'"):
        opened("cifar-10")
