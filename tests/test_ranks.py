from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fdsl.ranks import Rank, this_rank

SHOW = """
import dataclasses, json, os, pathlib, sys
from fdsl.ranks import this_rank
pathlib.Path(sys.argv[1], str(os.getpid())).write_text(json.dumps(dataclasses.asdict(this_rank())))
"""
LAUNCHERS = {
    "Open MPI": ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "3"],
    "PMI": ["mpiexec.hydra", "-n", "3"],
    "torchrun": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=3", "--no-python"],
}
# What srun gives the third of five tasks on two nodes, three and two.
SRUN = {
    "SLURM_PROCID": "3",
    "SLURM_STEP_NUM_TASKS": "5",
    "SLURM_NODEID": "1",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_TASKS_PER_NODE": "3,2",
}
PMI = {"PMI_RANK": "5", "PMI_SIZE": "8"}
# The second process on the second node of two.
TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "GROUP_RANK": "1", "GROUP_WORLD_SIZE": "2"}
TORCHRUN |= {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_each_process_of_a_launcher_finds_its_rank(launcher: str, tmp_path: Path) -> None:
    command = LAUNCHERS[launcher]
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]}: the ranks that it gives not run")
    if launcher == "torchrun":
        pytest.importorskip("torch")
    # As within a step of Slurm, whose variables are those of what started the launcher.
    environment = os.environ | SRUN
    result = subprocess.run(
        [*command, sys.executable, "-c", SHOW, str(tmp_path)], capture_output=True, env=environment, timeout=120
    )
    assert result.returncode == 0, result.stderr.decode()
    ranks = [Rank(**json.loads(file.read_text())) for file in tmp_path.iterdir()]
    assert sorted(ranks, key=lambda rank: rank.rank) == [Rank(rank, 3, launcher, 0, 1, rank, 3) for rank in range(3)]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (SRUN, Rank(3, 5, "Slurm", 1, 2, 0, 2)),
        (SRUN | {"SLURM_STEP_TASKS_PER_NODE": "4(x2)"}, Rank(3, 5, "Slurm", 1, 2, 0, 4)),
        # A batch script or an salloc shell, outside any step.
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_LOCALID": "0"}, Rank(0, 1, "", 0, 1, 0, 1)),
        ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}, Rank(1, 2, "Slurm")),
        # mpirun in a batch job: srun started a daemon on each of two nodes.
        (SRUN | {"OMPI_COMM_WORLD_RANK": "9", "OMPI_COMM_WORLD_SIZE": "16"}, Rank(9, 16, "Open MPI")),
        # srun --mpi=pmi2: both tell of the same rank, and Slurm knows where it is.
        (SRUN | {"PMI_RANK": "3", "PMI_SIZE": "5"}, Rank(3, 5, "PMI", 1, 2, 0, 2)),
        (PMI | {"PMI_LOCAL_RANK": "1", "PMI_LOCAL_SIZE": "4"}, Rank(5, 8, "PMI", 1, 2, 1, 4)),
        # Ranks dealt out to the nodes in turn: nothing numbers the node.
        (PMI | {"MPI_LOCALRANKID": "2", "MPI_LOCALNRANKS": "4"}, Rank(5, 8, "PMI", None, None, 2, 4)),
        (TORCHRUN, Rank(3, 4, "torchrun", 1, 2, 1, 2)),
        # Lightning's own launcher numbers no ranks; torch.distributed will.
        ({"WORLD_SIZE": "4", "NODE_RANK": "0", "LOCAL_RANK": "1"}, Rank(0, 1, "", 0, 1, 0, 1)),
        ({}, Rank(0, 1, "", 0, 1, 0, 1)),
    ],
)
def test_what_launchers_set(environment: dict[str, str], expected: Rank) -> None:
    assert this_rank(environment) == expected


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANK": "0"}, "WORLD_SIZE is None in the environment; expected the whole number that torchrun gives"),
        ({"WORLD_SIZE": "2"}, "RANK is None"),
        ({"PMI_RANK": "-1", "PMI_SIZE": "2"}, "PMI_RANK is '-1'"),
        ({"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "2"}, "expected a number under the count"),
        ({"SLURM_STEP_NUM_TASKS": "2"}, "SLURM_PROCID is None"),
    ],
)
def test_what_is_wrong_is_named(environment: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        this_rank(environment)
