"""Families: what a category is, how one is sampled, and how an instance varies it. They draw nothing.

A family is one file here, with an entry in `_FAMILIES`.
"""

from __future__ import annotations

from fdsl.families.fractaldb import FractalDB

_FAMILIES = {"fractaldb": FractalDB()}


def family_named(name: str) -> FractalDB:
    """The family of that name.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    try:
        return _FAMILIES[name]
    except KeyError:
        raise ValueError(f"family {name!r} does not exist; expected one of: {', '.join(_FAMILIES)}") from None
