"""Which process of a job this one is: from torch.distributed, or from what its launcher put into the environment."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass

# The innermost launcher first: mpirun starts its daemons by srun, whose variables then count nodes and not ranks; and
# torchrun runs under any of them. Slurm's are those of a step: a batch script has SLURM_PROCID=0, but is no rank.
_LAUNCHERS = {
    "torchrun": ("RANK", "WORLD_SIZE"),
    "Open MPI": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    "PMI": ("PMI_RANK", "PMI_SIZE"),
    "Slurm": ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
}
# A rank's number on its node and how many ranks are there. OMPI_COMM_WORLD_NODE_RANK is no node's number: it is the
# local rank over all jobs. PMI's are MPICH's and Intel's, then Cray's.
_LOCAL = {
    "torchrun": [("LOCAL_RANK", "LOCAL_WORLD_SIZE")],
    "Open MPI": [("OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE")],
    "PMI": [("MPI_LOCALRANKID", "MPI_LOCALNRANKS"), ("PMI_LOCAL_RANK", "PMI_LOCAL_SIZE")],
}
_NODES = {"torchrun": ("GROUP_RANK", "GROUP_WORLD_SIZE"), "Slurm": ("SLURM_NODEID", "SLURM_STEP_NUM_NODES")}


@dataclass(frozen=True)
class Rank:
    """One process of a job, and where it runs.

    Args:
        rank: its number, from 0.
        world_size: how many there are.
        launcher: what says so: "torch.distributed", "torchrun", "Open MPI", "PMI", "Slurm", or "" for a process alone.
        node: the number of its node; None where nothing says it.
        nodes: how many nodes there are; None where nothing says it.
        local_rank: its number among the ranks of its node; None where nothing says it.
        local_size: how many ranks its node has; None where nothing says it.
    """

    rank: int = 0
    world_size: int = 1
    launcher: str = ""
    node: int | None = None
    nodes: int | None = None
    local_rank: int | None = None
    local_size: int | None = None


def this_rank(environment: Mapping[str, str] = os.environ) -> Rank:
    """The rank of this process: torch.distributed's where it is initialised, else its launcher's, else 0 of 1.

    The node comes from the launcher's variables in either case, if they tell of the same rank. MPI's launchers number
    no nodes: there it is the rank divided by the ranks of a node, as they place ranks unless told otherwise, and None
    where the local rank shows that they were told otherwise.

    Raises:
        ValueError: a launcher's variable is not a number, or one of two is missing.

    >>> this_rank({"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "8"})
    Rank(rank=2, world_size=8, launcher='Open MPI', node=None, nodes=None, local_rank=None, local_size=None)
    """
    launched = [
        (name, *pair) for name, names in _LAUNCHERS.items() if (pair := _pair(environment, name, names)) is not None
    ]
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        launcher, rank, size = "torch.distributed", distributed.get_rank(), distributed.get_world_size()
    elif launched:
        launcher, rank, size = launched[0]
    else:
        launcher, rank, size = "", 0, 1
    if size == 1:
        return Rank(rank, size, launcher, 0, 1, 0, 1)
    for name, its_rank, its_size in launched:
        if (its_rank, its_size) == (rank, size):
            place = _place(environment, name, rank, size)
            if place != (None,) * 4:
                return Rank(rank, size, launcher, *place)
    return Rank(rank, size, launcher)


def _place(environment: Mapping[str, str], launcher: str, rank: int, size: int) -> tuple[int | None, ...]:
    """Node, nodes, local rank and local size, as far as this launcher tells them."""
    local_rank = local_size = node = nodes = None
    for names in _LOCAL.get(launcher, ()):
        if local_rank is None and (pair := _pair(environment, launcher, names)) is not None:
            local_rank, local_size = pair
    if launcher in _NODES and (pair := _pair(environment, launcher, _NODES[launcher])) is not None:
        node, nodes = pair
    if launcher == "Slurm" and node is not None and "SLURM_LOCALID" in environment:
        counts = _tasks_per_node(environment.get("SLURM_STEP_TASKS_PER_NODE", ""))
        local_rank = _number(environment, "SLURM_LOCALID", launcher)
        local_size = counts[node] if len(counts) == nodes else None
    if node is None and local_size is not None and size % local_size == 0 and rank % local_size == local_rank:
        node, nodes = rank // local_size, size // local_size
    return node, nodes, local_rank, local_size


def _tasks_per_node(text: str) -> list[int]:
    """Slurm's "4(x2),3" is 4, 4, 3."""
    parts = re.findall(r"(\d+)(?:\(x(\d+)\))?", text)
    return [int(count) for count, times in parts for _ in range(int(times or 1))]


def _pair(environment: Mapping[str, str], launcher: str, names: tuple[str, str]) -> tuple[int, int] | None:
    """A number and the count that bounds it; None where the launcher did not set them."""
    # Of Slurm's two the count is a step's; the number alone is in a batch script too. Lightning starts processes with a
    # WORLD_SIZE and a NODE_RANK but no RANK, which torch.distributed then knows.
    telling = names[1:] if launcher == "Slurm" else names[:1] if "NODE_RANK" in environment else names
    if not any(name in environment for name in telling):
        return None
    number, count = (_number(environment, name, launcher) for name in names)
    if not number < count:
        raise ValueError(f"{names[0]} is {number} and {names[1]} is {count}; expected a number under the count")
    return number, count


def _number(environment: Mapping[str, str], name: str, launcher: str) -> int:
    text = environment.get(name)
    if text is None or not text.isascii() or not text.isdigit():
        raise ValueError(f"{name} is {text!r} in the environment; expected the whole number that {launcher} gives")
    return int(text)
