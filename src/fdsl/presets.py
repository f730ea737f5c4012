"""`fdsl.catalog`: a catalog by its name, which is made once and kept, or by its file or folder."""

from __future__ import annotations

import contextlib
import difflib
import os
import socket
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fdsl import published
from fdsl.candidates import head, make_catalog, search
from fdsl.catalogs import Catalog, check_variation, has_csv_layout
from fdsl.engines import engine_for
from fdsl.families import family_named
from fdsl.progress import Progress, lines_on_stderr

_PUBLISHED = "fractaldb-1k"
_THOUSANDS = (1, 10, 21, 50, 100, 300)
# The part of the time that goes into probing the variations, for one estimate of the rest.
_PROBING = {"fractaldb": 0.5, "exfractaldb": 0.78, "rcdb": 0.0, "visualatom": 0.0}
# The family and the number of categories by name.
PRESETS = {f"{family}-{k}k": (family, 1000 * k) for family in _PROBING for k in _THOUSANDS}
# Of the content, with the variation 0.4 where the family has one: the same categories on every machine.
DIGESTS = {
    "fractaldb-1k": "ff7aaedf71a4c54a99c6101fe82320d586a65829f6f61da4b0b8c68c6dd8a4dc",
    "fractaldb-10k": "7de8c763fcd6b0b64d2cbb818e71f7b35027b2cb68fd36e17786224b7dfe782a",
    "fractaldb-21k": "01f81bf672d42eb8c29f30b27864b7e03aa2e489ebad034a70c05f710b0a06af",
    "fractaldb-50k": "9cbd1afcafa68fee27ff8f58aaedc3981b1779588efee418b2f50fdfb1e34240",
    "fractaldb-100k": "c0eaab34c321626e400b93eabf13d664ab3af23cca7510e10f1b5451d3bdde87",
    "fractaldb-300k": "57ca2e82151051c4680a43503c71f2e04999422fbe67989552ed67de7e626871",
    "exfractaldb-1k": "9eca1aeebbec38bcd470460bbb71d5eeaea5244e77e1bda96deed4d3b4e0da11",
    "exfractaldb-10k": "783319cb111f78c05410127a2aaa8183be8f7d365cedf2f6ea21836af822e7a0",
    "exfractaldb-21k": "d6382082930e5cd993d8924fb1da936a3b0fc1b3c21435438721eaf850aafff6",
    "exfractaldb-50k": "492908dada1f511ddd5c5ee623d79bf5661a530b3063cacd8f1f3f4f17b71dd0",
    "exfractaldb-100k": "ed62218777ac39ec140fb9290a52a999f57ae1818876ab34c8f33e4fe03b9512",
    "exfractaldb-300k": "4e8146e18263e0ead9a74e432ebb2736153b506ed34c3959e0d180d1c2118067",
    "rcdb-1k": "7b8de6b8df8fab412c926239bf5975c0ed655e170ee7471d827f78f21aaf20de",
    "rcdb-10k": "0186520a12db2573da0cad6ab851d8e5a74ffd45ac2b9629a1c149812d8098c1",
    "rcdb-21k": "e2e046a75801a667f894ed4bfaaaebae843ce94ee6919e3abed84ab6a9c74b73",
    "rcdb-50k": "132073883e116a3825fcbb512b6f08313a9685497f3b4cc0b155fa851d37d123",
    "rcdb-100k": "a3736dd966d84772403e336e54ad4500701f12aac728b4b0a388e7a17d80c982",
    "rcdb-300k": "fa3d69cf0cbe2159241a730bdf88de2e474f73afa3e3f11c250a538fac17ca73",
    "visualatom-1k": "fff7d36d1b38336a205afc71f9e5135f5a7c5b0254b69758833863ce604bee59",
    "visualatom-10k": "59055ae84a449b009652ff82020ec56a680b49ae554c63d08d0886b550089d2d",
    "visualatom-21k": "8daf7e515ae86ed7e9b5fa2258ecc9eb665d8d622dcbd649927e20c044badc09",
    "visualatom-50k": "2854db2fc3b90c35d105df622f9ee707a3adb1d29d1874d834472002e58fc468",
    "visualatom-100k": "65a357b4452da32a4dfae222fbdbaed6f6cc041938a31d11d0dd36725a1e4118",
    "visualatom-300k": "0ffff605f40f38794c13e2f2c0bbaa427c1c2789c25ddd6072538417f1492c97",
}
# Part of a cached preset's name. Raise it when a search or a probe gives another catalog than before.
_PRESET_VERSION = 1


def catalog(
    source: str | os.PathLike[str],
    variation: float | None = None,
    progress: Progress | None = None,
    verify: bool = False,
    device: str = "cpu",
) -> Catalog:
    """A catalog by name, from a catalog file, or from a folder of CSV files.

    Args:
        source: "fractaldb-1k" for the 1,000 published categories of FractalDB-1k; a preset, which is `fdsl.search` of
            its family with seed 0: fractaldb-, exfractaldb-, rcdb- or visualatom- with 1k (fractaldb apart), 10k, 21k,
            50k, 100k or 300k; a .safetensors file that `Catalog.save` wrote; a folder that `Catalog.from_csv` reads,
            or that `fdsl pull` brought. A name goes before a path: write "./fractaldb-1k" for a folder that is called
            like one.
        variation: setting of the parameter variations for names and folders, 0.4 unless said; a file has its own.
        progress: called with (what, done, total) while a name's categories are searched and variations probed; None
            says on stderr, once a minute, how far that is.
        verify: read a file through, a name's too, and compare its content with its digest. Always done up to 16 MiB.
        device: that searches and probes where that must be done, as `fdsl.search` has it.

    A name is searched once, by one process while others wait and say for whom, and kept in the folder that FDSL_CACHE
    names, else in fdsl under XDG_CACHE_HOME or ~/.cache. Its digest is known beforehand and the same everywhere. What
    is kept and found damaged is made anew, with a warning. So are the published categories: their search is repeated
    exactly, nothing is shipped.

    Raises:
        ValueError: no such name, a file that is not a catalog or has another variation than asked for, or a variation
            that is not over 0 and up to 0.5, or of a family that has none.
        FileNotFoundError: no such file or folder.
        RuntimeError: a search gave another digest than it must.

    Example:
        >>> len(fdsl.catalog("fractaldb-1k"))
        1000
    """
    if source in PRESETS:
        return _kept(_Preset(str(source), variation), progress or lines_on_stderr(), verify, device)
    path = Path(source)
    found: Catalog | None = None
    if (path / "fdsl.json").is_file():
        from fdsl.hub import catalog_of  # it imports this module

        found = catalog_of(path)
    elif path.is_dir():
        return Catalog.from_csv(path, variation, progress=progress, device=device)
    elif path.exists() or path.suffix == ".safetensors":
        found = Catalog.load(path, verify)
    if found is not None:
        if variation is not None and variation != found.variation:
            raise ValueError(f"{path}: its variation is {found.variation}; expected {variation}, as asked for")
        return found
    names = f"{', '.join(_PROBING)} with {', '.join(f'-{k}k' for k in _THOUSANDS)}"
    expected = f"expected a preset ({names}), a .safetensors file, or a folder of CSV files"
    if not isinstance(source, str) or path.name != source:
        raise FileNotFoundError(f"{source}: no such file or folder; {expected}")
    near = difflib.get_close_matches(source.lower(), PRESETS)
    hint = f" (did you mean {' or '.join(near)}?)" if near else ""
    raise ValueError(f"{source!r} is no catalog{hint}; {expected}")


def is_catalog(source: str | os.PathLike[str]) -> bool:
    """Whether `source` is what `catalog` takes, and no folder of pictures, of a run or of something else.

    Raises:
        ValueError: a published folder's `fdsl.json` is damaged.

    >>> is_catalog("rcdb-1k"), is_catalog("imagefolder:photos")
    (True, False)
    """
    path = Path(source)
    if source not in PRESETS and path.is_dir():
        if (path / "fdsl.json").is_file():
            from fdsl.hub import has_catalog

            return has_catalog(path)
        return has_csv_layout(path)
    return source in PRESETS or path.suffix == ".safetensors"


@dataclass(frozen=True)
class _Preset:
    """A name, with the setting of its parameter variations: how it is made, and where it is kept."""

    name: str
    variation: float | None

    def __post_init__(self) -> None:
        usual = family_named(self.family).settings.get("variation")
        if usual is None and self.variation is not None:
            expected = f"None, for {self.family} has no such setting"
            raise ValueError(f"variation of {self.name} is {self.variation!r}; expected {expected}")
        if usual is not None:
            variation = check_variation(usual if self.variation is None else self.variation)
            object.__setattr__(self, "variation", variation)

    @property
    def family(self) -> str:
        return PRESETS[self.name][0]

    @property
    def categories(self) -> int:
        return PRESETS[self.name][1]

    @property
    def digest(self) -> str | None:
        usual = family_named(self.family).settings.get("variation")
        return DIGESTS.get(self.name) if self.variation == usual else None

    @property
    def file(self) -> Path:
        setting = "" if self.variation is None else f"-variation-{self.variation!r}"
        return cache_folder() / f"{self.name}{setting}-v{_PRESET_VERSION}.safetensors"

    def load(self, verify: bool) -> Catalog:
        found = Catalog.load(self.file, verify)
        if self.digest not in (None, found.digest):
            raise ValueError(f"{self.file}: the digest {found.digest[:12]}; expected {self.digest:.12}, {self.name}'s")
        return found

    def make(self, progress: Progress, device: str) -> Catalog:
        made = self._first_of_a_larger_one() or self._search(progress, device)
        if self.digest not in (None, made.digest):
            raise RuntimeError(
                f"{self.name} came out with the digest {made.digest[:12]}; expected {self.digest:.12} as on any machine"
            )
        return made

    def _first_of_a_larger_one(self) -> Catalog | None:
        for name, (family, categories) in PRESETS.items():
            if family == self.family and categories > self.categories and self.name != _PUBLISHED:
                with contextlib.suppress(OSError, ValueError, RuntimeError):
                    return head(_Preset(name, self.variation).load(verify=True), self.categories)
        return None

    def _search(self, progress: Progress, device: str) -> Catalog:
        what, share = f"searching {self.name}", _PROBING[self.family]

        def report(step: str, done: int, total: int) -> None:
            searched, probed = (done / total, 0.0) if step == "searching" else (1.0, done / total)
            progress(what, int(self.categories * ((1 - share) * searched + share * probed)), self.categories)

        if self.name != _PUBLISHED:
            settings: dict[str, Any] = {} if self.variation is None else {"variation": self.variation}
            return search(self.family, self.categories, seed=0, device=device, progress=report, **settings)
        share, engine = 0.1, engine_for(device)
        params = published.search(self.categories, progress=lambda found, _: report("searching", found, 1000))
        return make_catalog(self.family, params, self.variation, {"made_by": self.name}, engine, report)


def _kept(preset: _Preset, progress: Progress, verify: bool, device: str) -> Catalog:
    """The cached file of a preset; makes it where there is none, or a damaged one."""
    try:
        with contextlib.suppress(OSError, ValueError):
            return preset.load(verify)  # no lock needed: a file is there whole or not at all
        preset.file.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(preset.file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o666)
    except (OSError, RuntimeError) as error:
        warnings.warn(f"{preset.name} is not kept, and is made anew each time: {error}", stacklevel=3)
        return preset.make(progress, device)
    with _held(lock, preset.file):
        try:
            return preset.load(verify)
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            warnings.warn(f"{error}; it is made anew", stacklevel=3)
        made = preset.make(progress, device)
        try:
            made.save(preset.file, overwrite=True)
            return preset.load(verify=True)  # what was written is read back once
        except (OSError, ValueError) as error:
            warnings.warn(f"{preset.name} is not kept, and is made anew each time: {error}", stacklevel=3)
            return made


def cache_folder() -> Path:
    """The folder that FDSL_CACHE names, else fdsl under XDG_CACHE_HOME or ~/.cache."""
    if os.environ.get("FDSL_CACHE"):
        return Path(os.environ["FDSL_CACHE"]).absolute()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG base directory specification: a relative path counts as none.
    return (base if base.is_absolute() else Path.home() / ".cache") / "fdsl"


@contextlib.contextmanager
def _held(lock: int, file: Path) -> Iterator[None]:
    """Holds the lock on an open file, and closes it; the system frees it when its process ends, however it ends."""
    import fcntl

    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 200, 0).decode(errors="replace") or "another process"
            _say(f"waiting for {holder}, which makes {file}")
            began = time.monotonic()
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.listdir(file.parent)  # the client of a network file system may remember that the file was not there
            found = "it is there" if file.exists() else "it is not there, so this process makes it"
            _say(f"waited {time.monotonic() - began:.0f} s for {file}: {found}")
        except OSError as error:
            # Some network file systems have no locks: two processes may do the same work, and either file is right.
            warnings.warn(f"{file}: no lock ({error.strerror}); other processes may make it as well", stacklevel=5)
        with contextlib.suppress(OSError):  # a full disk
            os.ftruncate(lock, 0)
            since = time.strftime("%Y-%m-%d %H:%M:%S %z")
            os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()} (since {since})".encode(), 0)
        yield
    finally:
        with contextlib.suppress(OSError):
            os.ftruncate(lock, 0)
            fcntl.flock(lock, fcntl.LOCK_UN)  # a child that was forked meanwhile has it open, too
        os.close(lock)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
