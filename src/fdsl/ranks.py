"""Which process of a job this one is: from torch.distributed, or from what its launcher put into the environment."""

from __future__ import annotations

import os
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


@dataclass(frozen=True)
class Rank:
    """One process of a job.

    Args:
        rank: its number, from 0.
        world_size: how many there are.
        launcher: what says so: "torch.distributed", "torchrun", "Open MPI", "PMI", "Slurm", or "" for a process alone.
    """

    rank: int = 0
    world_size: int = 1
    launcher: str = ""


def this_rank(environment: Mapping[str, str] = os.environ) -> Rank:
    """The rank of this process: torch.distributed's where it is initialised, else its launcher's, else 0 of 1.

    Raises:
        ValueError: a launcher's variable is not a number, or one of two is missing.

    >>> this_rank({"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "8"})
    Rank(rank=2, world_size=8, launcher='Open MPI')
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return Rank(distributed.get_rank(), distributed.get_world_size(), "torch.distributed")
    for launcher, (rank_name, size_name) in _LAUNCHERS.items():
        if launcher == "Slurm" and size_name not in environment:
            continue
        if rank_name in environment or size_name in environment:
            rank, size = (_number(environment, name, launcher) for name in (rank_name, size_name))
            if not rank < size:
                raise ValueError(f"{rank_name} is {rank} and {size_name} is {size}; expected a rank under the size")
            return Rank(rank, size, launcher)
    return Rank()


def _number(environment: Mapping[str, str], name: str, launcher: str) -> int:
    text = environment.get(name)
    if text is None or not text.isascii() or not text.isdigit():
        raise ValueError(f"{name} is {text!r} in the environment; expected the whole number that {launcher} gives")
    return int(text)
