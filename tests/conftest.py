from __future__ import annotations

import signal
from pathlib import Path

import pytest

import fdsl

# What a script starts in the background ignores Ctrl-C, and so would all that these tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data that lies beside a checkout of the developers, and nowhere else."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("no ../shared beside this checkout: its reference data is not part of the repository")
    return folder


@pytest.fixture(scope="session")
def catalog() -> fdsl.Catalog:
    """Four searched categories."""
    return fdsl.search("fractaldb", categories=4, seed=3)


@pytest.fixture(scope="session")
def published_catalog(shared: Path) -> fdsl.Catalog:
    """The first 100 categories of the published FractalDB-1k."""
    return fdsl.Catalog.from_csv(shared / "published" / "fractaldb-1k-first100")
