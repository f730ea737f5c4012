"""The processes of a run: started here or by a launcher, in one group of torch.distributed."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import pickle
import signal
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

try:
    import torch
    from lightning.fabric.plugins import ClusterEnvironment
    from lightning.fabric.plugins.environments import SLURMEnvironment
    from torch import distributed
except ImportError as error:
    raise ImportError(f"training needs {error.name}, which is not installed; pip install 'fdsl[train]'") from error

from fdsl.ranks import Rank, this_rank

T = TypeVar("T")
# What tells one job from another on the same machines: the rank 0 of each listens on a port of its own.
_JOBS = ("SLURM_JOB_ID", "SLURM_STEP_ID", "PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid", "PMI_JOBID")
# The first rank of a node may have a catalog to search before the others come.
_PATIENCE = timedelta(hours=1)


def rank_of_run(devices: int, nodes: int) -> Rank:
    """The rank of this process, after a check that its launcher started as many as are asked for; 1 of 1 leaves it.

    Raises:
        ValueError: a number is out of its range, the launcher started others, or there is none for several nodes.

    >>> rank_of_run(devices=1, nodes=1).world_size
    1
    """
    for name, value in (("devices", devices), ("nodes", nodes)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}; expected a whole number of at least 1")
    rank = this_rank()
    if not rank.launcher and nodes > 1:
        raise ValueError(f"nodes is {nodes}, and no launcher started this process; expected torchrun, srun or mpirun")
    if rank.launcher and devices * nodes not in (1, rank.world_size):
        raise ValueError(
            f"devices is {devices} and nodes is {nodes}, and {rank.launcher} started {rank.world_size} processes; "
            "expected as many"
        )
    return rank


def on_each_device(function: Callable[[], T], devices: int) -> T:
    """Calls `function` in so many new processes, as ranks of one run on this machine; gives what it gives on rank 0.

    They are started anew (spawn), so what is called must pickle, and a script needs `if __name__ == "__main__":`. They
    end with this process, whatever ends it, and all end where one fails.

    Raises:
        Exception: what the first rank that failed raised.
        RuntimeError: one was killed.
        KeyboardInterrupt: Ctrl-C, or SIGTERM to one of them.
    """
    context = multiprocessing.get_context("spawn")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Here, as that of multiprocessing would leave the weights in memory that all ranks share.
    pickled = pickle.dumps(function)
    started: list[tuple[Any, Connection]] = []
    try:
        with _interrupts_ignored():
            for rank in range(devices):
                mine, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_rank, args=(theirs, pickled, rank, devices, port))
                process.start()
                theirs.close()
                started.append((process, mine))
        results: dict[int, Any] = {}
        failed: list[BaseException] = []
        while len(results) < devices:
            left = [pipe for rank, (_, pipe) in enumerate(started) if rank not in results]
            # Where one rank fails, the others may fail for want of it: what comes within a second is looked at too.
            ready = wait(left, 1.0 if failed else None)
            if not ready:
                break
            for rank, (process, pipe) in enumerate(started):
                if pipe in ready:
                    results[rank] = _result(rank, process, pipe)
                    if isinstance(results[rank], BaseException):
                        failed.append(results[rank])
        if failed:
            raise min(failed, key=lambda error: not isinstance(error, RankEnded))
        return results[0]  # type: ignore[no-any-return]
    finally:
        for process, _ in started:
            process.kill()
            process.join()


class RankEnded(RuntimeError):
    """A process ended without a word."""


def _result(rank: int, process: Any, pipe: Connection) -> Any:
    try:
        return pipe.recv()
    except EOFError:
        process.join()
        code = process.exitcode
        return RankEnded(f"rank {rank} {f'was killed by signal {-code}' if code < 0 else f'ended with code {code}'}")


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    # Processes started meanwhile ignore Ctrl-C for good: it is for the one that started them, which ends them.
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGINT, before)


def _rank(pipe: Connection, pickled: bytes, rank: int, devices: int, port: int) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ |= {  # as torchrun would
        "RANK": str(rank),
        "WORLD_SIZE": str(devices),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(devices),
        "GROUP_RANK": "0",
        "GROUP_WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    try:
        result = pickle.loads(pickled)()
    except SystemExit as end:
        result = end.__cause__ or end
    except (Exception, KeyboardInterrupt) as error:  # the latter by SIGTERM
        result = error
    try:
        pipe.send(result)
    except Exception:  # what does not pickle still says what it is
        pipe.send(RuntimeError(f"{type(result).__name__}: {result}"))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)


def join(rank: Rank, device: torch.device) -> None:
    """Makes this process one of the group in which ranks speak to each other, if it is not in it yet.

    Raises:
        ValueError: nothing says on which machine rank 0 is.
    """
    if rank.world_size == 1 or distributed.is_initialized():
        return
    os.environ.setdefault("MASTER_ADDR", first_host(rank))
    job = "".join(os.environ.get(name, "") for name in _JOBS)
    os.environ.setdefault("MASTER_PORT", str(20_000 + zlib.crc32(job.encode()) % 12_000))
    threads = max(1, (os.cpu_count() or 1) // (rank.local_size or 1))
    if "OMP_NUM_THREADS" not in os.environ:  # where it is missing, Lightning would take all processors for each rank
        torch.set_num_threads(min(threads, len(os.sched_getaffinity(0))))
        os.environ["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.set_device(device)
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo", rank=rank.rank, world_size=rank.world_size, timeout=_PATIENCE
    )
    atexit.register(_leave)


def _leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def first_host(rank: Rank) -> str:
    """The machine of rank 0.

    Raises:
        ValueError: nothing says it.

    >>> first_host(Rank(nodes=1))
    '127.0.0.1'
    """
    if "MASTER_ADDR" in os.environ:
        return os.environ["MASTER_ADDR"]
    if rank.nodes == 1:
        return "127.0.0.1"
    for name in ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"):
        if name in os.environ:
            return str(SLURMEnvironment.resolve_root_node_address(os.environ[name]))
    raise ValueError(
        f"MASTER_ADDR is not set, and {rank.launcher} does not say it; expected the host of rank 0, such as "
        "mpirun -x MASTER_ADDR=node1"
    )


def device_of(rank: Rank, device: torch.device, named: str) -> torch.device:
    """The device of a rank: each of a machine takes its own GPU.

    Args:
        rank: of this process.
        device: what `named` stands for, without other ranks.
        named: what was asked for.

    Raises:
        ValueError: one GPU is named for several ranks.
        RuntimeError: there are fewer GPUs than ranks.
    """
    if rank.world_size == 1 or device.type == "cpu":
        return device
    if ":" in named:
        raise ValueError(f"device is {named!r} for {rank.world_size} ranks; expected 'cuda', of which each takes one")
    visible = torch.cuda.device_count()  # one, where the launcher gives each rank its own
    if 1 < visible < (rank.local_size or 1):
        raise RuntimeError(f"torch sees {visible} CUDA GPUs for {rank.local_size} ranks; expected one for each")
    return torch.device("cuda", (rank.rank if rank.local_rank is None else rank.local_rank) % visible)


def together(rank: Rank, make: Callable[[], T]) -> T:
    """What `make` gives on this rank; the first rank of each node goes first, whose caches the others find.

    Raises:
        Exception: what the first rank that failed raised, on rank 0.
        SystemExit: the same on the others, which leave it to rank 0 to say it.
    """
    if rank.world_size == 1:
        return make()
    made: list[T] = []
    for turn in (True, False):
        error: Exception | None = None
        if (rank.local_rank == 0 or rank.rank == 0) == turn:
            try:
                made.append(make())
            except Exception as raised:
                error = raised
        for failed in gathered(rank, error):
            if failed is not None and rank.rank:
                raise SystemExit(1) from failed
            if failed is not None:
                raise failed
    return made[0]


def gathered(rank: Rank, value: T) -> list[T]:
    """The values of all ranks, in their order; they must pickle."""
    if rank.world_size == 1:
        return [value]
    values: list[Any] = [None] * rank.world_size
    distributed.all_gather_object(values, value)
    return values


def summed(rank: Rank, *values: float) -> list[float]:
    """The sum over all ranks of each value."""
    total = torch.tensor(values, dtype=torch.float64)
    if rank.world_size > 1:
        distributed.all_reduce(total)
    return total.tolist()  # type: ignore[no-any-return]


def of_first(rank: Rank, value: T) -> T:
    """The value of rank 0, on all ranks."""
    if rank.world_size == 1:
        return value
    values = [value]
    distributed.broadcast_object_list(values, 0)
    return values[0]


def share_buffers(rank: Rank, network: torch.nn.Module) -> None:
    """Gives a network's buffers (batch norm's running means) on all ranks the values of rank 0, whose are saved."""
    if rank.world_size > 1:
        for buffer in network.buffers():
            distributed.broadcast(buffer, 0)


class OneProcess(ClusterEnvironment):  # type: ignore[misc]
    """What Lightning asks about ranks: each process counts as a node with one device, wherever it runs.

    So whatever the launcher, ranks are those of `fdsl.ranks`, and nodes need not have equally many.
    """

    def __init__(self, rank: Rank) -> None:
        self._rank = rank

    creates_processes_externally = True
    # The group is there already.
    main_address, main_port = "", 0

    @staticmethod
    def detect() -> bool:
        """Never by itself."""
        return False

    def world_size(self) -> int:
        """Of the run."""
        return self._rank.world_size

    def global_rank(self) -> int:
        """Of the run."""
        return self._rank.rank

    def local_rank(self) -> int:
        """The only one of its node."""
        return 0

    def node_rank(self) -> int:
        """As if each rank had a node."""
        return self._rank.rank

    def set_world_size(self, size: int) -> None:
        """The launcher did."""

    def set_global_rank(self, rank: int) -> None:
        """The launcher did."""
