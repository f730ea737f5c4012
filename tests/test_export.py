from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fdsl
from fdsl import Dataset, EpochOrder, RandomView, RenderSpec
from fdsl.export import export_dataset, verify_export
from fdsl.export.manifest import WORKING, WorkingFolder

SPEC = RenderSpec(size=32, points=1000)
LAYOUTS = ("folder", "webdataset", "parquet")


@pytest.fixture(scope="module")
def dataset(catalog: fdsl.Catalog) -> Dataset:
    return Dataset(catalog, 25, SPEC)


@pytest.fixture(scope="module")
def saved(catalog: fdsl.Catalog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("catalog") / "four.safetensors"
    catalog.save(file)
    return file


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder below, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def decoded(content: bytes) -> np.ndarray:
    """(C, H, W)."""
    image = np.asarray(Image.open(io.BytesIO(content)).convert("L"))
    return image[None]


def members(file: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(file) as tar:
        return [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]


def manifest_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return content


def command(saved: Path, out: Path, *more: object) -> list[str]:
    arguments = ["export", saved, "--out", out, "--to", "webdataset", "--size", 32, "--points", 1000, *more]
    return [sys.executable, "-m", "fdsl.cli", *map(str, arguments)]


class TestShards:
    @pytest.mark.parametrize("order", ["shuffled", "category"])
    def test_tar_shards_hold_every_sample_once_in_the_order(self, order: str, tmp_path: Path, dataset: Dataset) -> None:
        report = export_dataset(dataset, tmp_path, "webdataset", shard_size=30, order=order, shuffle_seed=5, workers=1)
        assert (report.pictures, report.shards, report.drawn, report.left) == (100, 4, 100, 0)
        names = [f"shard-00000{k}.tar" for k in range(4)]
        assert sorted(os.listdir(tmp_path)) == ["manifest.json", *names]
        files = [entry for name in names for entry in members(tmp_path / name)]
        order_of = EpochOrder(100, 5).at(range(100)) if order == "shuffled" else np.arange(100)
        for index, (name, picture), (label_name, label) in zip(order_of, files[::2], files[1::2], strict=True):
            image, category = dataset[int(index)]
            assert name == f"{dataset.file_name(category, int(index) % 25)}.png"
            assert (label_name, label) == (name.replace(".png", ".cls"), str(category).encode())
            assert np.array_equal(decoded(picture), image)

    def test_tar_shards_are_the_bytes_that_tarfile_writes(self, tmp_path: Path, dataset: Dataset) -> None:
        export_dataset(dataset, tmp_path, "webdataset", shard_size=70, workers=1)
        for shard in tmp_path.glob("*.tar"):
            written = io.BytesIO()
            with tarfile.open(fileobj=written, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                for name, content in members(shard):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
            assert written.getvalue() == shard.read_bytes()

    def test_folders_hold_a_category_each(self, tmp_path: Path, catalog: fdsl.Catalog) -> None:
        # Names of continuously drawn instances do not sort as their numbers do.
        dataset = Dataset(catalog, range(0, 36, 3), SPEC, fresh=True)
        export_dataset(dataset, tmp_path, "folder", workers=1)
        found = {path.relative_to(tmp_path).as_posix(): path for path in tmp_path.glob("*/*")}
        expected = {
            f"{c:05d}/{c:05d}_instance_{n}.png": (c, i) for c in range(4) for i, n in enumerate(range(0, 36, 3))
        }
        assert found.keys() == expected.keys()
        for name, (category, place) in expected.items():
            assert np.array_equal(decoded(found[name].read_bytes()), dataset[category * 12 + place][0])
        for entry in manifest_of(tmp_path)["shards"]:
            files = sorted((tmp_path / entry["name"]).iterdir())
            pixels = b"".join(decoded(file.read_bytes()).tobytes() for file in files)
            lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
            assert entry["pixels"] == hashlib.sha256(pixels).hexdigest()
            assert entry["sha256"] == hashlib.sha256("".join(lines).encode()).hexdigest()
            assert entry["bytes"] == sum(file.stat().st_size for file in files)

    def test_parquet_shards_say_what_their_columns_are(self, tmp_path: Path, dataset: Dataset) -> None:
        parquet = pytest.importorskip("pyarrow.parquet")
        export_dataset(dataset, tmp_path, "parquet", shard_size=60, workers=1)
        names = ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
        assert sorted(os.listdir(tmp_path)) == ["manifest.json", *names]
        tables = [parquet.read_table(tmp_path / name) for name in names]
        features = json.loads(tables[0].schema.metadata[b"huggingface"])["info"]["features"]
        assert features == {
            "image": {"_type": "Image"},
            "label": {"_type": "ClassLabel", "names": ["00000", "00001", "00002", "00003"]},
        }
        rows = [row for table in tables for row in table.to_pylist()]
        for index, row in zip(EpochOrder(100).at(range(100)).tolist(), rows, strict=True):
            image, label = dataset[index]
            assert row["label"] == label
            assert row["image"]["path"] == f"{dataset.file_name(label, index % 25)}.png"
            assert np.array_equal(decoded(row["image"]["bytes"]), image)

    def test_a_mix_gives_each_sample_of_its_parts_once(self, tmp_path: Path, catalog: fdsl.Catalog) -> None:
        curves = Dataset(fdsl.search("bezier", categories=4), 3, RenderSpec(size=32))
        mixed = fdsl.mix([Dataset(catalog, 5, SPEC), fdsl.mix([curves, Dataset(catalog, 2, SPEC)])], [3, 1], length=7)
        export_dataset(mixed, tmp_path / "tar", "webdataset", order="category", workers=1)
        files = members(tmp_path / "tar" / "shard-000000.tar")
        assert len({name for name, _ in files}) == 2 * (20 + 12 + 8)
        parts = (Dataset(catalog, 5, SPEC), curves, Dataset(catalog, 2, SPEC))
        plain = [part[index][0] for part in parts for index in range(len(part))]
        labels = [*np.repeat(range(4), 5), *np.repeat(range(4, 8), 3), *np.repeat(range(8, 12), 2)]
        for image, label, (name, content), (_, text) in zip(plain, labels, files[::2], files[1::2], strict=True):
            assert np.array_equal(decoded(content), image)
            assert (name[:6], int(text)) == (f"{label:05d}/", label)
        export_dataset(mixed, tmp_path / "folder", "folder", workers=1)
        stored = {path.relative_to(tmp_path / "folder").as_posix() for path in (tmp_path / "folder").glob("*/*")}
        assert stored == {name for name, _ in files[::2]}

    def test_bytes_are_the_same_for_any_number_of_workers(self, tmp_path: Path, dataset: Dataset) -> None:
        reports: list[tuple[str, int, int]] = []
        for layout in LAYOUTS:
            size = None if layout == "folder" else 7
            export_dataset(dataset, tmp_path / f"{layout}1", layout, shard_size=size, workers=1)

        def done(*report: Any) -> None:
            reports.append(report)

        export_dataset(dataset, tmp_path / "two", "webdataset", shard_size=7, workers=2, progress=done)
        assert tree(tmp_path / "two") == tree(tmp_path / "webdataset1")
        assert reports[-1] == ("drawing", 100, 100)
        assert [done for _, done, _ in reports] == sorted(done for _, done, _ in reports)

    def test_pixel_digests_do_not_depend_on_the_encoding(self, tmp_path: Path, catalog: fdsl.Catalog) -> None:
        colored = Dataset(catalog, 3, RenderSpec(size=32, points=1000, color="color"))
        for drawn in (colored, Dataset(catalog, 3, SPEC)):
            digests = []
            for encoding in ("png", "webp", "raw"):
                folder = tmp_path / f"{drawn.spec.color}-{encoding}"
                export_dataset(drawn, folder, "webdataset", encoding=encoding, shard_size=5, workers=1)
                digests.append([entry["pixels"] for entry in manifest_of(folder)["shards"]])
                assert verify_export(folder, workers=1).problems == []
            assert digests[0] == digests[1] == digests[2]
        pixels = Dataset(catalog, 3, SPEC).batch(EpochOrder(12).at(range(5)))[0]
        assert digests[0][0] == hashlib.sha256(pixels.tobytes()).hexdigest()

    def test_a_transform_is_left_out(self, tmp_path: Path, catalog: fdsl.Catalog) -> None:
        dataset = Dataset(catalog, 2, SPEC, transform=lambda image: pytest.fail("called"))
        assert export_dataset(dataset, tmp_path, "webdataset", shard_size=4, workers=2).drawn == 8

    def test_the_manifest_says_what_was_drawn(self, tmp_path: Path, catalog: fdsl.Catalog) -> None:
        view = Dataset(catalog, 3, RenderSpec(size=32, points=1000, view=RandomView(scale=(0.3, 1.0))), seed=4)
        export_dataset(view, tmp_path, "webdataset", workers=1)
        content = manifest_of(tmp_path)
        assert content["dataset"] == view.digest
        assert content["parts"][0]["spec"] == json.loads(view.spec.canonical())
        assert {"family": "fractaldb", "seed": 4, "instances": [0, 3, 1]}.items() <= content["parts"][0].items()
        assert (content["pictures"], content["classes"], content["shard_size"]) == (12, 4, 10_000)


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"to": "zip"}, "to is 'zip'; expected one of folder, webdataset, parquet"),
            ({"encoding": "gif"}, "encoding is 'gif'; expected one of png, webp, raw"),
            ({"to": "parquet", "encoding": "raw"}, "encoding is 'raw', which no reader of parquet"),
            ({"to": "folder", "order": "shuffled"}, "order is 'shuffled', but folders hold a category each"),
            ({"to": "folder", "shard_size": 10}, "shard_size is 10, but folders hold a category each"),
            ({"order": "random"}, "order is 'random'; expected one of shuffled, category"),
            ({"shard_size": 0}, "shard_size is 0; expected a whole number of at least 1"),
            ({"shuffle_seed": -1}, "seed is -1"),
            ({"workers": 0}, "workers is 0; expected a whole number of at least 1"),
        ],
    )
    def test_arguments(self, arguments: dict[str, Any], message: str, tmp_path: Path, dataset: Dataset) -> None:
        with pytest.raises(ValueError, match=message):
            export_dataset(dataset, tmp_path / "new", **{"to": "webdataset", **arguments})
        assert not (tmp_path / "new").exists()

    def test_dense_labels(self, tmp_path: Path, catalog: fdsl.Catalog) -> None:
        with pytest.raises(ValueError, match=r"labels is .*; expected 'class', or .*fdsl render --labels coco"):
            export_dataset(Dataset(catalog, 2, SPEC, labels=("class", "boxes")), tmp_path / "new", "webdataset")
        assert not (tmp_path / "new").exists()

    @pytest.mark.parametrize("complete", [True, False])
    def test_a_folder_of_another_export(
        self, complete: bool, tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        same: dict[str, Any] = {"to": "webdataset", "shard_size": 30, "workers": 1}
        export_dataset(dataset, tmp_path, **same)
        if not complete:
            (tmp_path / "shard-000001.tar").unlink()
            with monkeypatch.context() as context:
                context.setattr("fdsl.export.exporting.write_tar", full_disk)
                with pytest.raises(OSError, match="cannot write"):
                    export_dataset(dataset, tmp_path, **same)
        before = tree(tmp_path)
        others = [
            (Dataset(dataset.catalog, 25, SPEC, seed=1), {}, "seed 0, and this one has 1"),
            (Dataset(dataset.catalog, 24, SPEC), {}, r"instances \[0, 25, 1\], and this one has \[0, 24, 1\]"),
            (Dataset(dataset.catalog, 25, RenderSpec(size=16, points=1000)), {}, "size 32, and this one has 16"),
            (dataset, {"to": "parquet"}, "to 'webdataset', and this one has 'parquet'"),
            (dataset, {"encoding": "webp"}, "encoding 'png', and this one has 'webp'"),
            (dataset, {"shard_size": 20}, "shard_size 30, and this one has 20"),
            (dataset, {"order": "category"}, "order 'shuffled', and this one has 'category'"),
            (dataset, {"shuffle_seed": 1}, "shuffle_seed 0, and this one has 1"),
        ]
        for other, changed, message in others:
            with pytest.raises(ValueError, match=f"holds an export with {message}; expected the same"):
                export_dataset(other, tmp_path, **same | changed)
        assert tree(tmp_path) == before

    def test_a_folder_of_something_else(self, tmp_path: Path, dataset: Dataset) -> None:
        (tmp_path / "photo.jpg").write_bytes(b"mine")
        with pytest.raises(FileExistsError, match=r"holds photo.jpg; expected a new or an empty folder"):
            export_dataset(dataset, tmp_path, "webdataset")
        assert tree(tmp_path) == {"photo.jpg": b"mine"}
        (tmp_path / "file").touch()
        with pytest.raises(OSError, match="file"):
            export_dataset(dataset, tmp_path / "file", "webdataset")


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


class TestRestart:
    def test_a_complete_export_is_left_alone(self, tmp_path: Path, dataset: Dataset) -> None:
        first = export_dataset(dataset, tmp_path, "webdataset", shard_size=30, workers=1)
        times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
        again = export_dataset(dataset, tmp_path, "webdataset", shard_size=30, workers=1)
        assert (again.drawn, again.left, again.bytes) == (0, 0, first.bytes)
        assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == times

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_only_lost_shards_are_drawn_anew(self, layout: str, tmp_path: Path, dataset: Dataset) -> None:
        keywords: dict[str, Any] = {"to": layout, "workers": 1} | ({} if layout == "folder" else {"shard_size": 25})
        export_dataset(dataset, tmp_path, **keywords)
        whole = tree(tmp_path)
        lost = tmp_path / manifest_of(tmp_path)["shards"][2]["name"]
        lost.rename(tmp_path.with_suffix(".lost"))
        assert verify_export(tmp_path, workers=1).problems == [f"{lost.name}: missing"]
        assert export_dataset(dataset, tmp_path, **keywords).drawn == 25
        assert tree(tmp_path) == whole

    def test_what_a_dead_writer_left_is_removed_and_what_a_living_one_writes_is_not(
        self, tmp_path: Path, dataset: Dataset
    ) -> None:
        from fdsl.export.manifest import WorkingFolder, identity
        from fdsl.export.shards import FilePictures, ShardPlan

        plan = ShardPlan(FilePictures(dataset), "webdataset", "png", 30, "shuffled", 0)
        names = [plan.name(shard) for shard in range(len(plan))]
        working = WorkingFolder(tmp_path)
        working.open(identity(plan), names)
        (working.path / ".shard-000001.tar.dead.partial").write_bytes(b"half")
        (working.path / ".00001.dead.partial").mkdir()
        (working.path / ".00001.dead.partial" / "a.png").write_bytes(b"half")
        with working.shard(names[0], is_folder=False) as living:
            living.write_bytes(b"half")
            WorkingFolder(tmp_path).open(identity(plan), names)
            assert sorted(os.listdir(working.path)) == sorted([living.name, "plan.json"])

    @pytest.mark.slow
    @pytest.mark.parametrize("layout", ["webdataset", "folder"])
    def test_killed_at_twenty_random_moments_it_equals_an_uninterrupted_one(
        self, layout: str, tmp_path: Path, saved: Path
    ) -> None:
        more = ["--to", layout, "--instances", 200, "--points", 20_000, "--json"]
        more += [] if layout == "folder" else ["--shard-size", 50]
        began = time.perf_counter()
        report = subprocess.check_output(command(saved, tmp_path / "whole", *more, "--workers", 1))
        whole, seconds = tree(tmp_path / "whole"), time.perf_counter() - began
        start_up = seconds - json.loads(report)["seconds"]
        moments, kills, exports, torn = random.Random(7), 0, 0, 0

        def unfinished(folder: Path) -> bool:
            return any(folder.rglob("*.tar.*.partial" if layout == "webdataset" else ".0*.partial"))

        while kills < 20:
            out, exports, killed = tmp_path / f"killed-{exports}", exports + 1, True
            while killed:
                # A machine of a batch system kills all processes of a job, and the kernel the largest of them.
                workers, whole_job = 1 + kills % 2, kills % 4 < 2
                started = subprocess.Popen(
                    command(saved, out, *more, "--workers", workers), stdout=subprocess.DEVNULL, start_new_session=True
                )
                if kills % 2:  # a machine that is slow to start would else be killed before it writes
                    until(lambda: started.poll() is not None or unfinished(out))  # noqa: B023
                    ended = ended_by_itself(started, moments.uniform(0, (seconds - start_up) / 4))
                else:
                    ended = ended_by_itself(started, moments.uniform(start_up / 2, 1.2 * seconds))
                if not ended:
                    torn += unfinished(out)
                    (os.killpg if whole_job else os.kill)(started.pid, signal.SIGKILL)
                killed = started.wait() == -signal.SIGKILL  # and not done just before
                kills += killed
                assert killed or started.returncode == 0
            assert tree(out) == whole
        assert torn > 3  # the moments meet writers at work

    def test_a_killed_worker_ends_it_in_one_line_and_the_rest_stays(self, tmp_path: Path, saved: Path) -> None:
        more = ("--instances", 1000, "--shard-size", 100, "--workers", 2)
        with subprocess.Popen(command(saved, tmp_path / "out", *more), stderr=subprocess.PIPE, text=True) as started:
            until(lambda: len(list((tmp_path / "out").glob("*.tar"))) > 3)
            os.kill(children(started.pid)[0], signal.SIGKILL)
            _, errors = started.communicate()
        assert started.returncode == 1
        stays = "what is complete stays, and the same command goes on"
        assert errors == f"error: a worker process was killed by signal 9 (is memory short?); {stays}\n"
        working = tmp_path / "out" / WORKING
        assert not [name for name in os.listdir(working) if name.endswith(".tar.partial")]
        there = {file: file.stat().st_ino for file in (tmp_path / "out").glob("*.tar")}
        dataset = Dataset(fdsl.catalog(saved), 1000, SPEC)
        report = export_dataset(dataset, tmp_path / "out", "webdataset", shard_size=100, workers=1)
        assert report.drawn == 4000 - 100 * len(there)
        assert there.items() <= {file: file.stat().st_ino for file in (tmp_path / "out").glob("*.tar")}.items()
        assert verify_export(tmp_path / "out", workers=1).problems == []

    def test_ctrl_c_ends_the_workers_and_leaves_nothing_torn(self, tmp_path: Path, saved: Path) -> None:
        more = ("--instances", 1000, "--shard-size", 500, "--workers", 2)
        with subprocess.Popen(
            command(saved, tmp_path / "out", *more), stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as started:
            until(lambda: any((tmp_path / "out").glob("*.tar")))
            workers = children(started.pid)
            os.killpg(started.pid, signal.SIGINT)  # as a terminal does: to all of them
            _, errors = started.communicate()
        assert (started.returncode, errors) == (130, "interrupted\n")
        assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
        assert not list((tmp_path / "out").rglob("*.tar.partial"))

    def test_workers_end_with_the_process_that_started_them(self, tmp_path: Path, saved: Path) -> None:
        more = ("--instances", 1000, "--shard-size", 2000, "--workers", 2, "--size", 256)
        with subprocess.Popen(command(saved, tmp_path / "out", *more), stderr=subprocess.DEVNULL) as started:
            until(lambda: len(list((tmp_path / "out").rglob("*.tar.*.partial"))) == 2)
            workers = children(started.pid)
            started.kill()
        until(lambda: not any(running(worker) for worker in workers))
        assert not list((tmp_path / "out").glob("*.tar"))

    def test_ranks_of_a_job_share_an_export(self, tmp_path: Path, dataset: Dataset, saved: Path) -> None:
        more = ("--instances", 25, "--shard-size", 7, "--workers", 1, "--json")
        variables = [{"SLURM_PROCID": str(rank), "SLURM_STEP_NUM_TASKS": "3"} for rank in range(3)]
        first = subprocess.run(
            command(saved, tmp_path / "out", *more), env=os.environ | variables[1], capture_output=True, check=True
        )
        assert json.loads(first.stdout)["drawn"] == 35
        assert first.stderr == b"10 of 15 shards are left to other ranks; the last writes manifest.json\n"
        assert sorted(path.name for path in (tmp_path / "out").glob("*.tar")) == [
            f"shard-{shard:06d}.tar" for shard in (1, 4, 7, 10, 13)
        ]
        others = [
            subprocess.Popen(command(saved, tmp_path / "out", *more), env=os.environ | variables[r]) for r in (0, 2)
        ]
        assert [other.wait() for other in others] == [0, 0]
        export_dataset(dataset, tmp_path / "alone", "webdataset", shard_size=7, workers=1)
        assert tree(tmp_path / "out") == tree(tmp_path / "alone")

    def test_an_entry_that_another_process_is_writing_stays(self, tmp_path: Path) -> None:
        working = WorkingFolder(tmp_path)
        working.path.mkdir()
        for name in (".00000.json.0123abcd.partial", ".00000.tar.0123abcd.partial"):
            (working.path / name).touch()
        working.remove_stale()
        assert os.listdir(working.path) == [".00000.json.0123abcd.partial"]

    def test_the_same_command_twice_at_once_does_no_harm(self, tmp_path: Path, saved: Path) -> None:
        for layout in ("webdataset", "folder"):
            out, whole = tmp_path / layout, tmp_path / f"{layout}-whole"
            more = ["--to", layout, "--instances", 100, *([] if layout == "folder" else ["--shard-size", 10])]
            both = [subprocess.Popen(command(saved, out, *more, "--workers", workers)) for workers in (1, 2)]
            assert [one.wait() for one in both] == [0, 0]
            subprocess.run(command(saved, whole, *more, "--workers", 1), check=True)
            assert tree(out) == tree(whole)


class TestDisk:
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_a_full_disk_leaves_complete_shards_and_no_other_file(
        self, layout: str, tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keywords: dict[str, Any] = {"to": layout, "workers": 1} | ({} if layout == "folder" else {"shard_size": 25})
        from fdsl.export import shards

        drawn = 0

        def encode(*arguments: Any) -> bytes:
            nonlocal drawn
            drawn += 1
            if drawn == 60:
                full_disk()
            return encoded(*arguments)

        encoded = shards.encode
        with monkeypatch.context() as context:
            context.setattr(shards, "encode", encode)
            with pytest.raises(OSError, match=r"cannot write \(No space left on device\)") as raised:
                export_dataset(dataset, tmp_path / "out", **keywords)
        names = sorted(os.listdir(tmp_path / "out"))
        assert raised.value.errno == errno.ENOSPC
        assert len(names) == 3
        assert names[0] == WORKING
        assert sorted(os.listdir(tmp_path / "out" / WORKING)) == sorted(
            ["plan.json", *(f"{name}.json" for name in names[1:])]
        )
        assert export_dataset(dataset, tmp_path / "out", **keywords).drawn == 50
        export_dataset(dataset, tmp_path / "whole", **keywords)
        assert raised.value.filename == str(tmp_path / "out" / manifest_of(tmp_path / "whole")["shards"][2]["name"])
        assert tree(tmp_path / "out") == tree(tmp_path / "whole")

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("workers", [1, 2])
    def test_a_file_system_that_is_full(self, layout: str, workers: int, tmp_path: Path, catalog: fdsl.Catalog) -> None:
        dataset = Dataset(catalog, 100, SPEC)
        size = None if layout == "folder" else 25
        keywords: dict[str, Any] = {"to": layout, "workers": workers, "shard_size": size}
        room = {"folder": "1m", "webdataset": "256k", "parquet": "64k"}[layout]
        with file_system(tmp_path / "small", f"size={room}") as small:
            with pytest.raises(OSError, match="No space left on device") as raised:
                export_dataset(dataset, small / "out", **keywords)
            assert raised.value.errno == errno.ENOSPC
            assert not list((small / "out" / WORKING).glob(".*"))
            there = {path for path in (small / "out").iterdir() if path.name != WORKING}
            assert there
            subprocess.run(["mount", "-o", "remount,size=8m", small], check=True)
            report = export_dataset(dataset, small / "out", **keywords)
            assert report.drawn == 400 - (100 if layout == "folder" else 25) * len(there)
            export_dataset(dataset, tmp_path / "whole", **keywords)
            assert tree(small / "out") == tree(tmp_path / "whole")

    def test_a_read_only_folder(self, tmp_path: Path, dataset: Dataset) -> None:
        with file_system(tmp_path / "disk") as disk:
            export_dataset(dataset, disk / "out", "webdataset", shard_size=25, workers=1)
            (disk / "out" / "shard-000001.tar").unlink()
            before = tree(disk)
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
            for out in ("out", "new"):
                with pytest.raises(OSError, match="Read-only file system") as raised:
                    export_dataset(dataset, disk / out, "webdataset", shard_size=25, workers=1)
                assert str(raised.value.filename).startswith(str(disk / out))
            assert tree(disk) == before

    def test_a_folder_that_nothing_may_be_written_to(
        self, tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(path: Path, *_: object, **__: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

        monkeypatch.setattr(Path, "mkdir", refuse)
        with pytest.raises(PermissionError, match="Permission denied"):
            export_dataset(dataset, tmp_path / "out", "webdataset")
        assert tree(tmp_path) == {}


class TestVerify:
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_it_finds_any_flipped_bit(self, layout: str, tmp_path: Path, dataset: Dataset) -> None:
        size = None if layout == "folder" else 10
        export_dataset(dataset, tmp_path, layout, shard_size=size, workers=1)
        shard = manifest_of(tmp_path)["shards"][1]["name"]
        file = sorted((tmp_path / shard).iterdir())[3] if layout == "folder" else tmp_path / shard
        content, positions = file.read_bytes(), random.Random(3)
        for position in [0, len(content) - 1, *(positions.randrange(len(content)) for _ in range(20))]:
            changed = bytearray(content)
            changed[position] ^= 1 << positions.randrange(8)
            file.write_bytes(changed)
            (problem,) = verify_export(tmp_path, workers=1).problems
            assert problem.startswith(f"{shard}: ")
        file.write_bytes(content)
        assert verify_export(tmp_path, workers=1).problems == []

    def test_it_names_what_is_missing_or_unexpected(self, tmp_path: Path, dataset: Dataset) -> None:
        export_dataset(dataset, tmp_path, "folder", workers=1)
        (tmp_path / "notes.txt").touch()
        (tmp_path / "00001" / "Thumbs.db").touch()
        next((tmp_path / "00002").iterdir()).unlink()
        (tmp_path / "00003").rename(tmp_path / "3")
        reports: list[tuple[str, int, int]] = []
        report = verify_export(tmp_path, workers=2, progress=lambda *r: reports.append(r))
        problems = dict(zip(("00001", "00002", "00003", "3", "notes.txt"), report.problems, strict=True))
        assert problems["00001"].startswith("00001: Thumbs.db is unexpected")
        assert problems["00002"].startswith("00002: pictures 24, 25 in the manifest")
        assert problems["00003"] == "00003: missing"
        assert (problems["3"], problems["notes.txt"]) == ("3 is unexpected", "notes.txt is unexpected")
        assert reports[-1] == ("verifying", 100, 100)

    def test_it_finds_other_pixels_in_files_that_were_made_to_fit(self, tmp_path: Path, dataset: Dataset) -> None:
        export_dataset(dataset, tmp_path, "webdataset", encoding="raw", workers=1)
        shard, manifest = tmp_path / "shard-000000.tar", manifest_of(tmp_path)
        content = bytearray(shard.read_bytes())
        content[512 + 128 + 5] ^= 127  # behind the headers of tar and npy
        shard.write_bytes(content)
        manifest["shards"][0]["sha256"] = hashlib.sha256(content).hexdigest()
        (tmp_path / "manifest.json").write_text(json.dumps(manifest))
        (problem,) = verify_export(tmp_path, workers=1).problems
        assert problem.startswith("shard-000000.tar: pixels ")

    def test_what_is_not_complete_has_nothing_to_compare_with(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"holds no manifest.json; expected a complete export"):
            verify_export(tmp_path)
        (tmp_path / "manifest.json").write_text("{")
        with pytest.raises(ValueError, match=r"manifest.json is damaged; expected JSON"):
            verify_export(tmp_path)


class TestCommand:
    def test_it_exports_and_verifies(self, tmp_path: Path, saved: Path) -> None:
        arguments = command(saved, tmp_path / "out", "--instances", 25, "--shard-size", 40, "--json")
        figures = json.loads(subprocess.check_output(arguments))
        assert figures.pop("seconds") > 0
        assert figures.pop("pictures_per_s") > 0
        assert figures.pop("bytes") == sum(path.stat().st_size for path in (tmp_path / "out").glob("*.tar"))
        assert figures == {"pictures": 100, "shards": 3, "drawn": 100, "left": 0, "out": str(tmp_path / "out")}
        again = subprocess.run(arguments, capture_output=True, check=True)
        assert again.stderr.decode() == f"{tmp_path / 'out'} is complete; nothing was left to draw\n"
        verify = [
            sys.executable,
            "-m",
            "fdsl.cli",
            "export",
            "--verify",
            "--out",
            str(tmp_path / "out"),
            "--workers",
            "1",
        ]
        assert b"problems  0" in subprocess.check_output(verify)
        (tmp_path / "out" / "shard-000001.tar").unlink()
        found = subprocess.run(verify, capture_output=True, text=True, check=False)
        assert found.returncode == 1
        assert found.stderr.endswith("out is not what its manifest says: shard-000001.tar: missing\n")
        assert found.stderr.count("\n") == 1


def ended_by_itself(started: subprocess.Popen[Any], seconds: float) -> bool:
    try:
        started.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def until(holds: Any) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


def children(pid: int) -> list[int]:
    """Of a process that multiprocessing made: not its resource tracker."""
    found = [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [child for child in found if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def running(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


@contextlib.contextmanager
def file_system(folder: Path, options: str = "size=8m") -> Iterator[Path]:
    """A small one in memory, where this process may mount one."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a file system takes rights that this process lacks")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
