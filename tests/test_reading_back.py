"""What `fdsl export` writes, read by the libraries that its users have, without any code of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fdsl
from fdsl.export import export_dataset

# webdataset leaves its shards to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

# Fractals of two values, and noise in grays: two kinds of PNG; the classes of a mix go on from part to part.
SPEC = fdsl.RenderSpec(size=36)
IMAGES = ["png", "webp"]


@pytest.fixture(scope="module")
def dataset(catalog: fdsl.Catalog) -> fdsl.MixedDataset:
    parts = (catalog, fdsl.search("perlin", 4))
    return fdsl.mix([fdsl.Dataset(part, range(0, 200, 40), SPEC) for part in parts])


@pytest.fixture(scope="module")
def color(catalog: fdsl.Catalog) -> fdsl.Dataset:
    return fdsl.Dataset(catalog, range(0, 80, 40), fdsl.RenderSpec(size=36, color="color"))


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))


def export(dataset: fdsl.Dataset | fdsl.MixedDataset, folder: Path, to: str, encoding: str) -> list[str]:
    """Shards of few pictures, so that there are several; returns their paths."""
    shard_size = None if to == "folder" else 15
    export_dataset(dataset, folder, to, encoding=encoding, shard_size=shard_size, workers=1)
    return sorted(map(str, folder.glob("*.tar" if to == "webdataset" else "*.parquet")))


def bag(images: Any, labels: Any) -> list[tuple[int, bytes]]:
    """Pairs of label and pixels in an order of their own."""
    return sorted(
        (int(label), np.ascontiguousarray(image).tobytes()) for image, label in zip(images, labels, strict=True)
    )


def expected(dataset: fdsl.Dataset | fdsl.MixedDataset, layout: str) -> list[tuple[int, bytes]]:
    """All samples, with pixels (H, W), (H, W, 3) or (C, H, W)."""
    images, labels = dataset.batch(range(len(dataset)))
    shaped: dict[str, Any] = {
        "HW": lambda: images[:, 0],
        "HWC": lambda: np.broadcast_to(images.transpose(0, 2, 3, 1), (len(images), *images.shape[2:], 3)),
        "CHW": lambda: images,
    }
    return bag(shaped[layout](), labels)


class TestWebDataset:
    @staticmethod
    def read(shards: list[str], decoder: str, image: str) -> tuple[list[Any], list[int]]:
        wds = pytest.importorskip("webdataset")
        pipeline = wds.WebDataset(shards, shardshuffle=False).decode(decoder).to_tuple(image, "cls")
        try:
            images, labels = zip(*pipeline, strict=True)
        finally:
            pipeline.close()
        return list(images), list(labels)

    @pytest.mark.parametrize("encoding", IMAGES)
    def test_gray(self, encoding: str, dataset: fdsl.MixedDataset, tmp_path: Path) -> None:
        shards = export(dataset, tmp_path, "webdataset", encoding)
        assert len(shards) == 3
        for decoder, layout in (("l8", "HW"), ("rgb8", "HWC"), ("pil", "HWC")):
            images, labels = self.read(shards, decoder, encoding)
            assert bag(images, labels) == expected(dataset, layout)

    @pytest.mark.parametrize("encoding", IMAGES)
    def test_color(self, encoding: str, color: fdsl.Dataset, tmp_path: Path) -> None:
        images, labels = self.read(export(color, tmp_path, "webdataset", encoding), "rgb8", encoding)
        assert bag(images, labels) == expected(color, "HWC")

    def test_arrays(self, dataset: fdsl.MixedDataset, tmp_path: Path) -> None:
        images, labels = self.read(export(dataset, tmp_path, "webdataset", "raw"), "l8", "npy")
        assert {(image.dtype, image.shape) for image in images} == {(np.dtype(np.uint8), (1, 36, 36))}
        assert bag(images, labels) == expected(dataset, "CHW")


class TestImageFolder:
    @pytest.mark.parametrize("encoding", IMAGES)
    def test_gray(self, encoding: str, dataset: fdsl.MixedDataset, tmp_path: Path) -> None:
        found = self.opened(export(dataset, tmp_path, "folder", encoding), tmp_path)
        assert found.classes == dataset.classes
        assert bag(*zip(*found, strict=True)) == expected(dataset, "HWC")

    def test_color(self, color: fdsl.Dataset, tmp_path: Path) -> None:
        found = self.opened(export(color, tmp_path, "folder", "png"), tmp_path)
        # Its order is that of the names.
        assert found.targets == list(color.targets)
        assert bag(*zip(*found, strict=True)) == expected(color, "HWC")

    @staticmethod
    def opened(shards: list[str], folder: Path) -> Any:
        datasets = pytest.importorskip("torchvision.datasets")
        assert shards == []
        return datasets.ImageFolder(folder)


class TestHuggingFace:
    @staticmethod
    def pixels(rows: Any, mode: str) -> tuple[list[NDArray[np.uint8]], list[int]]:
        return [np.asarray(image.convert(mode)) for image in rows["image"]], list(rows["label"])

    @pytest.mark.parametrize("encoding", IMAGES)
    def test_parquet(self, encoding: str, dataset: fdsl.MixedDataset, tmp_path: Path) -> None:
        datasets = pytest.importorskip("datasets")
        shards = export(dataset, tmp_path / "shards", "parquet", encoding)
        found = datasets.load_dataset("parquet", data_files=shards, split="train", cache_dir=str(tmp_path / "cache"))
        assert found.features["label"].names == dataset.classes
        assert bag(*self.pixels(found[:], "L")) == expected(dataset, "HW")
        streamed = datasets.load_dataset("parquet", data_files=shards, split="train", streaming=True)
        rows = list(streamed)
        assert bag(*self.pixels({key: [row[key] for row in rows] for key in rows[0]}, "RGB")) == expected(
            dataset, "HWC"
        )

    def test_parquet_of_a_folder_by_its_name(self, color: fdsl.Dataset, tmp_path: Path) -> None:
        datasets = pytest.importorskip("datasets")
        export(color, tmp_path / "shards", "parquet", "png")
        found = datasets.load_dataset(str(tmp_path / "shards"), split="train", cache_dir=str(tmp_path / "cache"))
        assert bag(*self.pixels(found[:], "RGB")) == expected(color, "HWC")

    def test_imagefolder(self, dataset: fdsl.MixedDataset, tmp_path: Path) -> None:
        datasets = pytest.importorskip("datasets")
        export(dataset, tmp_path / "folder", "folder", "png")
        found = datasets.load_dataset(
            "imagefolder", data_dir=str(tmp_path / "folder"), split="train", cache_dir=str(tmp_path / "cache")
        )
        assert found.features["label"].names == dataset.classes
        assert bag(*self.pixels(found[:], "L")) == expected(dataset, "HW")

    def test_webdataset(self, dataset: fdsl.MixedDataset, tmp_path: Path) -> None:
        datasets = pytest.importorskip("datasets")
        shards = export(dataset, tmp_path / "shards", "webdataset", "png")
        found = datasets.load_dataset("webdataset", data_files=shards, split="train", cache_dir=str(tmp_path / "cache"))
        images = [np.asarray(image.convert("L")) for image in found["png"]]
        assert bag(images, found["cls"]) == expected(dataset, "HW")
