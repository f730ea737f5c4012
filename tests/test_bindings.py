"""No number that a caller hands to a kernel leads out of an array: the bindings say so instead."""

from __future__ import annotations

from typing import Any

import numpy as np
import pictures
import pytest

from fdsl import _core
from fdsl.engines import cpu
from fdsl.primitives import Points, Polylines


def recorded(family: str, name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[Any]]:
    """The binding that draws a batch, and its arguments."""
    called: list[Any] = []
    for binding in [name for name in dir(_core) if name.startswith("draw_")]:
        drawn = getattr(_core, binding)
        monkeypatch.setattr(cpu._core, binding, lambda *arguments, drawn=drawn: called.append((drawn, [*arguments])))
    pictures.dataset(family, name).batch([0])
    monkeypatch.undo()
    return called[0]


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("fractaldb", "point"),
        ("exfractaldb", "point"),
        ("pcfractaldb", "point"),
        ("bezier", "gray"),
        ("perlin", "gray"),
    ],
)
def test_a_category_is_one_of_the_catalog(family: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    draw, arguments = recorded(family, name, monkeypatch)
    draw(*arguments)
    records = arguments[-5] = arguments[-5].copy()
    records[0, :4] = np.array([len(pictures.catalog(family))], np.uint32).view(np.uint8)
    with pytest.raises(ValueError, match="category"):
        draw(*arguments)


@pytest.mark.parametrize(
    ("field", "value"), [("size", 0), ("size", 4097), ("of", 4097), ("of", 99), ("pad", -1), ("points", -1)]
)
def test_a_spec_is_in_range(field: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    draw, arguments = recorded("fractaldb", "crop", monkeypatch)
    spec = arguments[-4].copy().view(cpu.SPEC)
    spec["size"] = 100
    spec[field] = value
    arguments[-4], arguments[-2] = (
        spec.view(np.uint8),
        np.zeros((1, 1, int(spec["size"][0]), int(spec["size"][0])), np.uint8),
    )
    with pytest.raises(ValueError, match=r"spec|out"):
        draw(*arguments)


@pytest.mark.parametrize(("family", "name"), [("rcdb", "gray"), ("fractaldb", "color"), ("exfractaldb", "density")])
def test_a_palette_has_all_that_a_pixel_can_hold(family: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    draw, arguments = recorded(family, name, monkeypatch)
    draw(*arguments)
    arguments[-3] = arguments[-3][:100].copy()
    with pytest.raises(ValueError, match="palette"):
        draw(*arguments)


@pytest.mark.parametrize(("field", "value"), [("first", -1), ("first", 1), ("points", 0), ("dimensions", 4)])
def test_points_are_among_those_given(field: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    draw, arguments = recorded("sparks", "point", monkeypatch)
    records = arguments[-5].copy().view(Points.RECORD)
    records[field] = value
    arguments[-5] = records.view(np.uint8)
    with pytest.raises(ValueError, match="points"):
        draw(*arguments)


@pytest.mark.parametrize(("field", "value"), [("first", -1), ("first", 1), ("lines", 0), ("lines", 2**62)])
def test_lines_are_among_those_given(field: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    draw, arguments = recorded("zigzags", "gray", monkeypatch)
    records = arguments[-5].copy().view(Polylines.RECORD)
    records[field] = value
    arguments[-5] = records.view(np.uint8)
    with pytest.raises(ValueError, match="lines"):
        draw(*arguments)


def test_a_line_has_its_vertices(monkeypatch: pytest.MonkeyPatch) -> None:
    draw, arguments = recorded("zigzags", "gray", monkeypatch)
    for ends in (arguments[2] + 1, arguments[2] - 1, arguments[2] * 0):
        with pytest.raises(ValueError, match=r"vertices|vertex"):
            draw(*arguments[:2], ends, *arguments[3:])


@pytest.mark.parametrize(("size", "position"), [(0, 0), (5, 5), (5, -1), (2**49, 0)])
def test_a_position_is_below_the_size_of_its_order(size: int, position: int) -> None:
    with pytest.raises(ValueError, match="size"):
        _core.epoch_order(0, 0, size, np.array([position]))


@pytest.mark.parametrize("kernel", _core.kernels())
@pytest.mark.parametrize("broken", [np.nan, -1.0, np.inf, 0.0, 1e300])
@pytest.mark.parametrize(
    ("family", "name"), [("fractaldb", "point"), ("exfractaldb", "color"), ("pcfractaldb", "point")]
)
def test_parameters_that_nobody_read_do_no_harm(
    family: str, name: str, broken: float, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw, arguments = recorded(family, name, monkeypatch)
    arguments[0] = kernel
    for place in (1, 2):
        changed = arguments[:]
        changed[place] = np.full_like(arguments[place], broken)
        changed[3] = np.full_like(arguments[3], 99)
        draw(*changed)
