"""`fdsl.family`: a user's own formula, a class of about 30 lines, becomes a family like the built-in ones."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fdsl.families import family_named, has_family, register
from fdsl.families.exfractaldb import VIEWS
from fdsl.families.independent import Independent
from fdsl.families.protocol import Params, Settings
from fdsl.keyed import Purpose
from fdsl.primitives import Drawing, Fields, Instances, Points, Polylines
from fdsl.rendering import COLORS, HUES, MAX_POINTS, RenderSpec

if TYPE_CHECKING:
    from fdsl.catalogs import Catalog

# What each kind of formula has of a RenderSpec, and the colours that mean something.
_OWN: dict[str, dict[str, Any]] = {
    "points": {"draw": "point", "color": "gray", "pad": 6, "fit": "own"},
    "polylines": {"color": "gray", "pad": 6, "fit": "own"},
    "field": {"color": "gray"},
}
_COLORS = {
    "points": COLORS,
    "polylines": ("gray", "white", "color"),
    "field": ("gray", "color"),
}
# Names of arrays that a catalog file has of its own.
_RESERVED = ("shrink", "boxes")
# Parameters are kept as the widest number of their kind.
_KEPT_AS = {"b": np.uint8, "i": np.int64, "u": np.int64, "f": np.float64}

FormulaClass = TypeVar("FormulaClass", bound=type)


def import_formulas(source: str) -> None:
    """Imports a module, or a file whose name ends in .py, for the families that it registers.

    Raises:
        ValueError: it cannot be imported.

    Example:
        >>> import_formulas("examples/lissajous.py")
    """
    path = Path(source)
    if path.suffix == ".py":
        if not path.is_file():
            raise ValueError(f"{source} is not a file; expected one in Python, or the name of a module")
        # As for a script: its neighbours can be imported, and so can it, where a process unpickles its class.
        sys.path.append(str(path.absolute().parent))
    try:
        module = importlib.import_module(path.stem if path.suffix == ".py" else source)
    except Exception as error:
        raise ValueError(f"{source} {_raised(error)} when it was imported") from error
    if path.suffix == ".py" and not path.samefile(str(module.__file__)):
        raise ValueError(f"{source}: there is another module {path.stem!r}, {module.__file__}; expected another name")


def family(name: str) -> Callable[[FormulaClass], FormulaClass]:
    """Registers a class as the family of that name: search, Dataset, Feed, export and the command line then know it.

    The class has these methods, and is made once, without arguments; it should remember nothing between two calls:

        settings = {"largest": 9}               optional: what fdsl.search takes for it, with what each is unless said
        sample(self, random, **settings)        one category: a dict of numbers and arrays; None rejects the candidate
        vary(self, params, random)              optional: one instance: a dict of whatever the next method reads
        points(self, params)                    (N, 2) or (N, 3) coordinates; or:
        polylines(self, params)                 a list of (K, 2) vertices, or one array (L, K, 2) or (K, 2); or:
        field(self, params, x, y)               values in [0, 1] (what is beyond is clipped) at x and y, float64 (H, W)

    Numbers and arrays are Python's, NumPy's or torch's. The arrays of all categories have the same names, kinds and
    shapes, because a catalog stacks them: whole numbers as int64, others as float64. `vary` is called for every
    instance, the first one too; without it all instances of a category are alike, but for views.

    `random` is a `numpy.random.Generator` over NumPy's Philox, keyed by (seed, candidate), or by (seed, category,
    instance, and the epoch where the dataset is fresh): a pure function, whatever is drawn before. Its numbers are as
    stable as NumPy's are from version to version. Engines draw the same bytes from the same coordinates everywhere;
    the coordinates are as exact as the arithmetic in the class (NumPy's sine may differ in the last bit elsewhere).

    Pictures: y points up. Points and polylines are scaled to the picture's own box. Points in space are scaled to
    [-1, 1] over all coordinates and centred on their centroid; a camera with a field of view of 45 degrees looks there
    from a distance of 4, and instance n from 30 * (1 + n % 12) degrees about the vertical axis y. Coordinates are
    rounded to float32. A field covers [0, 1) x [0, 1) at the pixels' centres. Colours go by point number // 256
    with a period of 128, by line, or by a field's value once round. Where `settings` has a fill_rate, a search
    keeps candidates whose own picture (instance 0, 256x256) has that share of its pixels off the ground.

    Args:
        name: lower-case letters, digits and _.

    Raises:
        ValueError: the name or the class is not as above, or the name is another's. Whatever the class raises or
            returns that is no picture becomes a ValueError that names family, category and instance.

    Example:
        >>> @fdsl.family("spokes")
        ... class Spokes:
        ...     def sample(self, random):
        ...         return {"ends": random.random((5, 2))}
        ...     def polylines(self, params):
        ...         return [np.stack([np.zeros(2), end]) for end in params["ends"]]
        >>> fdsl.Dataset(fdsl.search("spokes", categories=10), instances=1)[0][0].shape
        (1, 224, 224)
    """
    if not isinstance(name, str) or not re.fullmatch("[a-z][a-z0-9_]*", name):
        raise ValueError(f"family name {name!r}; expected lower-case letters, digits and _, such as 'spokes'")

    def decorate(formula: FormulaClass) -> FormulaClass:
        register(UserFamily(name, formula))
        return formula

    return decorate


class UserFamily(Independent):
    """A family around a class of the user's."""

    def __init__(self, name: str, formula: type) -> None:
        self.name = name
        if not isinstance(formula, type):
            raise ValueError(f"{name} is {formula!r}; expected a class")
        self.formula = formula
        kinds = [kind for kind in _OWN if callable(getattr(formula, kind, None))]
        if not callable(getattr(formula, "sample", None)):
            raise ValueError(f"{name}: {formula.__name__} has no method sample(self, random); expected one")
        if len(kinds) != 1:
            found = " and ".join(kinds) or "none"
            raise ValueError(f"{name}: {formula.__name__} has {found} of {', '.join(_OWN)}; expected one of them")
        self._kind = kinds[0]
        settings = getattr(formula, "settings", {})
        if not isinstance(settings, Mapping) or not all(isinstance(key, str) for key in settings):
            raise ValueError(f"{name}: settings is {settings!r}; expected a dict of names and what each is unless said")
        if "variation" in settings:
            raise ValueError(f"{name}: 'variation' is a setting of fdsl's own families; expected another name")
        self.settings: Settings = MappingProxyType(dict(settings))
        self.check_settings(self.settings)
        self.criterion = "picture" if "fill_rate" in settings else None
        self._varies = callable(getattr(formula, "vary", None))
        # The first layout seen of a search's parameters, so that blocks of candidates can be held to it.
        self._layouts: dict[tuple[int, str], tuple[int, dict[str, str]]] = {}
        try:
            self._made = formula()
        except Exception as error:
            raise ValueError(f"{name}: {formula.__name__}() {_raised(error)}") from error

    def __reduce__(self) -> tuple[Any, ...]:
        # The class pickles as its module and name: to find it again is to import what registers it.
        return _registered, (self.formula, self.name)

    def check_settings(self, settings: Settings) -> None:
        """Raises a ValueError where a setting cannot be kept in a catalog, or the fill_rate is no share."""
        for name, value in settings.items():
            try:
                json.dumps(value)
            except (TypeError, ValueError):
                raise ValueError(f"{name} is {value!r}; expected what JSON can hold, to keep it in a catalog") from None
        rate = settings.get("fill_rate", 1)
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate <= 1:
            raise ValueError(f"fill_rate is {rate!r}; expected a share over 0 and up to 1")

    def sample(self, seed: int, candidates: NDArray[np.int64], settings: Settings) -> dict[str, NDArray[Any]]:
        """Parameters of the candidates that the class does not reject itself; {} where it rejects them all."""
        passed = {name: value for name, value in settings.items() if name != "fill_rate"}
        rows = []
        for candidate in candidates.tolist():
            where = f"{self.name}, candidate {candidate}"
            found = self._call(where, "sample", _generator(seed, Purpose.CANDIDATE, candidate), **passed)
            if found is None:
                continue
            if not isinstance(found, Mapping) or not found:
                raise ValueError(
                    f"{where}: sample() returned {_describe(found)}; expected a dict of numbers and arrays"
                )
            row = {name: self._parameter(where, name, value) for name, value in found.items()}
            layout = {name: f"{array.dtype} {array.shape}" for name, array in sorted(row.items())}
            first, expected = self._layouts.setdefault((seed, repr(passed)), (candidate, layout))
            if layout != expected:
                differ = sorted(key for key in layout | expected if layout.get(key) != expected.get(key))
                raise ValueError(
                    f"{where}: sample() returned {_list({key: layout.get(key) for key in differ})}; expected "
                    f"{_list({key: expected.get(key) for key in differ})}, as for candidate {first}"
                )
            rows.append(row)
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]} if rows else {}

    def _parameter(self, where: str, name: object, value: object) -> NDArray[Any]:
        if not isinstance(name, str) or name in _RESERVED:
            raise ValueError(f"{where}: sample() returned {name!r}; expected a name, and not {' or '.join(_RESERVED)}")
        array = _array(value)
        if array is None or array.dtype.kind not in _KEPT_AS or array.size == 0:
            raise ValueError(f"{where}: sample() returned {name} {_describe(value)}; expected a number or an array")
        return array.astype(_KEPT_AS[array.dtype.kind])

    def check_params(self, params: Params) -> int:
        """The number of categories; raises a ValueError where the arrays do not have one row for each."""
        counts = {array.shape[0] if array.ndim else 0 for array in params.values()}
        if len(counts) != 1 or 0 in counts:
            found = _list({name: f"{array.dtype} {array.shape}" for name, array in params.items()})
            raise ValueError(f"parameters of {self.name} are {found}; expected arrays of one row for each category")
        return int(counts.pop())

    def check_values(self, params: Params) -> None:
        """Nothing: the class alone knows what its numbers mean."""

    def complete(self, spec: RenderSpec) -> RenderSpec:
        """The spec with points as pixels, gray, a pad of 6 and the own fit where it says None."""
        completed = spec.completed(self.name, {}, colors=_COLORS[self._kind], **_OWN[self._kind])
        if completed.fit == "stored":
            raise ValueError(f"fit is 'stored', but {self.name} has no probes that stored a box; expected 'own'")
        return completed

    def palette(self, spec: RenderSpec) -> NDArray[np.uint8]:
        """The spec's own; of a field, 256 levels of gray, or two of each hue."""
        if self._kind != "field":
            return spec.palette
        if spec.color == "color":
            return np.repeat(spec.palette[1 : HUES + 1], 2, axis=0)
        return np.ascontiguousarray(
            np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None], (256, spec.image_channels))
        )

    def drawing(self, catalog: Catalog, instances: Instances, spec: RenderSpec) -> Drawing:
        """What the class returns for these instances."""
        each = self._each_instance(catalog.params, instances)
        if self._kind == "field":
            chosen = list(each)

            def levels(i: int, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.uint8]:
                where, params = chosen[i]
                return _levels(where, self._call(where, "field", params, x, y), x.shape)

            return Fields(levels, instances.records(Fields.RECORD))
        drawn = [(where, self._call(where, self._kind, params)) for where, params in each]
        if self._kind == "polylines":
            lines = [_polylines(where, value) for where, value in drawn]
            lengths = [len(line) for picture in lines for line in picture]
            ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
            records = instances.records(Polylines.RECORD)
            records["lines"] = [len(picture) for picture in lines]
            records["first"] = np.cumsum(records["lines"]) - records["lines"]
            vertices = [line for picture in lines for line in picture]
            return Polylines(np.concatenate([np.zeros((0, 2), np.float32), *vertices]), ends, records)
        points = [_points(where, value) for where, value in drawn]
        records = instances.records(Points.RECORD)
        numbers = instances.numbers
        records["neighbours"] = instances.neighbours(numbers)
        records["turn"] = (1 + numbers % VIEWS) * 2**32 // VIEWS % 2**32
        records["points"] = [len(picture) for picture in points]
        records["dimensions"] = [picture.shape[1] for picture in points]
        sizes = records["points"].astype(np.int64) * records["dimensions"]
        records["first"] = np.cumsum(sizes) - sizes
        return Points(np.concatenate([np.zeros(0, np.float32), *(picture.reshape(-1) for picture in points)]), records)

    def _each_instance(self, params: Params, instances: Instances) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Who it is, for messages, and its parameters; the random numbers are those of (category, number, epoch)."""
        epochs = np.broadcast_to(instances.drawn_epochs, instances.numbers.shape).tolist()
        for category, number, epoch in zip(
            instances.categories.tolist(), instances.numbers.tolist(), epochs, strict=True
        ):
            where = (
                f"{self.name}, category {category}, instance {number}{f', epoch {epoch}' if instances.fresh else ''}"
            )
            own = {
                name: array[category] if array.ndim > 1 else array[category].item() for name, array in params.items()
            }
            if self._varies:
                random = _generator(instances.seed, Purpose.INSTANCE, category, number, epoch)
                own = self._call(where, "vary", own, random)
                if not isinstance(own, Mapping):
                    raise ValueError(f"{where}: vary() returned {_describe(own)}; expected a dict of parameters")
            yield where, own

    def _call(self, where: str, method: str, *arguments: Any, **settings: Any) -> Any:
        try:
            return getattr(self._made, method)(*arguments, **settings)
        except Exception as error:
            raise ValueError(f"{where}: {method}() {_raised(error)}") from error

    def numbering(self, number: int) -> dict[str, int]:
        """{}: an instance number stands for nothing but itself."""
        return {}


def _registered(formula: type, name: str) -> Any:
    """Unpickles a family: the class came first, and with it the import that registers it, unless it came by value."""
    if not has_family(name):
        register(UserFamily(name, formula))
    return family_named(name)


def _generator(seed: int, purpose: Purpose, category: int, number: int = 0, epoch: int = 0) -> np.random.Generator:
    counter = np.array([0, category, number, epoch], np.uint64)
    return np.random.Generator(np.random.Philox(counter=counter, key=np.array([seed, purpose], np.uint64)))


def _raised(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"raised {type(error).__name__}{f': {text}' if text else ''}"


def _list(entries: Mapping[str, str | None]) -> str:
    return ", ".join(f"{name} {entry or 'missing'}" for name, entry in entries.items()) or "none"


def _array(value: Any) -> NDArray[Any] | None:
    """NumPy's view of a number, an array or a tensor; None where there is none."""
    if hasattr(value, "detach"):  # a torch tensor, on whatever device
        value = value.detach().cpu()
    try:
        array = np.asarray(value)
    except Exception:  # rows of several lengths, or a tensor of a kind that NumPy lacks
        return None
    return array if array.dtype.kind in _KEPT_AS else None


def _describe(value: Any) -> str:
    array = _array(value)
    if array is not None and array.ndim:
        return f"{array.dtype} {array.shape}"
    text = " ".join(repr(value).split())
    return text if len(text) <= 40 else f"a {type(value).__name__}"


def _finite(where: str, what: str, array: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        rounded = array.astype(np.float32)
    broken = rounded.size - int(np.isfinite(rounded).sum())
    if broken:
        raise ValueError(f"{where}: {what} {broken} numbers of {rounded.size} that are NaN or infinite; expected none")
    return rounded


def _points(where: str, value: Any) -> NDArray[np.float32]:
    array = _array(value)
    if array is None or array.ndim != 2 or array.shape[1] not in (2, 3) or not 1 <= len(array) <= MAX_POINTS:
        expected = f"expected (N, 2) or (N, 3) numbers, N from 1 to {MAX_POINTS}"
        raise ValueError(f"{where}: points() returned {_describe(value)}; {expected}")
    return _finite(where, "points() returned", array)


def _polylines(where: str, value: Any) -> list[NDArray[np.float32]]:
    expected = "expected a list of one or more (K, 2) arrays, or one (L, K, 2)"
    if not isinstance(value, (list, tuple)):
        array = _array(value)
        if array is None or array.ndim not in (2, 3):
            raise ValueError(f"{where}: polylines() returned {_describe(value)}; {expected}")
        value = array if array.ndim == 3 else [array]
    if len(value) == 0:
        raise ValueError(f"{where}: polylines() returned no line; {expected}")
    lines = []
    for number, line in enumerate(value):
        array = _array(line)
        if array is None or array.ndim != 2 or array.shape[1] != 2 or len(array) == 0:
            raise ValueError(f"{where}: polylines() returned {_describe(line)} as line {number}; {expected}")
        lines.append(_finite(where, f"polylines() returned line {number} with", array))
    return lines


def _levels(where: str, value: Any, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    array = _array(value)
    if array is None or array.shape != shape:
        raise ValueError(f"{where}: field() returned {_describe(value)}; expected numbers of the shape of x, {shape}")
    if not np.isfinite(array).all():
        broken = array.size - int(np.isfinite(array).sum())
        raise ValueError(f"{where}: field() returned {broken} values of {array.size} that are NaN or infinite")
    return np.floor(np.clip(array.astype(np.float64), 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
