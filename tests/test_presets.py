"""Presets: made once, kept, the same everywhere, and made anew where what was kept is damaged."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fdsl
from fdsl import presets, published
from fdsl.candidates import head
from fdsl.catalogs import Catalog
from fdsl.presets import DIGESTS, PRESETS, catalog
from fdsl.progress import lines_on_stderr


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FDSL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry per search that was made."""
    calls: list[str] = []

    def search(family: str, categories: int, **settings: Any) -> Catalog:
        calls.append(f"{family} {categories}")
        return fdsl.search(family, categories, **settings)

    monkeypatch.setattr(presets, "search", search)
    return calls


@pytest.fixture
def of_three(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """fractaldb-1k with three categories, and a search of no time; one entry per search that was made."""
    calls: list[int] = []
    found = fdsl.search("fractaldb", categories=3, seed=3)

    def search(categories: int = 1000, progress: Callable[[int, int], None] | None = None) -> dict[str, np.ndarray]:
        calls.append(categories)
        if progress:
            progress(1000, 42_655)
        return dict(found.params)

    monkeypatch.setattr(published, "search", search)
    monkeypatch.setattr(presets, "DIGESTS", {})
    return calls


def kept(cache: Path) -> Path:
    (file,) = cache.glob("*.safetensors")
    return file


def flip(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


# What a preset holds


@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith(("rcdb", "visualatom"))])
def test_the_digest_is_the_known_one(name: str) -> None:
    family, categories = PRESETS[name]
    found = catalog(name)
    assert (found.family, len(found), found.digest) == (family, categories, DIGESTS[name])
    assert found == fdsl.search(family, categories, seed=0)


def test_the_digest_in_space_is_the_known_one() -> None:
    assert catalog("exfractaldb-1k").digest == DIGESTS["exfractaldb-1k"]


@pytest.mark.parametrize("family", ["fractaldb", "exfractaldb", "rcdb"])
def test_a_smaller_search_is_the_head_of_a_larger_one(family: str) -> None:
    fifty = fdsl.search(family, categories=50, seed=0)
    for count in (1, 2, 20, 50):
        assert head(fifty, count) == fdsl.search(family, categories=count, seed=0)
    with pytest.raises(ValueError, match=r"categories is 51; expected 1 to 50"):
        head(fifty, 51)


def test_a_smaller_preset_is_cut_from_a_larger_one(searches: list[str], cache: Path) -> None:
    catalog("rcdb-21k")
    assert catalog("rcdb-10k").digest == DIGESTS["rcdb-10k"]
    assert searches == ["rcdb 21000"]
    # Not from a damaged one.
    for file in cache.glob("*.safetensors"):
        flip(file, -1)
    assert catalog("rcdb-1k").digest == DIGESTS["rcdb-1k"]
    assert searches == ["rcdb 21000", "rcdb 1000"]


def test_the_published_set_is_made_once_a_variation(of_three: list[int], cache: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    first = catalog("fractaldb-1k", progress=lambda *state: seen.append(state))
    assert seen == [("searching fractaldb-1k", 900, 1000), ("searching fractaldb-1k", 1000, 1000)]
    assert catalog("fractaldb-1k") == first
    assert first.path == kept(cache)
    assert of_three == [1000]
    other = catalog("fractaldb-1k", variation=0.2)
    assert (other.variation, of_three) == (0.2, [1000, 1000])
    with pytest.raises(ValueError, match=r"variation is 0\.6; expected"):
        catalog("fractaldb-1k", variation=0.6)
    with pytest.raises(ValueError, match=r"variation of rcdb-1k is 0\.4; expected None, for rcdb has no such setting"):
        catalog("rcdb-1k", variation=0.4)
    assert len(of_three) == 2
    assert not list(cache.glob("*.partial"))


def test_an_unknown_name_is_told_the_near_ones() -> None:
    near = {"fractaldb-30k": "fractaldb-300k", "FractalDB1k": "fractaldb-1k", "visual-atom-21k": "visualatom-21k"}
    for name, meant in near.items():
        with pytest.raises(
            ValueError, match=rf"'{name}' is no catalog \(did you mean .*\b{meant}\b.*\?\); expected"
        ) as one:
            catalog(name)
        assert "\n" not in str(one.value)
    with pytest.raises(ValueError, match=r"'imagenet' is no catalog; expected a preset .* -300k.*safetensors.*CSV"):
        catalog("imagenet")
    for path in ("./fractaldb-1k", "missing.safetensors", Path("missing")):
        with pytest.raises(FileNotFoundError, match=Path(path).name):
            catalog(path)


# What is kept


@pytest.mark.parametrize("damage", ["truncated", "empty", "header", "metadata", "content", "another catalog"])
def test_a_damaged_file_is_made_anew_and_said_so(damage: str, searches: list[str], cache: Path) -> None:
    first = catalog("rcdb-1k")
    file = kept(cache)
    match damage:
        case "truncated" | "empty":
            os.truncate(file, 1000 if damage == "truncated" else 0)
        case "header":
            flip(file, 12)
        case "metadata":
            flip(file, file.read_bytes().index(b"digest") + 20)
        case "content":
            flip(file, -100)
        case _:
            fdsl.search("rcdb", categories=1000, seed=1).save(file, overwrite=True)
    with pytest.warns(UserWarning, match=rf"{re.escape(str(file))}: .*; it is made anew"):
        assert catalog("rcdb-1k") == first
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert catalog("rcdb-1k", verify=True) == first
    assert len(searches) == 2


def test_a_large_file_is_read_through_by_verify_alone(searches: list[str], cache: Path) -> None:
    catalog("visualatom-300k")
    flip(kept(cache), -5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert catalog("visualatom-300k").digest == DIGESTS["visualatom-300k"]
    assert len(searches) == 1
    with pytest.warns(UserWarning, match=r"the content has the digest \w+; expected 0ffff605f40f.*; it is made anew"):
        catalog("visualatom-300k", verify=True)
    assert len(searches) == 2
    Catalog.load(kept(cache), verify=True)


def test_another_result_than_the_known_one_is_not_kept(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setitem(DIGESTS, "rcdb-1k", "0" * 64)
    with pytest.raises(RuntimeError, match="rcdb-1k came out with the digest 7b8de6b8df8f; expected 000000000000"):
        catalog("rcdb-1k")
    assert [file.suffix for file in cache.iterdir()] == [".lock"]


def test_a_cache_that_cannot_be_written_costs_a_warning(cache: Path) -> None:
    cache.write_text("a file, not a folder")
    with pytest.warns(UserWarning, match="made anew each time"):
        found = catalog("rcdb-1k")
    assert found.path is None
    assert len(found) == 1000


def test_a_user_without_a_home_gets_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(presets, "cache_folder", homeless)
    with pytest.warns(UserWarning, match="rcdb-1k is not kept, and is made anew each time: Could not determine home"):
        assert catalog("rcdb-1k").path is None


def test_a_cache_on_a_full_disk_costs_a_warning(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("fsync", "ftruncate", "pwrite"):
        monkeypatch.setattr(os, name, full)
    with pytest.warns(UserWarning, match="No space left"):
        assert len(catalog("rcdb-1k")) == 1000
    assert [file.suffix for file in cache.iterdir()] == [".lock"]


def test_a_file_system_without_locks_costs_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with pytest.warns(UserWarning, match=r"no lock \(Function not implemented\)"):
        assert catalog("rcdb-1k").path is not None


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"FDSL_CACHE": "/f", "XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/f"),
        ({"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/fdsl"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/h"}, "/h/.cache/fdsl"),
        ({"FDSL_CACHE": "", "HOME": "/h"}, "/h/.cache/fdsl"),
    ],
)
def test_the_cache_folder_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], folder: str
) -> None:
    for name in ("FDSL_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert presets.cache_folder() == Path(folder)


# Many processes


# A rank whose search notes its process in the file "searching", and ends when there is a file "go".
RANK = """
import os, sys, time
from fdsl import presets
def search(*arguments, of=presets.search, **settings):
    with open("searching", "a") as note:
        note.write(f"{os.getpid()}\\n")
    while not os.path.exists("go"):
        time.sleep(0.01)
    return of(*arguments, **settings)
presets.search = search
print(presets.catalog("rcdb-1k").digest)
"""


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_ranks_search_once_and_another_takes_over_from_a_killed_one(tmp_path: Path) -> None:
    def searching() -> list[int]:
        note = tmp_path / "searching"
        return [int(line) for line in note.read_text().split()] if note.exists() else []

    def start(rank: int) -> subprocess.Popen[str]:
        with (tmp_path / f"{rank}.err").open("w") as errors:
            command = [sys.executable, "-c", RANK]
            return subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=errors, text=True)

    def errors_of(rank: int) -> str:
        return (tmp_path / f"{rank}.err").read_text()

    ranks = [start(0)]
    try:
        wait_for(lambda: len(searching()) == 1)
        ranks += [start(rank) for rank in range(1, 4)]
        wait_for(lambda: all("waiting for" in errors_of(rank) for rank in range(1, 4)))
        ranks[0].kill()
        wait_for(lambda: len(searching()) == 2)
        (tmp_path / "go").touch()
        printed = [rank.communicate(timeout=60)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert printed == ["", *[f"{DIGESTS['rcdb-1k']}\n"] * 3]
    holder, heir = searching()
    assert holder == ranks[0].pid
    assert errors_of(0) == ""
    file = tmp_path / "cache" / "rcdb-1k-v1.safetensors"
    for rank in range(1, 4):
        first, last = errors_of(rank).splitlines()
        assert first.startswith(f"waiting for process {holder} on {socket.gethostname()} (since 20")
        assert first.endswith(f"which makes {file}")
        here = "it is not there, so this process makes it" if ranks[rank].pid == heir else "it is there"
        assert re.fullmatch(rf"waited \d+ s for {re.escape(str(file))}: {here}", last)


def test_threads_at_once_make_it_once(searches: list[str]) -> None:
    threads = [threading.Thread(target=catalog, args=["rcdb-1k"]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert searches == ["rcdb 1000"]


# How far it is


def test_one_count_covers_the_search_and_the_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "exfractaldb-1k", ("exfractaldb", 20))
    monkeypatch.delitem(DIGESTS, "exfractaldb-1k")
    seen: list[tuple[str, int, int]] = []
    catalog("exfractaldb-1k", progress=lambda *state: seen.append(state))
    assert {(what, total) for what, _, total in seen} == {("searching exfractaldb-1k", 20)}
    done = [count for _, count, _ in seen]
    assert done == sorted(done)
    assert done[-1] == 20


def test_without_a_terminal_long_work_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    report = lines_on_stderr()
    for second in range(0, 241, 20):
        clock[0] = second
        report("searching", 5 * second, 1200)
    assert capsys.readouterr().err.splitlines() == [
        "searching: 300 of 1,200, about 3 min left",
        "searching: 600 of 1,200, about 2 min left",
        "searching: 900 of 1,200, about a minute left",
        "searching: 1,200 of 1,200",
    ]


def test_the_command_makes_a_preset_ready(cache: Path) -> None:
    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "fdsl.cli", "catalog", *arguments], capture_output=True, text=True, check=False
        )

    done = command("rcdb-1k", "--json")
    file = kept(cache)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {
        "family": "rcdb",
        "categories": 1000,
        "variation": None,
        "digest": DIGESTS["rcdb-1k"],
        "path": str(file),
        "bytes": file.stat().st_size,
    }
    flip(file, -1)
    done = command("rcdb-1k", "--verify")
    assert done.returncode == 0
    assert done.stderr.startswith(f"warning: {file}: the content has the digest ")
    assert done.stderr.endswith("; it is made anew\n")
    assert DIGESTS["rcdb-1k"] in done.stdout
    done = command("rcdb-2k")
    assert (done.returncode, done.stdout) == (1, "")
    assert "did you mean" in done.stderr
