"""Shards written by processes of this machine, as many at a time."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
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
    processes, pipes = [], []
    # A process inherits what its starter blocks.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        try:
            for _ in range(min(workers, len(numbers))):
                here, there = context.Pipe()
                process = context.Process(target=_work, args=(write, there), daemon=True)
                process.start()
                there.close()
                processes.append(process)
                pipes.append(here)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        yield from _results(pipes, iter(numbers), drew)
    except BaseException:
        for process in processes:
            process.terminate()
        raise
    finally:
        for pipe in pipes:
            pipe.close()
        for process in processes:
            process.join()


def _results(pipes: list[Connection], numbers: Iterator[int], drew: Callable[[int], object]) -> Iterator[Any]:
    """Keeps every process at work until no number is left."""
    busy = []
    for pipe, number in zip(pipes, numbers, strict=False):
        pipe.send(number)
        busy.append(pipe)
    while busy:
        for pipe in cast("list[Connection]", wait(busy)):
            try:
                message = pipe.recv()
            except (EOFError, ConnectionError):
                raise RuntimeError(
                    "a worker process was killed (is memory short?); complete shards stay, and the same command goes on"
                ) from None
            if isinstance(message, int):
                drew(message)
            elif isinstance(message, BaseException):
                raise message
            else:
                busy.remove(pipe)
                for number in numbers:
                    pipe.send(number)
                    busy.append(pipe)
                    break
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
