"""Families: what a category is, how one is sampled, and how an instance varies it. They draw nothing.

A family is one file here with the methods of `protocol.Family`, and an entry in `_FAMILIES`.
"""

from __future__ import annotations

from fdsl.families.exfractaldb import ExFractalDB
from fdsl.families.fractaldb import FractalDB
from fdsl.families.pcfractaldb import PCFractalDB
from fdsl.families.protocol import Family

_FAMILIES: dict[str, Family] = {"fractaldb": FractalDB(), "exfractaldb": ExFractalDB(), "pcfractaldb": PCFractalDB()}


def family_names() -> list[str]:
    """The names of all families."""
    return list(_FAMILIES)


def family_named(name: str) -> Family:
    """The family of that name.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    try:
        return _FAMILIES[name]
    except KeyError:
        raise ValueError(f"family {name!r} does not exist; expected one of: {', '.join(family_names())}") from None
