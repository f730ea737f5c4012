"""The folder of a run: what it is told apart by, its lock, its checkpoint and its log."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

try:
    import torch
except ImportError as error:
    raise ImportError(f"training needs {error.name}, which is not installed; pip install 'fdsl[train]'") from error

from fdsl.whole_files import whole_or_nothing

CHECKPOINT, LOG, REPORT, LOCK = "last.ckpt", "log.csv", "report.json", ".lock"
_COLUMNS = ("step", "seconds", "loss", "learning_rate", "held_out_accuracy")
# What changes no weight of a run: it may be another when the run is resumed.
_ANY = {"title", "source", "training.checkpoint_every", "training.evaluations", "training.held_out_images"}


def read_json(file: Path) -> dict[str, Any]:
    """What a run wrote there; nothing where there is no such file.

    Raises:
        ValueError: it is damaged.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{file} cannot be read; expected the JSON that a run wrote")
    return found


def claim(folder: Path, resume: bool) -> None:
    """Makes a folder a run's, which has a log from its first moment, so that it is told from one of something else.

    Raises:
        FileExistsError: it is not empty, or holds no run to resume.
        OSError: it cannot be written.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (resume and (folder / LOG).is_file()):
        raise FileExistsError(
            f"{folder} is not empty; expected a new or empty folder, or resume=True and a run's folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".*.partial"):  # by a process that was killed as it wrote
        left.unlink()
    with (folder / LOG).open("a"):
        pass


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """A folder for this process alone; the system frees the lock when the process ends, however it ends.

    Raises:
        RuntimeError: another process has it.
        OSError: it cannot be written.

    >>> with alone_in(Path("runs/cifar10")):  # doctest: +SKIP
    ...     work()
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(f"another process is at work on {folder}; expected a folder of its own") from None
        except OSError:
            pass  # some network file systems have no locks
        yield


def checkpoint_in(folder: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The checkpoint of a run with these settings; None where there is none yet.

    Raises:
        ValueError: it is damaged, or of other settings: names the first one and both values.
    """
    file = folder / CHECKPOINT
    if not file.is_file():
        return None
    try:
        checkpoint: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        found = checkpoint["fdsl"]["settings"]
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{file}: not a checkpoint of fdsl.train.pretraining: {reason}") from None
    any_of = _ANY | {"data.source"} if found.get("dataset") == settings["dataset"] else _ANY
    for name, was, wanted in differences(found, settings):
        if name not in any_of:
            raise ValueError(f"{file}: its {name} is {was!r}, and {wanted!r} was asked for; expected the same")
    return checkpoint


def differences(found: Mapping[str, Any], asked: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Names and both values of settings that differ, a recipe's own before the digests that follow from them.

    >>> list(differences({"freeze": 0, "recipe": {"data": {"size": 32}}}, {"freeze": 0, "recipe": {"data": {}}}))
    [('data.size', 32, None)]
    """
    was, wanted = dict(_flat(found)), dict(_flat(asked))
    for name in sorted({**wanted, **was}, key=lambda name: not name.startswith("recipe.")):
        if was.get(name) != wanted.get(name):
            yield name.removeprefix("recipe."), was.get(name), wanted.get(name)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None:
            yield prefix + name, list(value) if isinstance(value, tuple) else value


def start_log(folder: Path, step: int) -> None:
    """Leaves what was logged up to a step; what an earlier session logged after its last checkpoint comes again."""
    text = (folder / LOG).read_text()
    whole = text[: text.rfind("\n") + 1]  # a process that is killed may leave a part of a row
    rows = [row for row in csv.DictReader(whole.splitlines()) if int(row["step"]) <= step]
    with whole_or_nothing(folder / LOG) as temporary, temporary.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def append_log(folder: Path, row: Mapping[str, float]) -> None:
    """Adds a row to the log."""
    with (folder / LOG).open("a", newline="") as lines:
        csv.DictWriter(lines, _COLUMNS, lineterminator="\n").writerow(
            {name: value if isinstance(value, int) else f"{value:.6g}" for name, value in row.items()}
        )
