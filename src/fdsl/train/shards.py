"""`shards:PATTERN`: tar shards of pictures and labels, as the package webdataset has them, read from end to end."""

from __future__ import annotations

import glob
import hashlib
import random
import tarfile
import warnings
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Self, TypeVar

try:
    from webdataset.shardlists import expand_urls
    from webdataset.tariterators import base_plus_ext, group_by_keys, tar_file_iterator
except ImportError as error:
    raise ImportError(f"shards need {error.name}, which is not installed; pip install 'fdsl[train]'") from error

import numpy as np

from fdsl.export.manifest import load_manifest
from fdsl.order import EpochBatches, EpochOrder, slice_of
from fdsl.progress import Progress
from fdsl.train.recipes import Data
from fdsl.train.stored import Piece, StoredSource, keyed_share

# The file of a sample that is its picture: the first of these that it has.
PICTURES = ("png", "jpg", "jpeg", "webp", "npy", "ppm", "bmp", "tif", "tiff")
# Samples that wait, still encoded, for their turn: enough to mix those of neighbouring shards.
_SHUFFLED = 2000

_T = TypeVar("_T")


def open_shards(data: Data, *, progress: Progress | None = None, skip_corrupt: bool = False) -> StoredSource:
    """The pictures of local tar files; see `open_source`.

    The pattern may have braces ({000000..000099}) and wildcards, or be a folder of .tar files. Each sample is a
    picture and a .cls with the number of its class. A `manifest.json` of `fdsl export` says how many there are; else
    they are counted once, by the headers. `data.held_out` is the share of whole shards that are held out, each by its
    name and `data.seed`.

    Raises:
        FileNotFoundError: the pattern matches nothing, or one of its files is not there.
        ValueError: a shard is damaged, a sample has no picture or no .cls, there is one class, or too few shards.
    """
    files = _matching(data.source.removeprefix("shards:"))
    counts, classes = _counted(files, progress)
    _check_mixed(files, data)
    digits = max(5, len(str(classes - 1)))
    names = [f"{label:0{digits}d}" for label in range(classes)]
    lines = "".join(f"{file.name} {file.stat().st_size} {count}\n" for file, count in zip(files, counts, strict=True))
    content = hashlib.sha256(lines.encode()).hexdigest()
    apart = _held_out(files, data)
    parts = [
        Shards([files[number] for number in numbers], [counts[number] for number in numbers], classes)
        for numbers in ([number for number in range(len(files)) if number not in apart], sorted(apart))
    ]
    return StoredSource(data, names, content, parts[0], parts[1] if apart else None, skip_corrupt=skip_corrupt)


class Shards:
    """Tar files that are read from end to end, in a new order each epoch, and mixed by a shuffle buffer.

    An epoch is one sequence: the shards one after the other. Each rank takes a run of it, all the same number of
    batches, so that together they see each sample once, whatever the sizes of shards; a shard at the border of two runs
    is read by both. A resumed iteration opens only the shards of which samples are left, and reads these from their
    beginning.

    Args:
        files: the shards.
        counts: their samples.
        classes: how many there are.
    """

    def __init__(self, files: list[Path], counts: list[int], classes: int) -> None:
        self._files, self._counts, self._classes = files, counts, classes
        self._first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64).tolist()

    def __len__(self) -> int:
        return int(self._first[-1])

    def first(self, limit: int) -> Shards:
        """The first so many samples, in the order of the shards: those of an export are shuffled."""
        counts = [max(0, min(count, limit - before)) for count, before in zip(self._counts, self._first, strict=False)]
        return Shards(self._files, counts, self._classes)

    def place(self, batches: EpochBatches) -> dict[str, int]:
        """How the epoch is cut: a position is one of this batch size and this number of ranks only."""
        return {"global_batch_size": batches.global_batch_size, "world_size": batches.world_size}

    def read(self, batches: EpochBatches, starts: range, epoch: int) -> Generator[list[Piece], None, None]:
        """This rank's part of the batches."""
        step, world_size, repeats = batches.global_batch_size, batches.world_size, batches.repeats
        mine = slice_of(step, batches.rank, world_size)
        whole, rest = divmod(batches.samples, step)
        tail = slice_of(0 if batches.drop_last else rest, batches.rank, world_size)
        run = range(whole * mine.start + tail.start, whole * mine.stop + tail.stop)
        done = (starts.start // step) * (mine.stop - mine.start)
        with closing(self._run(run, repeats, done, batches.shuffle_seed, epoch)) as pieces:
            for start in starts:
                part = slice_of(batches.batch_samples(start), batches.rank, world_size)
                yield list(islice(pieces, part.stop - part.start))

    def _run(self, run: range, repeats: int, done: int, seed: int | None, epoch: int) -> Generator[Piece, None, None]:
        """A rank's run of the epoch, without the pieces that are done; each sample comes `repeats` times."""
        if not run:
            return
        numbers = range(run.start // repeats, (run.stop - 1) // repeats + 1)

        def own(number: int) -> range:
            """The repeats of a sample that are this run's: at its ends not all."""
            return range(max(run.start - number * repeats, 0), min(run.stop - number * repeats, repeats))

        def mixed(items: Iterable[_T]) -> Iterator[_T]:
            return iter(items) if seed is None else _shuffled(items, random.Random(f"{seed} {epoch} {run}"))

        gone, left = set(), done
        for number in mixed(numbers):
            left -= len(own(number))
            if left < 0:
                break
            gone.add(number)
        order = list(range(len(self._files)))
        if seed is not None:
            order = EpochOrder(len(self._files), seed).at(order, epoch).tolist()
        with closing(self._samples(order, numbers, gone)) as samples:
            units = ((number, piece, repeat) for number, piece in mixed(samples) for repeat in own(number))
            for _, piece, repeat in islice(units, done, None):
                assert piece is not None
                yield piece._replace(repeat=repeat)

    def _samples(
        self, order: list[int], numbers: range, gone: set[int]
    ) -> Generator[tuple[int, Piece | None], None, None]:
        """The samples of these numbers of the sequence; None in place of what is gone."""
        begin = 0
        for shard in order:
            some = range(max(numbers.start, begin), min(numbers.stop, begin + self._counts[shard]))
            if gone.issuperset(some):
                yield from ((number, None) for number in some)
            else:
                with closing(self._pieces(shard)) as pieces:
                    for number, piece in zip(some, islice(pieces, some.start - begin, None), strict=False):
                        yield number, None if number in gone else piece
            begin += self._counts[shard]

    def _pieces(self, shard: int) -> Generator[Piece, None, None]:
        file, number = self._files[shard], -1
        with closing(_samples_of(file)) as samples:
            for number, sample in enumerate(samples):
                name = f"{file}: {sample['__key__']}"
                suffix = next((suffix for suffix in PICTURES if suffix in sample), None)
                if suffix is None or "cls" not in sample:
                    raise ValueError(f"{name} has no {'picture' if suffix is None else '.cls'}; expected both")
                label, content = _label(sample["cls"], name), sample[suffix]
                if label >= self._classes:
                    raise ValueError(f"{name} has class {label}; expected 0 to {self._classes - 1}")
                yield Piece(self._first[shard] + number, 0, label, name, partial(bytes, content))
        raise ValueError(f"{file} has {number + 1} samples; expected {self._counts[shard]}, as counted before")


def _shuffled(items: Iterable[_T], generator: random.Random) -> Iterator[_T]:
    """A shuffle buffer: each item that comes pushes out a random one of those that wait."""
    waiting: list[_T] = []
    for item in items:
        if len(waiting) < _SHUFFLED:
            waiting.append(item)
            continue
        place = generator.randrange(_SHUFFLED)
        waiting[place], item = item, waiting[place]
        yield item
    generator.shuffle(waiting)
    yield from waiting


def _samples_of(file: Path) -> Generator[dict[str, Any], None, None]:
    try:
        with open(file, "rb") as stream:
            members = ({**member, "__url__": str(file)} for member in tar_file_iterator(stream))
            yield from group_by_keys(members)
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(_damaged(file, error)) from None


def _matching(pattern: str) -> list[Path]:
    expected = "expected .tar files, such as shards:FOLDER/shard-{000000..000099}.tar or shards:'FOLDER/*.tar'"
    files = dict[Path, None]()
    for name in expand_urls(pattern):
        if "://" in name or name.startswith("pipe:"):
            raise ValueError(f"{name} is no path; expected shards on this machine or mounted there")
        path = Path(name).expanduser()
        if path.is_dir():
            path /= "*.tar"
        found = [path] if path.is_file() else [Path(match) for match in sorted(glob.glob(str(path)))]
        if not found:
            raise FileNotFoundError(f"{path}: no such file; {expected}")
        files |= dict.fromkeys(found)
    if not files:
        raise FileNotFoundError(f"shards:{pattern} matches nothing; {expected}")
    return list(files)


def _counted(files: list[Path], progress: Progress | None) -> tuple[list[int], int]:
    """The samples of each shard, and the number of classes: of manifests where all are, else of the headers."""
    manifests = {folder: load_manifest(folder) for folder in {file.parent for file in files}}
    entries = {
        folder / entry["name"]: entry
        for folder, manifest in manifests.items()
        if manifest and manifest.get("to") == "webdataset"
        for entry in manifest["shards"]
    }
    if all(file in entries for file in files):
        for file in files:
            if file.stat().st_size != entries[file]["bytes"]:
                size = f"{file.stat().st_size:,} bytes; expected {entries[file]['bytes']:,}"
                raise ValueError(f"{file} has {size}, as its manifest.json says")
        classes = max(manifest["classes"] for manifest in manifests.values() if manifest)
        return [entries[file]["pictures"] for file in files], classes
    counts, labels = [], set[int]()
    for done, file in enumerate(files):
        count, some = _count(file)
        counts.append(count)
        labels |= some
        if progress:
            progress("counting shards", done + 1, len(files))
    if len(labels) < 2:
        raise ValueError(f"{files[0]}: all shards together have {len(labels)} classes; expected two or more")
    return counts, max(labels) + 1


def _check_mixed(files: list[Path], data: Data) -> None:
    manifests = (load_manifest(folder) for folder in {file.parent for file in files})
    if any(manifest and manifest.get("order") == "category" for manifest in manifests):
        says = f"{data.source}: its manifest.json says that a category's pictures follow one another"
        if data.held_out:
            raise ValueError(f"{says}, and held_out is whole shards; expected an export in shuffled order")
        warnings.warn(f"{says}, and a buffer of {_SHUFFLED:,} mixes few; better export in shuffled order", stacklevel=4)


class _Member(tarfile.TarInfo):
    """A member of a shard whose end must be marked: tarfile takes a header that is cut or damaged for the end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if buf.count(0) == tarfile.BLOCKSIZE:  # the mark
                raise
            raise tarfile.ReadError(str(error)) from None


def _count(file: Path) -> tuple[int, set[int]]:
    """The samples of a shard, and their labels."""
    samples, labels = dict[str, set[str]](), set[int]()
    try:
        with tarfile.open(file, "r:*", tarinfo=_Member) as tar:
            for member in tar:
                key, suffix = base_plus_ext(member.name)
                if not member.isfile() or key is None or member.name.startswith("__"):
                    continue
                suffix = suffix.lower()
                samples.setdefault(key, set()).add(suffix)
                if suffix == "cls" and (content := tar.extractfile(member)) is not None:
                    labels.add(_label(content.read(), f"{file}: {key}"))
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(_damaged(file, error)) from None
    for key, suffixes in samples.items():
        if "cls" not in suffixes or suffixes.isdisjoint(PICTURES):
            raise ValueError(f"{file}: {key} has no {'picture' if 'cls' in suffixes else '.cls'}; expected both")
    if not samples:
        raise ValueError(f"{file} has no samples; expected pictures, each with a .cls")
    return len(samples), labels


def _damaged(file: Path, error: Exception) -> str:
    reason = str(error).partition("\n")[0].partition(" @ ")[0].rstrip(":")
    return f"{file}: a damaged tar file ({reason})"


def _label(content: bytes, name: str) -> int:
    text = content.strip()
    if not text.isdigit():
        raise ValueError(f"{name}.cls is {text[:20]!r}; expected the number of a class, from 0")
    return int(text)


def _held_out(files: list[Path], data: Data) -> set[int]:
    if not data.held_out:
        return set()
    count = max(1, round(data.held_out * len(files)))
    if count >= len(files):
        raise ValueError(
            f"held_out is {data.held_out} of {len(files)} shards, which leaves none to train on; expected more shards"
        )
    return set(sorted(range(len(files)), key=lambda number: keyed_share(data.seed, files[number].name))[:count])
