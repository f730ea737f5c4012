from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
import training_rank
from training_rank import SHUFFLE_SEED

from fdsl import EpochOrder

WORLD_SIZES = (1, 2, 3, 4, 7, 8)
TIMEOUT = 60.0


@pytest.fixture(scope="module")
def processes() -> Any:
    # A server that has torch imported forks the ranks: else each rank costs seconds of a processor before it begins.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torch.distributed", "torchdata.stateful_dataloader", "fdsl.feed"])
    return context


def train(processes: Any, folder: Path, world_size: int, session: int, kill: random.Random | None, *arguments: Any):
    """Runs the ranks of one session until they end, or until one and then all are killed by SIGKILL; tells which."""
    steps = folder / "steps"
    steps.write_text("")
    ranks = [
        processes.Process(
            target=training_rank.start, args=(rank, world_size, str(folder / f"store{session}"), folder, *arguments)
        )
        for rank in range(world_size)
    ]
    for rank in ranks:
        rank.start()
    deadline, wanted = time.monotonic() + TIMEOUT, kill.randint(1, 16) if kill else 0
    try:
        while any(rank.is_alive() for rank in ranks):
            assert time.monotonic() < deadline, (folder / "log").read_text()
            if kill and steps.stat().st_size >= wanted:
                time.sleep(kill.uniform(0, 0.01))
                kill.choice(ranks).kill()
                time.sleep(kill.uniform(0, 0.01))
                break
            time.sleep(0.001)
    finally:
        for rank in ranks:
            rank.kill()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(rank.pid, signal.SIGKILL)
        for rank in ranks:
            rank.join()
    codes = {rank.exitcode for rank in ranks}
    # 1 is a rank whose peer was killed under it.
    assert codes <= ({0, 1, -signal.SIGKILL} if kill else {0}), (folder / "log").read_text()
    return -signal.SIGKILL in codes


def keyed_order(size: int, repeats: int, epoch: int) -> list[list[int]]:
    order = EpochOrder(size, SHUFFLE_SEED).at(range(size), epoch).tolist()
    return [[epoch, repeat, index] for index in order for repeat in range(repeats)]


def killed_and_resumed(processes: Any, folder: Path, seed: int, sizes: tuple[int, ...], *arguments: Any) -> list[Any]:
    """Trains to the end through kills and changes of the world size: (world size, samples) of each global batch."""
    plan, kills, session = random.Random(seed), 0, 0
    used: set[int] = set()
    ended = False
    while not ended:
        # Each size once before any comes again.
        for world_size in plan.sample(sizes, len(sizes)):
            killed = train(processes, folder, world_size, session, plan, *arguments)
            session, kills = session + 1, kills + killed
            used.add(world_size)
            ended = not killed
            if ended:
                break
    assert kills >= len(sizes)
    assert used == set(sizes)
    return json.loads((folder / "checkpoint.json").read_text())["trained"]  # type: ignore[no-any-return]


@pytest.mark.slow
def test_each_sample_is_trained_on_once_through_kills_and_other_world_sizes(processes: Any, tmp_path: Path) -> None:
    size, repeats, epochs, batch_size = 401, 2, 3, 3
    arguments = (size, epochs, 3, None, {"batch_size": batch_size, "repeats": repeats})
    trained = killed_and_resumed(processes, tmp_path, 1, WORLD_SIZES, *arguments)
    for epoch in range(epochs):
        batches = [(world_size, keys) for world_size, keys in trained if keys[0][0] == epoch]
        keys = sum((keys for _, keys in batches), [])
        expected = keyed_order(size, repeats, epoch)
        assert Counter(map(tuple, keys)) == Counter(map(tuple, expected))
        assert keys == expected
        assert all(len(keys) == batch_size * world_size for world_size, keys in batches[:-1])
    assert len({world_size for world_size, keys in trained if keys[0][0] == 1}) > 1  # sizes changed in mid-epoch


@pytest.mark.slow
def test_global_batches_are_the_same_through_kills_and_other_world_sizes(processes: Any, tmp_path: Path) -> None:
    size, epochs = 997, 2
    arguments = (size, epochs, 2, None, {"global_batch_size": 20, "drop_last": True})
    trained = killed_and_resumed(processes, tmp_path, 2, WORLD_SIZES, *arguments)
    orders = [keyed_order(size, 1, epoch) for epoch in range(epochs)]
    assert [keys for _, keys in trained] == [order[at : at + 20] for order in orders for at in range(0, 980, 20)]


@pytest.mark.slow
def test_workers_of_a_stateful_loader_resume_through_kills(processes: Any, tmp_path: Path) -> None:
    pytest.importorskip("torchdata")
    arguments = (150, 2, 2, 1, {"batch_size": 3})
    trained = killed_and_resumed(processes, tmp_path, 3, (1, 2, 3), *arguments)
    expected = [key for epoch in range(2) for key in keyed_order(150, 1, epoch)]
    assert sum((keys for _, keys in trained), []) == expected


@pytest.mark.slow
def test_torchrun_restarts_workers_that_were_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    # Else torch 2.15 gives the new ranks the store of the old ones, whose addresses gloo still finds there.
    environment = os.environ | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "OMP_NUM_THREADS": "1"}
    script = str(Path(training_rank.__file__))
    result = subprocess.run([*command, script, str(tmp_path)], capture_output=True, timeout=120, env=environment)
    assert result.returncode == 0, result.stderr.decode()
    assert b"exitcode: -9" in result.stderr
    trained = json.loads((tmp_path / "checkpoint.json").read_text())["trained"]
    assert sum((keys for _, keys in trained), []) == [key for epoch in range(2) for key in keyed_order(100, 1, epoch)]
