"""Shards written by processes of this machine, as many at a time."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar, cast

Result = TypeVar("Result")
# Writes the shard of a number, and calls its second argument with the number of pictures that each batch added.
Write = Callable[[int, Callable[[int], object]], Result]


def write_in_processes(
    write: Write[Result], numbers: Sequence[int], workers: int, drew: Callable[[int], object]
) -> Iterator[Result]:
    """Calls `write` for every number in processes that are started anew, and yields its results as they come.

    The processes end with the iterator. They ignore Ctrl-C, which is for the process that started them, and end by
    themselves when that one is killed.

    Args:
        write: can be pickled, and so can its results, which are no numbers.
        numbers: of shards.
        workers: how many processes.
        drew: called here with what `write` reports.

    Raises:
        RuntimeError: a process was killed.
        Exception: what `write` raised.
    """
    context = multiprocessing.get_context("spawn")
    processes: dict[Connection, SpawnProcess] = {}
    # A process inherits what its starter blocks; starting this helper of theirs would unblock it.
    resource_tracker.ensure_running()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        try:
            for _ in range(min(workers, len(numbers))):
                here, there = context.Pipe()
                processes[here] = context.Process(target=_work, args=(write, there), daemon=True)
                processes[here].start()
                there.close()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        yield from _results(processes, iter(numbers), drew)
    except BaseException:
        for process in processes.values():
            process.terminate()
        raise
    finally:
        for pipe, process in processes.items():
            pipe.close()
            process.join()


def _results(
    processes: dict[Connection, SpawnProcess], numbers: Iterator[int], drew: Callable[[int], object]
) -> Iterator[Any]:
    """Keeps every process at work until no number is left."""
    busy = set(processes)
    for pipe, number in zip(processes, numbers, strict=False):
        pipe.send(number)
    while busy:
        for pipe in cast("list[Connection]", wait(busy)):
            try:
                message = pipe.recv()
            except (EOFError, ConnectionError):
                processes[pipe].join()
                code = processes[pipe].exitcode or 0
                why = f"was killed by signal {-code} (is memory short?)" if code < 0 else "ended by its error above"
                raise RuntimeError(
                    f"a worker process {why}; what is complete stays, and the same command goes on"
                ) from None
            if isinstance(message, int):
                drew(message)
            elif isinstance(message, Exception):
                raise message
            else:
                following = next(numbers, None)
                if following is None:
                    busy.remove(pipe)
                else:
                    pipe.send(following)
                yield message


def _work(write: Write[Any], pipe: Connection) -> None:
    try:
        while True:
            number = pipe.recv()
            try:
                result = write(number, pipe.send)
            except Exception as error:
                result = error
            pipe.send(result)
    except (EOFError, ConnectionError):  # the starter has ended, or is done
        pass
