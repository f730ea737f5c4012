"""Files and folders that appear complete or not at all, and the digest by which a file is known to be whole."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path


def file_digest(file: Path) -> str:
    """The sha256 hex of a file.

    >>> file_digest(Path("/dev/null"))[:8]
    'e3b0c442'
    """
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextlib.contextmanager
def whole_or_nothing(target: Path, within: Path | None = None) -> Iterator[Path]:
    """A name to write to, a file or a folder; it becomes `target` at the end, or is removed.

    Args:
        target: what appears.
        within: the folder of the name until then, on the same file system; None is the target's own.

    Raises:
        OSError: it cannot be written; the message names `target`, and nothing is left behind.

    >>> with whole_or_nothing(Path("report.txt")) as temporary:
    ...     temporary.write_text("complete")
    """
    temporary = (within or target.parent) / f".{target.name}.{secrets.token_hex(4)}.partial"
    try:
        yield temporary
        os.replace(temporary, target)
    except BaseException as error:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):  # a read-only file system refuses this too
                temporary.unlink()
        if isinstance(error, OSError):
            why = os.strerror(error.errno) if error.errno else str(error)
            raise OSError(error.errno, f"cannot write ({why})", str(target)) from None
        raise


@contextlib.contextmanager
def whole_folder(target: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder beside `target` to fill; it becomes `target` at the end, or is removed. What it lies in is made.

    Raises:
        FileExistsError: there is a file, or a folder that holds something, before anything is written.
        OSError: it cannot be written; the message names `target`, and nothing is left behind.

    >>> with whole_folder("report") as temporary:
    ...     (temporary / "report.txt").write_text("complete")
    """
    folder = Path(target).resolve()  # a link stays one, and what it points to is filled
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists; expected a new or an empty folder")
    with whole_or_nothing(folder) as temporary:
        temporary.mkdir(parents=True)
        yield temporary
