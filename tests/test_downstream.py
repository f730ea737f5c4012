from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image

import fdsl
from fdsl.export import export_dataset

pytest.importorskip("fdsl.train.recipes")
torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
datasets = pytest.importorskip("datasets")

from fdsl.train.recipes import Data, View  # noqa: E402
from fdsl.train.sources import open_source  # noqa: E402


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("FDSL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf")
    return tmp_path / "cache" / "downstream"


def opened(source: str, **settings: Any) -> Any:
    return open_source(Data(**{"source": source, "size": 32, **settings}))


def keys(batches: Iterable[Any]) -> list[tuple[int, bytes]]:
    return [
        (int(label), image.numpy().tobytes())
        for images, labels in batches
        for image, label in zip(images, labels, strict=True)
    ]


@pytest.mark.skipif(find_spec("sklearn") is None, reason="needs scikit-learn")
class TestDigits:
    def test_whole_pictures_of_each_class(self) -> None:
        from sklearn.datasets import load_digits

        source = opened("digits", size=8, channels=1)
        assert source.classes == [str(digit) for digit in range(10)]
        assert source.images + source.held_out_images == 1797
        train, test = keys(source.train_as_measured(100, "cpu")), keys(source.held_out(100, "cpu"))
        digits = load_digits()
        small = (digits.images * 255 / 16).round().astype(np.uint8)
        expected = [(int(label), image.tobytes()) for label, image in zip(digits.target, small, strict=True)]
        assert sorted(train + test) == sorted(expected)
        whole = Counter(digits.target.tolist())
        assert Counter(label for label, _ in test) == {label: round(count / 3) for label, count in whole.items()}

    def test_the_split_is_the_seeds(self) -> None:
        first, again, other = (keys(opened("digits", seed=seed).held_out(200, "cpu")) for seed in (0, 0, 1))
        assert first == again
        assert len(set(first) & set(other)) < 0.6 * len(first)
        assert opened("digits", held_out=0.1).held_out_images == pytest.approx(180, abs=5)

    def test_enlarged_to_the_size_without_loss_of_edges(self) -> None:
        images, _ = next(iter(opened("digits", size=64, channels=3).held_out(50, "cpu")))
        assert images.shape == (50, 3, 64, 64)
        assert (images[:, 0] == images[:, 2]).all()
        small, _ = next(iter(opened("digits", size=8, channels=1).held_out(50, "cpu")))
        expected = torch.nn.functional.interpolate(small.float(), 64, mode="bilinear")
        assert (images[:, :1] - expected).abs().max() <= 2

    def test_few_shot_and_views(self) -> None:
        few = opened("digits", view=View(scale=(0.5, 1.0))).few_shot(5, seed=2)
        assert (few.images, few.held_out_images) == (50, 599)
        loader = few.train(25, "cpu", seed=0)
        first, second = keys(loader), keys(loader)
        assert Counter(label for label, _ in first) == Counter(list(range(10)) * 5)
        assert not {image for _, image in first} & {image for _, image in second}


class TestTorchvision:
    @pytest.fixture
    def cifar(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray[Any, Any]]:
        """CIFAR-10's files with a few pictures of noise; their checksums are others."""
        folder = cache / "cifar-10-batches-py"
        folder.mkdir(parents=True)
        generator, pixels = np.random.default_rng(0), {}
        for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
            pixels[name] = generator.integers(0, 256, (4, 3072), np.uint8)
            (folder / name).write_bytes(pickle.dumps({"data": pixels[name], "labels": [0, 1, 9, 3]}))
        (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"class {label}" for label in range(10)]}))
        monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, md5=None: Path(path).is_file())
        return pixels

    def test_cifar10(self, cifar: dict[str, np.ndarray[Any, Any]]) -> None:
        source = opened("cifar10")
        assert (len(source.classes), source.images, source.held_out_images) == (10, 20, 4)
        rows = [image for name, batch in cifar.items() if name != "test_batch" for image in batch]
        expected = [(label, row.tobytes()) for label, row in zip([0, 1, 9, 3] * 5, rows, strict=True)]
        assert sorted(keys(source.train(10, "cpu", seed=0))) == sorted(expected)
        tested = [(label, row.tobytes()) for label, row in zip([0, 1, 9, 3], cifar["test_batch"], strict=True)]
        assert keys(source.held_out(4, "cpu")) == tested
        images, _ = next(iter(opened("cifar10", size=56, view=View()).train(4, "cpu", seed=0)))
        assert images.shape == (4, 3, 56, 56)

    def test_without_a_network(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*arguments: object, **options: object) -> None:
            raise URLError("Temporary failure in name resolution")

        monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", fail)
        message = rf"cifar100 cannot be downloaded \(.*name resolution.*\); expected .* torchvision's files in {cache}"
        with pytest.raises(OSError, match=message):
            opened("cifar100")

    def test_stanford_cars_must_be_there(self, cache: Path) -> None:
        pytest.importorskip("scipy")
        with pytest.raises(OSError, match=f"stanford-cars is offered for download no more; expected .* in {cache}"):
            opened("stanford-cars")

    def test_flowers_train_on_train_and_val(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        savemat = pytest.importorskip("scipy.io").savemat
        folder = cache / "flowers-102"
        (folder / "jpg").mkdir(parents=True)
        for number in range(1, 9):
            Image.new("RGB", (40, 30), (number, 0, 0)).save(folder / "jpg" / f"image_{number:05d}.jpg")
        savemat(folder / "imagelabels.mat", {"labels": np.array([[1, 2, 3, 102, 1, 2, 3, 102]])})
        savemat(folder / "setid.mat", {"trnid": [[1, 2]], "valid": [[3, 4]], "tstid": [[5, 6, 7, 8]]})
        monkeypatch.setattr("torchvision.datasets.flowers102.check_integrity", lambda *_: True)
        source = opened("flowers102", channels=3)
        assert (len(source.classes), source.images, source.held_out_images) == (102, 4, 4)
        assert {label for label, _ in keys(source.held_out(4, "cpu"))} == {0, 1, 2, 101}

    def test_stanford_cars(self, cache: Path) -> None:
        savemat = pytest.importorskip("scipy.io").savemat
        folder = cache / "stanford_cars"
        for part, name in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
            (folder / f"cars_{part}").mkdir(parents=True)
            (folder / "devkit").mkdir(exist_ok=True)
            rows = [(f"{number}.jpg", number + 1) for number in range(3)]
            for file, _ in rows:
                Image.new("RGB", (40, 30)).save(folder / f"cars_{part}" / file)
            savemat(folder / name, {"annotations": np.array(rows, [("fname", "O"), ("class", "i4")])})
        savemat(folder / "devkit" / "cars_meta.mat", {"class_names": np.array(["a", "b", "c"], object)})
        source = opened("stanford-cars")
        assert (source.classes, source.images, source.held_out_images) == (["a", "b", "c"], 3, 3)


class TestHuggingFace:
    def test_a_folder_of_parquet_files(self, catalog: fdsl.Catalog, tmp_path: Path) -> None:
        drawn = fdsl.Dataset(catalog, range(0, 360, 40), fdsl.RenderSpec(size=32, points=2000))
        export_dataset(drawn, tmp_path / "x", "parquet", workers=1)
        source = opened(f"hf:{tmp_path / 'x'}", channels=1)
        assert source.classes == drawn.classes
        assert (source.images, source.held_out_images) == (24, 12)
        images, labels = drawn.batch(range(36))
        expected = [(int(label), image.tobytes()) for image, label in zip(images, labels, strict=True)]
        seen = keys(source.train(24, "cpu", seed=0)) + keys(source.held_out(12, "cpu"))
        assert sorted(seen) == sorted(expected)
        assert Counter(label for label, _ in keys(source.held_out(5, "cpu"))) == dict.fromkeys(range(4), 3)

    def test_splits_of_their_own(self, tmp_path: Path) -> None:
        def write(split: str, values: list[int], labels: list[int]) -> None:
            pictures = [Image.new("RGB", (32, 32), (value, 0, 0)) for value in values]
            table = datasets.Dataset.from_dict(
                {"photo": pictures, "label": labels},
                datasets.Features({"photo": datasets.Image(), "label": datasets.Value("int64")}),
            )
            table.to_parquet(tmp_path / "x" / f"{split}.parquet")

        (tmp_path / "x").mkdir()
        write("train", [1, 2, 3, 4], [0, 1, 2, 1])
        write("validation", [5, 6], [2, 1])
        write("test", [7], [-1])  # kept back, as competitions do
        source = opened(f"hf:{tmp_path / 'x'}")
        assert (source.classes, source.images) == (["0", "1", "2"], 4)
        assert [(label, image[0]) for label, image in keys(source.held_out(2, "cpu"))] == [(2, 5), (1, 6)]

    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            ({"text": ["a"], "label": [0]}, "has the columns text, label; expected one of images"),
            ({"image": None, "name": ["a"]}, "has the columns image, name; expected one of classes"),
        ],
    )
    def test_columns_that_are_missing(self, tmp_path: Path, columns: dict[str, Any], message: str) -> None:
        if "image" in columns:
            columns = columns | {"image": [Image.new("RGB", (4, 4))]}
        (tmp_path / "x").mkdir()
        datasets.Dataset.from_dict(columns).to_parquet(tmp_path / "x" / "train.parquet")
        with pytest.raises(ValueError, match=message):
            opened(f"hf:{tmp_path / 'x'}")

    def test_not_there(self) -> None:
        with pytest.raises(OSError, match=r"hf:nobody/nothing cannot be opened \(.+\)"):
            opened("hf:nobody/nothing")
