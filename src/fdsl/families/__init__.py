"""Families: what a category is, how one is sampled, and how an instance varies it. They draw nothing.

A family is one file here with the methods of `protocol.Family`, and an entry in `_BUILT_IN`. A user's own is registered
by `fdsl.family`, or by an entry point of the group fdsl.families, which is looked for when a name is not known.
"""

from __future__ import annotations

import importlib.metadata

from fdsl.families.bezier import Bezier
from fdsl.families.contours import RCDB, VisualAtom
from fdsl.families.exfractaldb import ExFractalDB
from fdsl.families.fractaldb import FractalDB
from fdsl.families.pcfractaldb import PCFractalDB
from fdsl.families.perlin import Perlin
from fdsl.families.protocol import Family

ENTRY_POINTS = "fdsl.families"

_BUILT_IN: tuple[Family, ...] = (FractalDB(), ExFractalDB(), PCFractalDB(), RCDB(), VisualAtom(), Bezier(), Perlin())
_FAMILIES: dict[str, Family] = {family.name: family for family in _BUILT_IN}


def family_names() -> list[str]:
    """The names of all families that are there without a look for entry points."""
    return list(_FAMILIES)


def has_family(name: str) -> bool:
    """Whether there is a family of that name; loads its entry point where it has one.

    Raises:
        ValueError: the entry point cannot be loaded.
    """
    if name not in _FAMILIES:
        for entry in importlib.metadata.entry_points(group=ENTRY_POINTS, name=name):
            plug_in = f"entry point {name} = {entry.value}{f' of {entry.dist.name}' if entry.dist else ''}"
            try:
                entry.load()
            except Exception as error:
                text = " ".join(f"{type(error).__name__}: {error}".split())
                raise ValueError(f"{plug_in} cannot be loaded ({text}); expected a class or a module") from error
            if name not in _FAMILIES:
                raise ValueError(f"{plug_in} registers no family {name!r}; expected @fdsl.family({name!r}) there")
    return name in _FAMILIES


def family_named(name: str) -> Family:
    """The family of that name.

    Raises:
        ValueError: there is none; the message lists those there are. Or its entry point cannot be loaded.
    """
    if not has_family(name):
        raise ValueError(
            f"family {name!r} does not exist; expected one of: {', '.join(family_names())}; or one of your own: import "
            f"the module that has @fdsl.family({name!r}), or install the package whose entry point in "
            f"{ENTRY_POINTS!r} has that name (on the command line: --formula FILE)"
        )
    return _FAMILIES[name]


def register(family: Family) -> None:
    """Adds a family of the user's; the same class again, as a notebook's cell defines it, takes the old one's place.

    Raises:
        ValueError: the name is another's.
    """
    taken = _FAMILIES.get(family.name)
    if taken is not None and _origin(taken) != _origin(family):
        raise ValueError(f"family {family.name!r} is {_origin(taken)} already; expected another name")
    _FAMILIES[family.name] = family


def _origin(family: Family) -> str:
    formula = getattr(family, "formula", type(family))
    return f"{formula.__module__}.{formula.__qualname__}"
