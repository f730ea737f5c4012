"""Shards written by the workers of a Ray cluster, or of one that is started here and ends with its work."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import urlsplit

import fdsl
from fdsl.catalogs import Catalog
from fdsl.engines.cpu import default_threads

Result = TypeVar("Result")

# How often a task is started again after the machine or the process under it died; its own errors end the work.
_RETRIES = 10
# Tasks that wait for a processor, so that none waits for a task; and so that 30,000 shards take no memory here.
_QUEUED_PER_CPU, _LEAST_QUEUED = 2, 8
_ANSWER_S = 10


def write_on_ray(write: Callable[[int], Result], numbers: Sequence[int], address: str | None) -> Iterator[Result]:
    """Calls `write` for every number on a Ray cluster, and yields its results as they come.

    Each call is a task of one processor. What dies with a worker or a machine is done again elsewhere. A Ray that is
    initialised already is used and left as it is; otherwise this one ends with the iterator.

    Args:
        write: what it holds is stored on the cluster once; a catalog's arrays travel, wherever its file is. Every
            machine has this version of fdsl, and the folder that is written to.
        numbers: of shards.
        address: of a running cluster, HOST:PORT of its head or "auto" for the one on this machine; None starts a local
            one with the processors of this process.

    Raises:
        ImportError: Ray is not installed.
        ConnectionError: nothing answers at that address.
        RuntimeError: a task's worker died again and again, or a machine has another version of fdsl.
        Exception: what `write` raised.

    >>> list(write_on_ray(abs, [-1, -2], address=None))
    [1, 2]
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError("export on Ray needs ray, which is not installed; pip install 'fdsl[ray]'") from error
    ours = not ray.is_initialized()
    running: dict[Any, int] = {}
    try:
        if ours:
            _connect(ray, address)
        task = ray.remote(num_cpus=1, max_retries=_RETRIES)(_write)
        # A reference within something else reaches the task as it is, and each process opens what it refers to once.
        held = [_stored(ray, write), fdsl.__version__, sys.path]
        waiting = iter(numbers)
        while True:
            processors = int(ray.cluster_resources().get("CPU", 0))
            free = max(_LEAST_QUEUED, _QUEUED_PER_CPU * processors) - len(running)
            running |= {task.remote(held, number): number for number in islice(waiting, free)}
            if not running:
                return
            done = ray.wait(list(running))[0][0]
            number = running.pop(done)
            try:
                result = ray.get(done)
            except ray.exceptions.RayError as error:
                cause = getattr(error, "cause", error)
                if not isinstance(cause, ray.exceptions.RayError):
                    raise cause from None
                what = f"{type(cause).__name__}: {str(cause).splitlines()[0]}"
                raise RuntimeError(f"shard {number} could not be written on Ray; {what}") from None
            yield result
    finally:
        if ours:
            ray.shutdown()
        else:
            for reference in running:
                ray.cancel(reference)


def _connect(ray: Any, address: str | None) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        ray.init("local", num_cpus=default_threads(), include_dashboard=False, **quiet)
        return
    if address != "auto":
        # Ray itself would try for minutes, and then end the process.
        where = urlsplit(address if "://" in address else f"//{address}")
        try:
            socket.create_connection((where.hostname, where.port or 0), _ANSWER_S).close()
        except (OSError, ValueError) as error:
            expected = "the address of a running cluster, such as 10.0.0.1:6379"
            raise ConnectionError(f"ray is {address!r}, where nothing answers ({error}); expected {expected}") from None
    try:
        ray.init(address, **quiet)
    except ray.exceptions.RayError as error:
        raise ConnectionError(f"ray is {address!r}: {error}") from None


def _stored(ray: Any, write: Callable[[int], Any]) -> Any:
    """A reference to `write`, whose catalogs' arrays are the object store's own memory for all workers of a machine."""
    ray.util.register_serializer(Catalog, serializer=_by_value, deserializer=_made)
    try:
        return ray.put(write)
    finally:
        ray.util.deregister_serializer(Catalog)


def _by_value(catalog: Catalog) -> Any:
    # Else it would pickle as the path of its file, which another machine may not have.
    return replace(catalog, path=None).__reduce__()


def _made(reduced: tuple[Callable[..., Catalog], tuple[Any, ...]]) -> Catalog:
    make, content = reduced
    return make(*content)


def _write(held: list[Any], number: int) -> Any:
    """The task."""
    reference, version, path = held
    if fdsl.__version__ != version:
        raise RuntimeError(f"{socket.gethostname()} has fdsl {fdsl.__version__}; expected {version}, as where it began")
    # A user's formula is found here as it was there.
    sys.path.extend(folder for folder in path if folder not in sys.path)
    return _opened(reference)(number)


@lru_cache(maxsize=1)
def _opened(reference: Any) -> Any:
    import ray

    return ray.get(reference)
