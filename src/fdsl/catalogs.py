"""Catalogs: the parameters of many categories, and their file formats."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import mmap
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from fdsl._core import MAX_MAPS
from fdsl.engines import engine_for
from fdsl.families import family_named
from fdsl.families.protocol import SHRINK_STEPS, Family, ProbedFamily
from fdsl.progress import Progress
from fdsl.whole_files import whole_folder, whole_or_nothing

Array = NDArray[Any]

# The one key of a file's metadata, whose value is JSON: several keys would come in another order at each saving.
_METADATA_KEY, _FORMAT_VERSION = "fdsl-catalog", 1
# Up to this many bytes the digest is compared whenever a file is opened: some tens of milliseconds.
_ALWAYS_VERIFIED = 16 << 20
# What safetensors itself accepts, so that a foreign file cannot make us read more.
_LONGEST_HEADER = 100_000_000
_DTYPES = {
    name: np.dtype(code)
    for name, code in {
        "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4",
        "U64": "<u8", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
    }.items()
}  # fmt: skip
# The families that were published as CSV folders: parameters of a map before its probability, digits of a file's name.
_CSV_LAYOUTS = {"fractaldb": (6, 5), "exfractaldb": (12, 6)}


@dataclass(frozen=True, eq=False, repr=False)
class Catalog:
    """Categories of one family, with what was found out about each when the catalog was made.

    Immutable: the arrays are read-only, and two catalogs are equal if their digests are. `fdsl.search` and
    `fdsl.catalog` make them. One that came from a file keeps the arrays there (memory-mapped, read where they are
    used) and pickles as its path, so that data-loader workers share it.

    Attributes:
        family: name of the family, such as "fractaldb".
        params: the family's arrays for C categories; fractaldb: maps int32 (C,), affine float64 (C, M, 6) as a…f,
            probability float64 (C, M).
        variation: setting s of the parameter variations, 0.4 as published; None where the family has no such setting.
        shrink: uint8 (C, R) for R weight rows, in eighths: 8 leaves a variation as it is, 0 leaves none of it. None
            where the family has no weight rows; so are the boxes.
        boxes: float32 (C, R, 4): x0, x1, y0, y1 that the probe of each (category, weight row) filled; in space
            (C, R, 5): least and largest coordinate of all three axes together, and the centre of mass.
        settings: how it was made, in terms of JSON; not part of the digest.
        path: the safetensors file behind it, if there is one.

    Raises:
        ValueError: an array has another dtype or shape than the family says, or a number makes no system.

    Example:
        >>> catalog = fdsl.catalog("fractaldb-1k")
        >>> len(catalog), catalog.params["affine"].shape, catalog.boxes.shape
        (1000, (1000, 7, 6), (1000, 25, 4))
    """

    family: str
    params: Mapping[str, Array]
    variation: float | None = None
    shrink: NDArray[np.uint8] | None = None
    boxes: NDArray[np.float32] | None = None
    settings: dict[str, object] = field(default_factory=dict)
    path: Path | None = None

    def __post_init__(self) -> None:
        family = family_named(self.family)
        params = {name: _read_only(array) for name, array in self.params.items()}
        categories = family.check_params(params)
        if ("variation" in family.settings) != (self.variation is not None):
            expected = "a setting over 0 and up to 0.5" if self.variation is None else "None"
            raise ValueError(f"variation of {self.family} is {self.variation!r}; expected {expected}")
        found: dict[str, Array | None] = {"shrink": self.shrink, "boxes": self.boxes}
        expected_arrays: dict[str, str] = {}
        if isinstance(family, ProbedFamily):
            rows = (categories, family.weight_rows)
            expected_arrays = {"shrink": f"uint8 {rows}", "boxes": f"float32 {(*rows, family.box_numbers)}"}
        for name, array in found.items():
            was = None if array is None else f"{array.dtype} {array.shape}"
            if was != expected_arrays.get(name):
                raise ValueError(f"{name} is {was}; expected {expected_arrays.get(name)}")
        values: dict[str, object] = {
            "params": MappingProxyType(params),
            "variation": None if self.variation is None else check_variation(self.variation),
            **{name: None if array is None else _read_only(array) for name, array in found.items()},
            # Through JSON now, so that a file gives back the same.
            "settings": json.loads(json.dumps(self.settings)),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        if self.path is None:
            self._check_values()

    def _check_values(self) -> None:
        """Reads every array, which `load` leaves out for large files."""
        family = family_named(self.family)
        family.check_values(self.params)
        if self.shrink is not None and (self.shrink > SHRINK_STEPS).any():
            raise ValueError(f"shrink goes up to {self.shrink.max()}; expected 0 to {SHRINK_STEPS} eighths")
        if self.boxes is not None and not np.isfinite(self.boxes).all():
            broken = int(np.argmin(np.isfinite(self.boxes).all((1, 2))))
            raise ValueError(f"category {broken}: a number of its boxes is not finite; expected those of a probe")

    def _arrays(self) -> dict[str, Array]:
        found = {"shrink": self.shrink, "boxes": self.boxes}
        return {**self.params, **{name: array for name, array in found.items() if array is not None}}

    @cached_property
    def digest(self) -> str:
        """The sha256 in hex of the content: family, variation, and each array's name, dtype, shape and bytes.

        The same on every machine (little-endian bytes); settings and path are left out. A file's is the stored one.
        """
        content = hashlib.sha256(f"{self.family}\n{self.variation!r}\n".encode())
        for name, array in sorted(self._arrays().items()):
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            content.update(f"{name} {little.dtype.str} {little.shape}\n".encode())
            content.update(little.reshape(-1).view(np.uint8).data)
        return content.hexdigest()

    def __len__(self) -> int:
        return len(next(iter(self.params.values())))

    def __repr__(self) -> str:
        return (
            f"Catalog(family={self.family!r}, categories={len(self)}, variation={self.variation}, "
            f"digest={self.digest[:12]!r})"
        )

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, Catalog) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> tuple[Callable[..., Catalog], tuple[object, ...]]:
        # The family comes first: to unpickle a user's own is to import what registers it.
        family = family_named(self.family)
        if self.path is not None:
            return _reopen, (family, str(self.path), self.digest)
        return _remake, (family, dict(self.params), self.variation, self.shrink, self.boxes, self.settings)

    @classmethod
    def load(cls, file: str | os.PathLike[str], verify: bool = False) -> Catalog:
        """Opens a catalog file that `save` wrote, without reading its arrays.

        Args:
            file: the .safetensors file.
            verify: compare the content with the stored digest. Always done up to 16 MiB.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is damaged, is not a catalog, or its content has another digest than it says.

        Example:
            >>> len(fdsl.Catalog.load("fractals.safetensors", verify=True))
            1000
        """
        path = Path(file).absolute()
        arrays, all_metadata = _map_safetensors(path)
        if _METADATA_KEY not in all_metadata:
            raise ValueError(f"{path}: no {_METADATA_KEY!r} in its metadata; expected a file of Catalog.save")
        try:
            metadata = _json_object(all_metadata[_METADATA_KEY], "metadata")
            if metadata.get("version") != _FORMAT_VERSION:
                raise ValueError(f"version {metadata.get('version')!r}; expected {_FORMAT_VERSION}")
            kinds: dict[str, Any] = {"family": str, "variation": float | None, "settings": dict, "digest": str}
            missing = [key for key, kind in kinds.items() if not isinstance(metadata.get(key), kind)]
            if missing:
                raise ValueError(f"no {', '.join(missing)} in it; expected what Catalog.save writes")
            catalog = cls(
                family=metadata["family"],
                params={name: array for name, array in arrays.items() if name not in ("shrink", "boxes")},
                variation=metadata["variation"],
                shrink=arrays.get("shrink"),
                boxes=arrays.get("boxes"),
                settings=metadata["settings"],
                path=path,
            )
            if verify or sum(array.nbytes for array in arrays.values()) <= _ALWAYS_VERIFIED:
                if catalog.digest != metadata["digest"]:
                    raise ValueError(
                        f"the content has the digest {catalog.digest[:12]}; expected {metadata['digest'][:12]}, "
                        "which is stored with it"
                    )
                catalog._check_values()
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        # The stored digest stands in for the cached property, which would read a large file through.
        catalog.__dict__["digest"] = metadata["digest"]
        return catalog

    def save(self, file: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Writes the catalog as one safetensors file, whole or not at all.

        Tensors are `params`, shrink and boxes; the metadata holds family, variation, settings and digest.

        Raises:
            FileExistsError: the file exists, and `overwrite` is not set.
            OSError: it cannot be written; nothing is left behind.

        Example:
            >>> catalog.save("fractals.safetensors")
        """
        path = Path(file).absolute()
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path} exists; expected a new name, or overwrite=True")
        metadata = {
            "version": _FORMAT_VERSION,
            "family": self.family,
            "variation": self.variation,
            "settings": self.settings,
            "digest": self.digest,
        }
        with whole_or_nothing(path) as temporary, temporary.open("xb") as stream:
            stream.write(safetensors.numpy.save(self._arrays(), {_METADATA_KEY: json.dumps(metadata)}))
            stream.flush()
            # Else a machine that stops may leave the new name with nothing in it.
            os.fsync(stream.fileno())

    @classmethod
    def from_csv(
        cls,
        folder: str | os.PathLike[str],
        variation: float | None = None,
        threads: int | None = None,
        progress: Progress | None = None,
        device: str = "cpu",
    ) -> Catalog:
        """Reads FractalDB or ExFractalDB categories in the published layout, and probes them.

        One CSV file per category, in the order of their names; one row per map: a, b, c, d, e, f, p, without a header,
        as in the archives of https://github.com/hirokatsukataoka16/FractalDB-Pretrained-ResNet-PyTorch; or a … l, p,
        as the 3D search of https://github.com/masora1030/CVPR2022-Pretrained-ViT-PyTorch writes them. The number of
        columns tells the family.

        Args:
            folder: the folder of *.csv files; other files in it are left alone.
            variation: setting of FractalDB's parameter variations to probe; None is 0.4. ExFractalDB has none.
            threads: None uses the processors there are.
            progress: called with (what, done, total) while the variations are probed.
            device: that probes them, as `fdsl.search` has it.

        Raises:
            FileNotFoundError, NotADirectoryError: there is no such folder.
            ValueError: there is no CSV in it, or a row is not a map; the message names the file and the row.

        Example:
            >>> len(fdsl.Catalog.from_csv("csv/fractals", variation=0.2))
            1000
        """
        from fdsl.candidates import make_catalog  # it imports this module

        engine = engine_for(device, threads)
        names = _csv_names(folder)
        if not names:
            raise ValueError(f"{folder}: no CSV file in it; expected one for each category, such as 00000.csv")
        systems = [_parse_category(Path(folder, name)) for name in names]
        columns = len(systems[0][0])
        for name, system in zip(names, systems, strict=True):
            if len(system[0]) != columns:
                raise ValueError(f"{Path(folder, name)}: {len(system[0])} columns; expected {columns} as in {names[0]}")
        family = next(family for family, (parameters, _) in _CSV_LAYOUTS.items() if parameters + 1 == columns)
        if "variation" in family_named(family).settings:
            variation = 0.4 if variation is None else variation
        maps = np.array([len(system) for system in systems], np.int32)
        # Padded as `search` pads: the same categories have the same digest.
        table = np.zeros((len(systems), maps.max(), columns))
        table[np.arange(table.shape[1]) < maps[:, None]] = [row for system in systems for row in system]
        affine, probability = table[..., :-1].copy(), table[..., -1].copy()
        params: dict[str, Array] = {"maps": maps, "affine": affine, "probability": probability}
        settings = {"made_by": "csv", "folder": os.fspath(folder)}
        return make_catalog(family, params, variation, settings, engine, progress)

    def to_csv(self, folder: str | os.PathLike[str]) -> None:
        """Writes the parameters in the published layout, to the last bit: 00000.csv and so on (space: 000000.csv).

        The variation, shrink factors and boxes have no place there; `from_csv` probes anew.

        Args:
            folder: must not exist or be empty; it appears when complete.

        Raises:
            ValueError: the family has no such layout.
            OSError: the folder holds something or cannot be written; nothing is left behind.

        Example:
            >>> catalog.to_csv("csv/fractals")
        """
        check_csv_layout(self.family)
        digits = max(_CSV_LAYOUTS[self.family][1], len(str(len(self) - 1)))
        maps, affine, probability = (self.params[name] for name in ("maps", "affine", "probability"))
        with whole_folder(folder) as temporary:
            for category, table in enumerate(np.concatenate([affine, probability[..., None]], axis=2)):
                rows = table[: maps[category]].tolist()
                text = "".join(",".join([f"{value:.18e}" for value in row]) + "\n" for row in rows)
                (temporary / f"{category:0{digits}}.csv").write_text(text, encoding="ascii")


def has_csv_layout(folder: str | os.PathLike[str]) -> bool:
    """Whether `Catalog.from_csv` reads that folder, as far as its first file tells: labels of pictures are CSV, too.

    >>> has_csv_layout("csv/fractals"), has_csv_layout("photos")
    (True, False)
    """
    names = _csv_names(folder)
    with contextlib.suppress(ValueError):
        return bool(names and _parse_category(Path(folder, names[0])))
    return False


def _csv_names(folder: str | os.PathLike[str]) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(
            # macOS leaves ._00000.csv files, which hold no text.
            entry.name
            for entry in entries
            if entry.name.endswith(".csv") and not entry.name.startswith(".") and entry.is_file()
        )


def check_csv_layout(family: str) -> None:
    """Raises a ValueError where the family was not published as CSV files.

    >>> check_csv_layout("fractaldb")
    """
    if family not in _CSV_LAYOUTS:
        raise ValueError(f"a CSV folder holds {' or '.join(_CSV_LAYOUTS)}; expected that instead of {family}")


def check_variation(variation: float) -> float:
    """The setting of parameter variations as a float; above 0.5 the factor 1 - 2s would change its sign.

    Raises:
        ValueError: it is not over 0 and up to 0.5.

    Example:
        >>> check_variation(0.4)
        0.4
    """
    if isinstance(variation, bool) or not isinstance(variation, (int, float)) or not 0 < variation <= 0.5:
        raise ValueError(f"variation is {variation!r}; expected a setting over 0 and up to 0.5 (0.4 as published)")
    return float(variation)


def _remake(family: Family, *content: Any) -> Catalog:
    """Unpickles a catalog that has no file."""
    return Catalog(family.name, *content)


def _reopen(family: Family, path: str, digest: str) -> Catalog:
    """Unpickles a file-backed catalog; the file may have been replaced meanwhile."""
    found = Catalog.load(path)
    if found.digest != digest:
        raise ValueError(f"{path}: holds the catalog {found.digest[:12]}; expected {digest[:12]}, which was pickled")
    return found


def _read_only(array: Array) -> Array:
    """The array itself where nobody can write to it, else a copy; contiguous."""
    if array.flags.writeable or not array.flags.c_contiguous or not array.flags.aligned:
        array = np.array(array, order="C", copy=True)
        array.flags.writeable = False
    return array


def _parse_category(file: Path) -> list[list[float]]:
    """The maps of one category as rows of parameters and p; errors name the file and the row."""
    rows: list[list[float]] = []
    # By their columns: "a, b, c, d, e, f, p".
    layouts = {parameters + 1: ", ".join("abcdefghijkl"[:parameters] + "p") for parameters, _ in _CSV_LAYOUTS.values()}
    expected = " or ".join(f"{columns} ({names})" for columns, names in layouts.items())
    try:
        with file.open(encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, 1):
                if not line.strip():
                    continue
                if len(rows) == MAX_MAPS:
                    raise ValueError(f"{file}, row {number}: expected at most {MAX_MAPS} maps")
                cells = line.split(",")
                if len(cells) not in layouts or (rows and len(cells) != len(rows[0])):
                    one = f"{len(rows[0])} as before" if rows else expected
                    raise ValueError(f"{file}, row {number}: {len(cells)} columns; expected {one}")
                rows.append([_parse_number(cell, file, number) for cell in cells])
                if rows[-1][-1] < 0:
                    raise ValueError(f"{file}, row {number}: probability {rows[-1][-1]}; expected 0 or more")
    except UnicodeDecodeError:
        raise ValueError(f"{file}: not text; expected rows of {expected} columns") from None
    if not rows:
        raise ValueError(f"{file}: empty; expected 1 to {MAX_MAPS} rows of {expected} columns")
    total = sum(row[-1] for row in rows)
    if not abs(total - 1) <= 1e-6:
        raise ValueError(f"{file}, rows 1 to {len(rows)}: probabilities sum to {total:.9g}; expected 1")
    return rows


def _parse_number(cell: str, file: Path, row: int) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{file}, row {row}: {cell.strip()[:40]!r}; expected a finite number")
    return value


def _json_object(text: str | bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"its {what} cannot be read; expected a JSON object")
    return value


def _map_safetensors(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """The tensors of a safetensors file as read-only views of its memory map, and its metadata.

    The format (https://huggingface.co/docs/safetensors): the header's length as 8 bytes, little-endian; the header,
    JSON that says dtype, shape and data_offsets of each tensor; then the data. safetensors' own NumPy reader copies.
    """
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        length = int.from_bytes(stream.read(8), "little")
        start = 8 + length
        if size < 8 or length > _LONGEST_HEADER or start > size:
            raise ValueError(f"{path}: {size} bytes that end before their header; expected a whole safetensors file")
        try:
            header = _json_object(stream.read(length), "header")
            metadata = header.pop("__metadata__", {})
            if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
                raise ValueError("its metadata is not text; expected a safetensors file")
            places = {name: _tensor_place(name, entry) for name, entry in header.items()}
            end = start + max((stop for *_, stop in places.values()), default=0)
            if end != size:
                raise ValueError(f"{size} bytes; expected {end}, as its header says")
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    arrays = {
        name: np.frombuffer(mapped, dtype, math.prod(shape), start + begin).reshape(shape)
        for name, (dtype, shape, begin, _) in places.items()
    }
    return arrays, metadata


def _tensor_place(name: str, entry: object) -> tuple[np.dtype[Any], tuple[int, ...], int, int]:
    """Dtype, shape, first byte and the byte after the last, of one entry of a safetensors header."""
    match entry:
        case {"dtype": str(code), "shape": [*shape], "data_offsets": [int(begin), int(stop)]} if (
            code in _DTYPES
            and all(type(side) is int and side >= 0 for side in shape)
            and begin >= 0
            and stop - begin == math.prod(shape) * _DTYPES[code].itemsize
        ):
            return _DTYPES[code], tuple(shape), begin, stop
    raise ValueError(f"tensor {name!r} is not one that can be read; expected dtype, shape and data_offsets that agree")
