"""`fdsl.catalog`: a catalog by its name, which is made once and kept, or by its file or folder."""

from __future__ import annotations

import contextlib
import difflib
import os
import sys
import warnings
from pathlib import Path

from fdsl import published
from fdsl.candidates import make_catalog
from fdsl.catalogs import Catalog, check_variation
from fdsl.progress import Progress

PRESETS = ("fractaldb-1k",)
# Part of a cached preset's name. Raise it when a probe gives other shrink factors or boxes than before.
_PRESET_VERSION = 1


def catalog(
    source: str | os.PathLike[str],
    variation: float | None = None,
    progress: Progress | None = None,
) -> Catalog:
    """A catalog by name, from a catalog file, or from a folder of CSV files.

    Args:
        source: "fractaldb-1k" for the 1,000 published categories of FractalDB-1k, a .safetensors file that
            `Catalog.save` wrote, or a folder that `Catalog.from_csv` reads. A name goes before a path: write
            "./fractaldb-1k" for a folder that is called like one.
        variation: setting of the parameter variations for names and folders, 0.4 unless said; a file has its own.
        progress: called with (what, done, total) while a name's categories are searched and variations probed.

    The published categories are not shipped: their search is repeated exactly, once, and kept in the folder that
    FDSL_CACHE names, else in fdsl under XDG_CACHE_HOME or ~/.cache.

    Raises:
        ValueError: no such name, a file that is not a catalog or has another variation than asked for, or a variation
            that is not over 0 and up to 0.5.
        FileNotFoundError: no such file or folder.

    Example:
        >>> len(fdsl.catalog("fractaldb-1k"))
        1000
    """
    to_probe = check_variation(0.4 if variation is None else variation)
    if source in PRESETS:
        return _fractaldb_1k(to_probe, progress)
    path = Path(source)
    if path.is_dir():
        return Catalog.from_csv(path, variation, progress=progress)
    if path.exists() or path.suffix == ".safetensors":
        found = Catalog.load(path)
        if variation is not None and variation != found.variation:
            raise ValueError(f"{path}: its variation is {found.variation}; expected {variation}, as asked for")
        return found
    expected = f"expected one of {', '.join(PRESETS)}, a .safetensors file, or a folder of CSV files"
    if not isinstance(source, str) or path.name != source:
        raise FileNotFoundError(f"{source}: no such file or folder; {expected}")
    near = difflib.get_close_matches(source.lower(), PRESETS)
    hint = f" (did you mean {' or '.join(near)}?)" if near else ""
    raise ValueError(f"{source!r} is no catalog{hint}; {expected}")


def _fractaldb_1k(variation: float, progress: Progress | None) -> Catalog:
    """The cached file of the published categories; makes it where there is none, or a damaged one."""

    def build() -> Catalog:
        def searching(found: int, tried: int) -> None:
            if progress:
                progress("searching", found, 1000)

        params = published.search(categories=1000, progress=searching)
        settings = {"made_by": "fractaldb-1k"}
        return make_catalog("fractaldb", params, variation, settings, None, progress)

    try:
        folder = _cache_folder()
        file = folder / f"fractaldb-1k-variation-{variation!r}-v{_PRESET_VERSION}.safetensors"
        with contextlib.suppress(OSError, ValueError):
            return Catalog.load(file, verify=True)  # no lock needed: a file is there whole or not at all
        folder.mkdir(parents=True, exist_ok=True)
        lock = file.with_suffix(".lock").open("ab")
    except (OSError, RuntimeError) as error:
        warnings.warn(f"fractaldb-1k is not kept, and is made anew each time: {error}", stacklevel=3)
        return build()
    with lock:
        _wait_for(lock.fileno(), file)
        try:
            return Catalog.load(file, verify=True)
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            warnings.warn(f"{error}; it is made anew", stacklevel=3)
        made = build()
        try:
            made.save(file, overwrite=True)
            return Catalog.load(file)
        except OSError as error:
            warnings.warn(f"fractaldb-1k is not kept, and is made anew each time: {error}", stacklevel=3)
            return made


def _cache_folder() -> Path:
    if os.environ.get("FDSL_CACHE"):
        return Path(os.environ["FDSL_CACHE"]).absolute()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG base directory specification: a relative path counts as none.
    return (base if base.is_absolute() else Path.home() / ".cache") / "fdsl"


def _wait_for(lock: int, file: Path) -> None:
    """Takes the lock, which the system frees when its process ends, however it ends."""
    import fcntl

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"waiting for another process, which makes {file}", file=sys.stderr, flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError:
        # Some network file systems have no locks: two processes may do the same work, and either file is right.
        pass
