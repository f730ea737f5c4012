"""Catalogs: what a file or a CSV folder gives back, and what is said about one that is broken."""

from __future__ import annotations

import errno
import json
import os
import pickle
import subprocess
import sys
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fdsl import candidates, catalogs
from fdsl.catalogs import Catalog
from fdsl.presets import catalog

ROWS = 25
MAP = "0.5,0,0,0.5,0.1,0.2"
HALVES = f"{MAP},0.5\n{MAP},0.5\n"


def made(family: str, params: dict, variation: float, settings: dict, engine=None, progress=None) -> Catalog:
    """Stands in for `make_catalog`, whose probes these tests do not need."""
    count = len(params["maps"])
    boxes = np.arange(count * ROWS * 4, dtype=np.float32).reshape(count, ROWS, 4)
    return Catalog(family, params, variation, np.full((count, ROWS), 8, np.uint8), boxes, dict(settings))


def systems(categories: int, maps: int = 3) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(categories)
    return {
        "maps": np.full(categories, maps, np.int32),
        "affine": generator.uniform(-1, 1, (categories, maps, 6)),
        "probability": np.full((categories, maps), 1 / maps),
    }


def small(categories: int = 3) -> Catalog:
    return made("fractaldb", systems(categories), 0.4, {"made_by": "test"})


@pytest.fixture
def from_csv(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Catalog]:
    monkeypatch.setattr(candidates, "make_catalog", made)
    return Catalog.from_csv


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    small().save(tmp_path / "small.safetensors")
    return tmp_path / "small.safetensors"


def one_line(error: pytest.ExceptionInfo[BaseException], *words: object) -> None:
    text = str(error.value)
    assert "\n" not in text
    for word in words:
        assert str(word) in text


# What a catalog is


def test_a_catalog_cannot_be_changed() -> None:
    params = systems(2)
    unchanged = made("fractaldb", params, 0.4, {})
    digest = unchanged.digest
    params["affine"][:] = 0
    assert unchanged.params["affine"].any()
    for array in (*unchanged.params.values(), unchanged.shrink, unchanged.boxes):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    with pytest.raises(AttributeError):
        unchanged.variation = 0.2  # type: ignore[misc]
    with pytest.raises(TypeError):
        unchanged.params["maps"] = params["maps"]  # type: ignore[index]
    assert made("fractaldb", systems(2), 0.4, {}).digest == digest


def test_the_digest_covers_content_and_nothing_else() -> None:
    reference = small()
    parts = {"family": "fractaldb", "params": systems(3), "variation": 0.4}
    parts |= {"shrink": reference.shrink, "boxes": reference.boxes}
    assert Catalog(**parts, settings={"other": 1}) == reference
    assert hash(Catalog(**parts)) == hash(reference)
    params = systems(3)
    params["affine"][0, 0, 0] = np.nextafter(params["affine"][0, 0, 0], 2)
    shrink, boxes = np.array(reference.shrink), np.array(reference.boxes)
    shrink[0, 0], boxes[0, 0, 0] = 7, -1
    for change in ({"variation": 0.2}, {"params": params}, {"shrink": shrink}, {"boxes": boxes}):
        assert Catalog(**parts | change) != reference


def test_the_digest_of_a_known_catalog_stays() -> None:
    # Datasets of saved runs name it: a change here makes every one of them another dataset.
    params = {
        "maps": np.array([2], np.int32),
        "affine": np.arange(12.0).reshape(1, 2, 6) / 16,
        "probability": np.array([[0.25, 0.75]]),
    }
    digest = "33bc03428a110c963d619c02be34ac260f36c164de2618e72da1bcc615ff3b7f"
    assert made("fractaldb", params, 0.4, {}).digest == digest
    in_the_other_order = {name: np.asfortranarray(params[name]) for name in reversed(params)}
    assert made("fractaldb", in_the_other_order, np.float64(0.4), {}).digest == digest


def test_the_text_of_a_catalog_is_one_line() -> None:
    text = repr(small())
    assert text == f"Catalog(family='fractaldb', categories=3, variation=0.4, digest='{small().digest[:12]}')"
    assert len(small()) == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"family": "fractals"}, ["'fractals'", "fractaldb"]),
        ({"variation": float("nan")}, ["variation is nan", "expected"]),
        ({"shrink": np.zeros((3, 24), np.uint8)}, ["shrink is uint8 (3, 24)", "expected uint8 (3, 25)"]),
        ({"shrink": np.full((3, 25), 9, np.uint8)}, ["shrink goes up to 9", "expected 0 to 8"]),
        ({"boxes": np.full((3, 25, 4), np.nan, np.float32)}, ["category 0", "boxes is not finite"]),
        ({"boxes": np.zeros((3, 25, 4))}, ["boxes is float64", "expected float32 (3, 25, 4)"]),
        ({"params": {"maps": np.zeros(3, np.int32)}}, ["affine"]),
        ({"params": systems(3) | {"maps": np.full(3, 4, np.int32)}}, ["category 0"]),
    ],
)
def test_parts_that_do_not_fit_are_named(change: dict, words: list[str]) -> None:
    parts = {"family": "fractaldb", "params": systems(3), "variation": 0.4}
    parts |= {"shrink": small().shrink, "boxes": small().boxes}
    with pytest.raises(ValueError) as error:  # noqa: PT011
        Catalog(**parts | change)
    one_line(error, *words)


# Pickles


def test_a_file_backed_catalog_pickles_as_its_path(saved: Path) -> None:
    opened = Catalog.load(saved)
    data = pickle.dumps(opened)
    assert len(data) < 400 + len(str(saved))
    again = pickle.loads(data)
    assert again == opened
    assert again.path == opened.path == saved


def test_a_catalog_without_a_file_pickles_by_content() -> None:
    again = pickle.loads(pickle.dumps(small()))
    assert again == small()
    assert again.settings == small().settings
    assert not again.boxes.flags.writeable


def test_a_pickle_notices_that_the_file_was_replaced(saved: Path) -> None:
    data = pickle.dumps(Catalog.load(saved))
    small(4).save(saved, overwrite=True)
    with pytest.raises(ValueError, match="which was pickled") as error:
        pickle.loads(data)
    one_line(error, saved, small().digest[:12], small(4).digest[:12])


# Files


def test_a_file_gives_back_what_was_saved(saved: Path) -> None:
    opened = Catalog.load(saved, verify=True)
    assert (opened.family, opened.variation, opened.settings) == ("fractaldb", 0.4, {"made_by": "test"})
    for name, array in small()._arrays().items():
        assert opened._arrays()[name].dtype == array.dtype
        np.testing.assert_array_equal(opened._arrays()[name], array)
    assert opened.digest == small().digest
    assert os.listdir(saved.parent) == [saved.name]


def test_safetensors_reads_the_file(saved: Path) -> None:
    tensors = safetensors.numpy.load_file(saved)
    assert sorted(tensors) == ["affine", "boxes", "maps", "probability", "shrink"]
    np.testing.assert_array_equal(tensors["affine"], small().params["affine"])


def test_opening_a_large_file_reads_no_array(tmp_path: Path) -> None:
    large = small(40_000)
    large.save(tmp_path / "large.safetensors")
    assert (tmp_path / "large.safetensors").stat().st_size > catalogs._ALWAYS_VERIFIED
    tracemalloc.start()
    opened = Catalog.load(tmp_path / "large.safetensors")
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert held < 1 << 20
    assert opened == large
    for array in opened._arrays().values():
        assert not array.flags.owndata
        assert array.flags.aligned
        assert not array.flags.writeable


def test_misaligned_tensors_are_copied(saved: Path, tmp_path: Path) -> None:
    content = saved.read_bytes()
    length = int.from_bytes(content[:8], "little")
    (tmp_path / "odd.safetensors").write_bytes(
        (length + 1).to_bytes(8, "little") + content[8 : 8 + length] + b" " + content[8 + length :]
    )
    opened = Catalog.load(tmp_path / "odd.safetensors")
    assert opened == small()
    assert all(array.flags.aligned for array in opened._arrays().values())


def test_a_large_file_is_verified_when_asked(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogs, "_ALWAYS_VERIFIED", 0)
    content = bytearray(saved.read_bytes())
    content[-1] ^= 1  # the last shrink factor
    saved.write_bytes(content)
    assert Catalog.load(saved).digest == small().digest
    with pytest.raises(ValueError, match="digest") as error:
        Catalog.load(saved, verify=True)
    one_line(error, saved, small().digest[:12])


def rewritten(file: Path, tensors: dict | None = None, metadata: dict | None = None, without: str = "") -> None:
    with safetensors.safe_open(file, "numpy") as opened:
        kept = {**{name: opened.get_tensor(name) for name in opened.keys()}, **(tensors or {})}  # noqa: SIM118
        said = {**json.loads(opened.metadata()["fdsl-catalog"]), **(metadata or {})}
    kept.pop(without, None)
    said.pop(without, None)
    safetensors.numpy.save_file(kept, file, {"fdsl-catalog": json.dumps(said)})


def header(text: str, data: bytes = b"") -> bytes:
    return len(text).to_bytes(8, "little") + text.encode() + data


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda file: file.write_bytes(b""), "safetensors"),
    "text": (lambda file: file.write_text("not a catalog, but a page of text"), "safetensors"),
    "header cut off": (lambda file: os.truncate(file, 100), "safetensors"),
    "data cut off": (lambda file: os.truncate(file, file.stat().st_size - 1), "expected"),
    "data appended": (lambda file: file.write_bytes(file.read_bytes() + b"x"), "expected"),
    "header no JSON": (lambda file: file.write_bytes(header("{" * 64)), "JSON"),
    "header too deep": (lambda file: file.write_bytes(header("[" * 100_000)), "JSON"),
    "header a list": (lambda file: file.write_bytes(header("[1, 2]")), "JSON"),
    "metadata a number": (lambda file: file.write_bytes(header('{"__metadata__": {"version": 1}}')), "not text"),
    "tensor a number": (lambda file: file.write_bytes(header('{"maps": 1}')), "'maps'"),
    "unknown dtype": (
        lambda file: file.write_bytes(header('{"maps": {"dtype": "X", "shape": [1], "data_offsets": [0, 1]}}', b"1")),
        "'maps'",
    ),
    "offsets that disagree": (
        lambda file: file.write_bytes(header('{"maps": {"dtype": "I32", "shape": [2], "data_offsets": [0, 1]}}', b"1")),
        "'maps'",
    ),
    "negative shape": (
        lambda file: file.write_bytes(header('{"a": {"dtype": "U8", "shape": [-1,-1], "data_offsets": [0, 1]}}', b"1")),
        "'a'",
    ),
    "foreign": (lambda file: safetensors.numpy.save_file({"weight": np.zeros(3)}, file), "fdsl-catalog"),
    "other version": (lambda file: rewritten(file, metadata={"version": 2}), "version 2"),
    "unknown family": (lambda file: rewritten(file, metadata={"family": "fractals"}), "fractaldb"),
    "no family": (lambda file: rewritten(file, without="family"), "no family"),
    "no number": (lambda file: rewritten(file, metadata={"variation": "much"}), "no variation"),
    "broken settings": (lambda file: rewritten(file, metadata={"settings": "{"}), "settings"),
    "family a list": (lambda file: rewritten(file, metadata={"family": []}), "family"),
    "digest a number": (lambda file: rewritten(file, metadata={"digest": 1}), "digest"),
    "no digest": (lambda file: rewritten(file, without="digest"), "no digest"),
    "other digest": (lambda file: rewritten(file, metadata={"digest": "0" * 64}), "expected 000000000000"),
    "no shrink": (lambda file: rewritten(file, without="shrink"), "shrink is None; expected uint8"),
    "no affine": (lambda file: rewritten(file, without="affine"), "affine"),
    "other dtype": (lambda file: rewritten(file, {"affine": np.zeros((3, 3, 6), np.float32)}), "float64"),
    "other shape": (lambda file: rewritten(file, {"boxes": np.zeros((2, ROWS, 4), np.float32)}), "(3, 25, 4)"),
    "other content": (lambda file: rewritten(file, {"maps": np.full(3, 2, np.int32)}), "digest"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_or_foreign_file_is_named(saved: Path, damage: str) -> None:
    inflict, word = DAMAGE[damage]
    inflict(saved)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        Catalog.load(saved)
    one_line(error, f"{saved}: ", word)


@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_crash_the_reader(tmp_path_factory: pytest.TempPathFactory, data: bytes, as_header: bool) -> None:
    file = tmp_path_factory.mktemp("bytes", numbered=True) / "any.safetensors"
    file.write_bytes(len(data).to_bytes(8, "little") + data if as_header else data)
    with pytest.raises(ValueError, match=r"any\.safetensors"):
        Catalog.load(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        Catalog.load(tmp_path / "missing.safetensors")
    one_line(error, tmp_path / "missing.safetensors")


def test_save_keeps_an_existing_file_unless_told(saved: Path) -> None:
    with pytest.raises(FileExistsError) as error:
        small(4).save(saved)
    one_line(error, saved, "overwrite")
    assert Catalog.load(saved) == small()
    small(4).save(saved, overwrite=True)
    assert Catalog.load(saved) == small(4)


def test_save_into_no_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        small().save(tmp_path / "missing" / "a.safetensors")
    one_line(error, tmp_path / "missing" / "a.safetensors")
    assert not os.listdir(tmp_path)


FULL_DISK = """
import pickle, resource, sys
stored = pickle.load(sys.stdin.buffer)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    getattr(stored, sys.argv[1])(sys.argv[2])
except OSError as error:
    print(error)
"""


@pytest.mark.parametrize("writer", ["save", "to_csv"])
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, writer: str) -> None:
    target = tmp_path / "a.safetensors"
    ended = subprocess.run(
        [sys.executable, "-c", FULL_DISK, writer, target], input=pickle.dumps(small()), capture_output=True, check=True
    )
    text = ended.stdout.decode()
    assert text.count("\n") == 1, ended.stderr.decode()
    assert str(target) in text
    assert "File too large" in text
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("writer", ["save", "to_csv"])
@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str, failure: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(type(failure)):
        getattr(small(), writer)(tmp_path / "target")
    assert not os.listdir(tmp_path)


# CSV folders


def test_the_published_files_come_back_to_the_last_bit(
    shared: Path, tmp_path: Path, from_csv: Callable[..., Catalog]
) -> None:
    folder = shared / "published" / "fractaldb-1k-first100"
    read = from_csv(folder)
    assert len(read) == 100
    assert read.settings == {"made_by": "csv", "folder": str(folder)}
    first = np.loadtxt(folder / "00000.csv", delimiter=",")
    assert read.params["maps"][0] == len(first)
    np.testing.assert_array_equal(read.params["affine"][0, : len(first)], first[:, :6])
    np.testing.assert_array_equal(read.params["probability"][0, : len(first)], first[:, 6])
    read.to_csv(tmp_path / "written")
    for file in folder.iterdir():
        assert (tmp_path / "written" / file.name).read_bytes() == file.read_bytes()
    assert from_csv(tmp_path / "written") == read


finite = st.floats(allow_nan=False, allow_infinity=False)
categories = st.lists(
    st.lists(st.tuples(*[finite] * 6, st.floats(0, 1)), min_size=1, max_size=8), min_size=1, max_size=3
)
reuse = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@reuse
@given(categories)
def test_any_finite_values_round_trip(
    tmp_path_factory: pytest.TempPathFactory, from_csv: Callable[..., Catalog], drawn: list[list[tuple[float, ...]]]
) -> None:
    folder = tmp_path_factory.mktemp("csv", numbered=True)
    width = max(map(len, drawn))
    table = np.zeros((len(drawn), width, 7))
    for category, rows in enumerate(drawn):
        table[category, : len(rows)] = rows
        table[category, len(rows) - 1, 6] += 1  # for a sum over 0
        table[category, :, 6] /= table[category, :, 6].sum()
    maps = np.array([len(rows) for rows in drawn], np.int32)
    params = {"maps": maps, "affine": table[..., :6], "probability": table[..., 6]}
    written = made("fractaldb", params, 0.4, {})
    written.to_csv(folder / "written")
    read = from_csv(folder / "written")
    for name, array in written.params.items():
        assert read.params[name].tobytes() == array.tobytes()


@reuse
@given(st.text() | st.lists(st.sampled_from([MAP, "0.5", "1", "-1", "nan", "1e999", ",", "\n", " ", "\x00", "１"])))
def test_any_text_is_a_category_or_an_error_that_names_the_file(
    tmp_path_factory: pytest.TempPathFactory, from_csv: Callable[..., Catalog], text: str | list[str]
) -> None:
    folder = tmp_path_factory.mktemp("csv", numbered=True)
    (folder / "any.csv").write_bytes("".join(text).encode("utf-8", "surrogatepass"))
    message = ""
    try:
        read = from_csv(folder)
    except ValueError as error:
        message = str(error)
    if message:
        assert message.startswith(str(folder / "any.csv"))
        assert "expected" in message
        assert "\n" not in message
    else:
        assert 1 <= read.params["maps"][0] <= 8
        assert np.isfinite(read.params["affine"]).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", [": empty", "expected 1 to 8 rows"]),
        ("\n\n", [": empty"]),
        (f"{MAP},0.5\n0.5,0,0,0.5", ["row 2", "4 columns", "expected 7"]),
        (f"{MAP},0.5,\n", ["row 1", "8 columns", "expected 7"]),
        (f"a,b,c,d,e,f,p\n{HALVES}", ["row 1", "'a'", "finite number"]),
        (f"{MAP},\n", ["row 1", "''", "finite number"]),
        (f"nan,0,0,0.5,0,0,0.5\n{HALVES}", ["row 1", "'nan'", "finite number"]),
        (f"{HALVES}0,0,inf,0.5,0,0,0.5\n", ["row 3", "'inf'", "finite number"]),
        (f"{MAP},1.5\n{MAP},-0.5\n", ["row 2", "-0.5", "expected 0 or more"]),
        (f"{MAP},0.5\n{MAP},0.49\n", ["sum to 0.99", "expected 1"]),
        (f"{MAP},1e308\n{MAP},1e308\n", ["sum to inf", "expected 1"]),
        (f"{MAP},0.125\n" * 9, ["row 9", "expected at most 8 maps"]),
        (b"\xff\xfe\x00", ["not text", "a, b, c, d, e, f, p"]),
    ],
)
def test_a_broken_csv_is_named_with_its_row(
    tmp_path: Path, from_csv: Callable[..., Catalog], text: str | bytes, words: list[str]
) -> None:
    (tmp_path / "00000.csv").write_text(HALVES)
    (tmp_path / "00001.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError) as error:  # noqa: PT011
        from_csv(tmp_path)
    one_line(error, tmp_path / "00001.csv", *words)


def test_a_folder_that_is_none_is_named(tmp_path: Path, from_csv: Callable[..., Catalog]) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        from_csv(tmp_path / "missing")
    one_line(missing, tmp_path / "missing")
    (tmp_path / "file").write_text(HALVES)
    with pytest.raises(NotADirectoryError) as file:
        from_csv(tmp_path / "file")
    one_line(file, tmp_path / "file")
    with pytest.raises(ValueError, match="no CSV") as empty:
        from_csv(tmp_path)
    one_line(empty, tmp_path, "expected")


def test_only_csv_files_are_read_in_the_order_of_their_names(tmp_path: Path, from_csv: Callable[..., Catalog]) -> None:
    (tmp_path / "b.csv").write_bytes(HALVES.replace("\n", "\r\n").encode())
    (tmp_path / "a.csv").write_text(f"\ufeff{MAP}, 1", encoding="utf-8")
    (tmp_path / "._a.csv").write_bytes(b"\x00\x05\x16\x07")
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "c.csv").mkdir()
    assert from_csv(tmp_path).params["maps"].tolist() == [1, 2]


def test_to_csv_takes_a_new_or_an_empty_folder_only(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    small().to_csv(tmp_path / "empty")
    assert sorted(os.listdir(tmp_path / "empty")) == ["00000.csv", "00001.csv", "00002.csv"]
    (tmp_path / "file").write_text("kept")
    for target in (tmp_path / "empty", tmp_path / "file"):
        with pytest.raises(FileExistsError) as error:
            small(4).to_csv(target)
        one_line(error, target, "expected")
    assert len(os.listdir(tmp_path / "empty")) == 3
    assert sorted(os.listdir(tmp_path)) == ["empty", "file"]


# Files and folders as `fdsl.catalog` opens them


def test_a_file_or_a_folder_is_a_catalog_too(saved: Path, tmp_path: Path, from_csv: Callable[..., Catalog]) -> None:
    assert catalog(saved) == catalog(str(saved)) == small()
    small().to_csv(tmp_path / "csv")
    assert catalog(tmp_path / "csv") == small()
    assert catalog(tmp_path / "csv", variation=0.2).variation == 0.2
    assert catalog(saved, variation=0.4) == small()
    with pytest.raises(ValueError, match=r"variation is 0\.4") as error:
        catalog(saved, variation=0.2)
    one_line(error, saved, 0.2)


def test_no_warning_comes_with_a_good_file(saved: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Catalog.load(saved, verify=True)


def test_settings_must_be_json() -> None:
    with pytest.raises(TypeError):
        made("fractaldb", systems(1), 0.4, {"folder": Path("x")})
    assert made("fractaldb", systems(1), 0.4, {"range": (1, 2)}).settings == {"range": [1, 2]}
    assert json.dumps(small().settings)
