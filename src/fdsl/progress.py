"""How long work says how far it has come."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

# Called with what is being done, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]


def lines_on_stderr(every: float = 60.0) -> Progress:
    """Progress for where no terminal shows a bar, such as a batch job: a line now and then, none for short work.

    Args:
        every: seconds from one line to the next.

    >>> lines_on_stderr(every=0)("searching", 10, 100)  # on stderr: searching: 10 of 100
    """
    began: dict[str, tuple[float, int]] = {}
    said = time.monotonic()

    def report(what: str, done: int, total: int) -> None:
        nonlocal said
        now = time.monotonic()
        start, done_before = began.setdefault(what, (now, done))
        if now - said < every:
            return
        said, left = now, ""
        if done_before < done < total:
            minutes = (now - start) * (total - done) / (done - done_before) / 60
            left = f", about {minutes:,.0f} min left" if minutes >= 1.5 else ", about a minute left"
        print(f"{what}: {done:,} of {total:,}{left}", file=sys.stderr, flush=True)

    return report
