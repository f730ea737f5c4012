"""Datasets to fine-tune on: photographs and handwriting, with their own split into training and test pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fdsl.presets import cache_folder
from fdsl.progress import Progress
from fdsl.train.recipes import Data
from fdsl.train.stored import FilesIn, IndexedFiles, StoredSource

NAMES = ("cifar10", "cifar100", "flowers102", "stanford-cars", "digits")
# What is held out where a dataset has no test pictures of its own.
_HELD_OUT = 1 / 3


def has(source: str) -> bool:
    """Whether that names a downstream dataset: one of `NAMES`, or hf:NAME.

    >>> has("cifar10"), has("hf:ylecun/mnist"), has("fractaldb-1k")
    (True, True, False)
    """
    return source in NAMES or source.startswith("hf:")


def open_downstream(data: Data, *, progress: Progress | None = None, skip_corrupt: bool = False) -> StoredSource:
    """A downstream dataset: its training pictures, and its test pictures held out.

    cifar10, cifar100, flowers102 (trained on its train and val parts, as is published) and stanford-cars are
    torchvision's, kept in `downstream` of the folder where catalogs are kept (FDSL_CACHE). digits is scikit-learn's
    handwriting, 1,797 pictures of 8x8 pixels, enlarged to the size. hf:NAME is a dataset of the Hugging Face hub, or a
    local folder such as one of parquet files, with a column of images and one of classes. What has no test pictures
    gets some held out of each class: `data.held_out`, a third where that is 0, chosen by `data.seed`.

    Raises:
        OSError: it is not there and cannot be downloaded.
        ValueError: it has no images, no classes, or one class.
        ImportError: what reads it is not installed.

    >>> source = open_downstream(Data(source="digits", size=32, channels=1))
    >>> source.classes[:3], source.images, source.held_out_images
    (['0', '1', '2'], 1198, 599)
    """
    if data.source.startswith("hf:"):
        return _hugging_face(data, skip_corrupt)
    if data.source == "digits":
        return _digits(data)
    return _torchvision(data, skip_corrupt)


def _digits(data: Data) -> StoredSource:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ImportError("digits needs scikit-learn, which is not installed; pip install 'fdsl[train]'") from None
    digits = load_digits()
    small = (digits.images * (255 / 16)).round().astype(np.uint8)
    # Whole: a test picture of any other size would lose its edges.
    side = data.size if data.crop_of is None else data.crop_of
    pixels = np.stack(
        [np.asarray(Image.fromarray(one).resize((side, side), Image.Resampling.BILINEAR)) for one in small]
    )
    return _source(data, [str(name) for name in digits.target_names], _of_array(pixels[:, None], digits.target), None)


def _torchvision(data: Data, skip_corrupt: bool) -> StoredSource:
    from filelock import FileLock  # torch brings it
    from torchvision import datasets

    root = cache_folder() / "downstream"
    root.mkdir(parents=True, exist_ok=True)

    def opened(kind: Any, *arguments: object, **options: object) -> Any:
        try:
            return kind(root, *arguments, **options)
        except ImportError:
            raise ImportError(f"{data.source} needs scipy, which is not installed; pip install 'fdsl[train]'") from None
        except (OSError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            if "scipy" in reason.lower():
                raise ImportError(f"{data.source}: {reason}") from None
            how = (
                "is offered for download no more; expected its files as torchvision has them, "
                f"stanford_cars/devkit, cars_train, cars_test and cars_test_annos_withlabels.mat, in {root}"
                if data.source == "stanford-cars"
                else f"cannot be downloaded ({reason}); expected a network, or torchvision's files in {root}"
            )
            raise OSError(f"{data.source} {how}") from None

    with FileLock(root / f".{data.source}.lock"):  # one rank downloads
        if data.source.startswith("cifar"):
            kind = datasets.CIFAR10 if data.source == "cifar10" else datasets.CIFAR100
            parts = [opened(kind, train=train, download=True) for train in (True, False)]
            train, test = (_of_array(part.data.transpose(0, 3, 1, 2), part.targets) for part in parts)
        elif data.source == "flowers102":
            parts = [opened(datasets.Flowers102, split, download=True) for split in ("train", "val", "test")]
            listed = [list(zip(part._image_files, part._labels, strict=True)) for part in parts]
            train, test = _of_paths(listed[0] + listed[1]), _of_paths(listed[2])
        else:
            parts = [opened(datasets.StanfordCars, split) for split in ("train", "test")]
            train, test = (_of_paths(part._samples) for part in parts)
    return _source(data, parts[0].classes, train, test, skip_corrupt)


def _of_array(pixels: NDArray[np.uint8], labels: Sequence[int]) -> IndexedFiles:
    return IndexedFiles(pixels, np.array(labels, np.int64), "picture {}".format)


def _of_paths(samples: Sequence[tuple[str | Path, int]]) -> IndexedFiles:
    names = [str(path) for path, _ in samples]
    labels = np.array([label for _, label in samples], np.int64)
    return IndexedFiles(FilesIn(Path(), names), labels, names.__getitem__)


def _hugging_face(data: Data, skip_corrupt: bool) -> StoredSource:
    try:
        import datasets
    except ImportError:
        raise ImportError("hf: needs datasets, which is not installed; pip install datasets") from None
    name = data.source.removeprefix("hf:")
    try:
        found = datasets.load_dataset(name)
    except Exception as error:  # of many kinds: no such dataset, no network, no data files, a gated one
        reason = " ".join(str(error).split())
        raise OSError(f"{data.source} cannot be opened ({reason})") from None
    train = found.get("train")
    if train is None:
        raise ValueError(f"{data.source} has the splits {', '.join(found)}; expected train")
    image, label = _columns(train, data.source)
    names = getattr(train.features[label], "names", None)
    parts = [_of_rows(train, image, label, data.source)]
    for split in ("test", "validation", "valid", "val"):
        # Competitions keep the labels of test pictures: all are -1.
        if split in found and (np.asarray(found[split][label]) >= 0).all():
            parts.append(_of_rows(found[split], image, label, data.source))
            break
    highest = max(int(part.labels.max()) for part in parts)
    classes = names or [str(number) for number in range(highest + 1)]
    return _source(data, classes, parts[0], parts[1] if len(parts) > 1 else None, skip_corrupt)


def _columns(part: Any, source: str) -> tuple[str, str]:
    """The names of the columns with images and with classes."""
    import datasets

    images = [name for name, feature in part.features.items() if isinstance(feature, datasets.Image)]
    if not images:
        raise ValueError(f"{source} has the columns {', '.join(part.features)}; expected one of images")
    labels = [name for name, feature in part.features.items() if isinstance(feature, datasets.ClassLabel)]
    labels += [name for name in ("label", "labels", "fine_label", "cls") if name in part.features]
    if not labels or not np.issubdtype(np.asarray(part[labels[0]][:1]).dtype, np.integer):
        raise ValueError(f"{source} has the columns {', '.join(part.features)}; expected one of classes, such as label")
    return images[0], "fine_label" if "fine_label" in labels else labels[0]


def _of_rows(part: Any, image: str, label: str, source: str) -> IndexedFiles:
    labels = np.asarray(part[label], np.int64)
    if len(labels) == 0 or labels.min() < 0:
        raise ValueError(f"{source} has pictures without a class; expected one of each")
    return IndexedFiles(_Cells(part, image), labels, lambda row: f"{source}, row {row}")


class _Cells:
    """The encoded images of a column, by row."""

    def __init__(self, part: Any, image: str) -> None:
        from datasets import Image as Encoded

        self._rows, self._image = part.select_columns(image).cast_column(image, Encoded(decode=False)), image

    def __getitem__(self, row: int) -> bytes:
        cell = self._rows[row][self._image]
        return cell["bytes"] if cell["bytes"] is not None else Path(cell["path"]).read_bytes()


def _source(
    data: Data, classes: Sequence[str], train: IndexedFiles, test: IndexedFiles | None, skip_corrupt: bool = False
) -> StoredSource:
    labels = train.labels if test is None else np.concatenate([train.labels, test.labels])
    content = {"name": data.source, "labels": hashlib.sha256(labels.astype("<i8").tobytes()).hexdigest()}
    if test is None:
        train, test = _parted(train, data.held_out or _HELD_OUT, data.seed)
    return StoredSource(data, classes, content, train, test, skip_corrupt=skip_corrupt)


def _parted(files: IndexedFiles, share: float, seed: int) -> tuple[IndexedFiles, IndexedFiles]:
    """All but a share of each class, and that."""
    apart = np.zeros(len(files), bool)
    for label in np.unique(files.labels):
        places = np.random.default_rng((seed, int(label))).permutation(np.flatnonzero(files.labels == label))
        apart[places[: round(share * len(places))]] = True
    if not apart.any():
        raise ValueError(f"held_out is {share:.3g} of {len(files)} pictures, which is none of any class; expected more")
    return files.chosen(np.flatnonzero(~apart)), files.chosen(np.flatnonzero(apart))
