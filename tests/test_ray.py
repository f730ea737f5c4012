from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import fdsl
from fdsl.datasets import IndexedPictures
from fdsl.export import export_dataset, verify_export
from fdsl.export.ray_cluster import write_on_ray
from fdsl.families.user import import_formulas

ray = pytest.importorskip("ray")

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # Ray's own


@pytest.fixture(scope="module", autouse=True)
def local_ray() -> Iterator[None]:
    """A Ray that the first of the calls started, which lasts while it goes on; the others find it initialised."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN", "0" * 32)  # else Ray writes one to the home folder
        patch.setattr("fdsl.export.ray_cluster.default_threads", lambda: 2)
        first = write_on_ray(abs, range(-2, 0), None)
        next(first)
        assert ray.is_initialized()
        yield
        assert len(list(first)) == 1
        assert not ray.is_initialized()
        os.environ.pop("RAY_AUTH_MODE", None)  # which Ray left


@dataclass(frozen=True)
class Shards:
    """What an export hands over: something that holds a dataset, and a method of it."""

    dataset: IndexedPictures
    folder: Path

    def digest(self, number: int) -> tuple[int, str]:
        images, labels = self.dataset.batch(range(4 * number, 4 * number + 4))
        return number, hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()

    def killed_once(self, number: int) -> tuple[int, str]:
        if number in (1, 4):
            mark = self.folder / f"{number}"
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return self.digest(number)

    def always_killed(self, number: int) -> None:
        (self.folder / "killed").open("a").write("x")
        os.kill(os.getpid(), signal.SIGKILL)

    def full(self, number: int) -> int:
        if number == 2:
            raise OSError(28, "cannot write (No space left on device)", "shards/shard-000002.tar")
        return number

    def paths(self, number: int) -> list[Path | None]:
        parts = getattr(self.dataset, "datasets", [self.dataset])
        return [part.catalog.path for part in parts]


@pytest.fixture
def shards(catalog: fdsl.Catalog, tmp_path: Path) -> Shards:
    return Shards(fdsl.Dataset(catalog, 6, fdsl.RenderSpec(size=32)), tmp_path)


def test_every_number_is_written_once(shards: Shards) -> None:
    found = list(write_on_ray(shards.digest, range(6), None))
    assert sorted(found) == [shards.digest(number) for number in range(6)]
    assert list(write_on_ray(shards.digest, [], None)) == []


def test_what_dies_with_its_worker_is_done_again(shards: Shards) -> None:
    found = list(write_on_ray(shards.killed_once, range(6), None))
    assert {mark.name for mark in shards.folder.iterdir()} == {"1", "4"}
    assert sorted(found) == [shards.digest(number) for number in range(6)]


class Deadly(fdsl.Dataset):
    """A dataset that kills the process that draws it, once for each of two labels, in the middle of a shard."""

    marks: Path

    def batch(self, indices: Any, *more: Any, **options: Any) -> Any:
        for label in (0, 3):
            mark = self.marks / f"{label}"
            if label * len(self.instances) in indices and not mark.exists():
                assert list(self.marks.parent.rglob("*.partial")), "nothing is being written"
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().batch(indices, *more, **options)


@pytest.mark.parametrize("to", ["webdataset", "folder"])
def test_an_export_whose_workers_are_killed_is_the_same_bytes(
    to: str, shards: Shards, catalog: fdsl.Catalog, tmp_path: Path
) -> None:
    deadly = Deadly(catalog, 6, shards.dataset.spec)
    deadly.marks = tmp_path / "marks"
    deadly.marks.mkdir()
    shard_size = None if to == "folder" else 5
    report = export_dataset(deadly, tmp_path / "ray", to, shard_size=shard_size, ray="local")
    assert {mark.name for mark in deadly.marks.iterdir()} == {"0", "3"}
    export_dataset(shards.dataset, tmp_path / "here", to, shard_size=shard_size, workers=1)
    there, here = (
        {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        for folder in (tmp_path / "ray", tmp_path / "here")
    )
    assert there == here
    assert (report.pictures, report.drawn, report.left) == (24, 24, 0)
    assert verify_export(tmp_path / "ray", workers=1).problems == []


def test_a_full_disk_is_the_error_that_it_is_here(shards: Shards) -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        list(write_on_ray(shards.full, range(100), None))
    assert type(caught.value) is OSError
    assert (caught.value.errno, caught.value.filename) == (28, "shards/shard-000002.tar")
    # What waited was given up, and the cluster serves on.
    assert sorted(write_on_ray(shards.full, [0, 1], None)) == [0, 1]


def test_catalogs_travel_without_their_files(shards: Shards, catalog: fdsl.Catalog, tmp_path: Path) -> None:
    catalog.save(tmp_path / "one.safetensors")
    opened = fdsl.Catalog.load(tmp_path / "one.safetensors")
    part = fdsl.Dataset(opened, 6, shards.dataset.spec)
    mixed = Shards(fdsl.mix([part, fdsl.mix([part, shards.dataset])]), tmp_path)
    wanted = [mixed.digest(number) for number in range(3)]
    written = write_on_ray(mixed.digest, range(3), None)
    first = next(written)
    (tmp_path / "one.safetensors").unlink()
    assert sorted([first, *written]) == wanted
    one = Shards(part, tmp_path)
    assert list(write_on_ray(one.paths, [0], None)) == [[None]]
    # What is pickled elsewhere goes as its path, as before.
    assert opened.__reduce__()[1][1] == str(tmp_path / "one.safetensors")


FORMULA = """
import numpy as np
import fdsl

@fdsl.family("spokes_{name}")
class Spokes:
    def sample(self, random):
        return {{"ends": random.random((5, 2))}}
    def polylines(self, params):
        return [np.stack([np.zeros(2), end]) for end in params["ends"]]
"""


@pytest.mark.parametrize("name", ["file", "notebook"])
def test_formulas_of_a_file_or_a_notebook_travel(name: str, shards: Shards, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if name == "file":
            (tmp_path / "spokes_of_a_file.py").write_text(FORMULA.format(name=name))
            patch.setattr(sys, "path", list(sys.path))
            import_formulas(str(tmp_path / "spokes_of_a_file.py"))
        else:
            exec(FORMULA.format(name=name), {"__name__": "__main__"})
        drawn = Shards(fdsl.Dataset(fdsl.search(f"spokes_{name}", 2), 4, fdsl.RenderSpec(size=32)), tmp_path)
        assert sorted(write_on_ray(drawn.digest, range(2), None)) == [drawn.digest(0), drawn.digest(1)]


def test_no_more_than_a_few_tasks_wait(shards: Shards) -> None:
    asked = 0

    class Numbers(list[int]):
        def __iter__(self) -> Iterator[int]:
            nonlocal asked
            for number in range(len(self)):
                asked += 1
                yield number

    written = write_on_ray(abs, Numbers([0] * 1000), None)
    for count in range(1, 6):
        next(written)
        assert asked < count + 20
    written.close()


def test_a_task_that_always_dies_ends_the_work(shards: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fdsl.export.ray_cluster._RETRIES", 1)
    with pytest.raises(RuntimeError, match=r"^shard 7 could not be written on Ray; WorkerCrashedError: [^\n]*$"):
        list(write_on_ray(shards.always_killed, [7], None))
    assert (shards.folder / "killed").read_text() == "xx"


def test_another_version_of_fdsl_is_refused(shards: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fdsl, "__version__", "9.9")
    with pytest.raises(RuntimeError, match=r"has fdsl [\d.]+; expected 9\.9"):
        list(write_on_ray(shards.digest, [0], None))


NO_CLUSTER = """
import sys
from fdsl.export.ray_cluster import write_on_ray
if sys.argv[1] == "missing":
    sys.modules["ray"] = None
try:
    list(write_on_ray(abs, [1], sys.argv[1]))
except (ImportError, ConnectionError) as error:
    print(f"{type(error).__name__}: {error}")
"""


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("missing", r"ImportError: export on Ray needs ray, .*; pip install 'fdsl\[ray\]'"),
        ("127.0.0.1:1", r"ConnectionError: ray is '127.0.0.1:1', where nothing answers \(.*\); expected .*"),
        ("ray://127.0.0.1:1", r"ConnectionError: ray is 'ray://127.0.0.1:1', where nothing answers .*"),
        ("127.0.0.1", r"ConnectionError: ray is '127.0.0.1', where nothing answers .*"),
    ],
)
def test_no_ray_is_one_line_at_once(address: str, message: str) -> None:
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", NO_CLUSTER, address], capture_output=True, text=True, timeout=120)
    assert re.fullmatch(message, done.stdout.strip()), done.stderr
    assert done.returncode == 0
    assert time.monotonic() - began < 60
