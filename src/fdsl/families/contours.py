"""RCDB and VisualAtom: radial contours (kernels/shared/contours.h has the recurrence).

A category is a number of vertices and of lines, and how strongly noise moves the vertices before each line; an instance
draws the noise, the centre and the greys of the lines (rcdb: the ellipse that they start on, too). Distributions are
those of the published code: make_rcdb.py of Kataoka et al., Replacing Labeled Real-Image Datasets with Auto-Generated
Contours, CVPR 2022; make_VisualAtom.sh of Takashima et al., Visual Atoms: Pre-training Vision Transformers with
Sinusoidal Waves, CVPR 2023.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fdsl import _core, keyed
from fdsl.families.independent import Column, Tabular
from fdsl.families.protocol import Settings
from fdsl.keyed import Purpose
from fdsl.primitives import Contours, Instances
from fdsl.rendering import HUES, RenderSpec

if TYPE_CHECKING:
    from fdsl.catalogs import Catalog

# Units of the formula's plane, which a picture of 512 pixels shows one to one.
PLANE = 512
# Lines across a picture whose contours are to be broken, as the paper has it.
BROKEN_CONTOURS = 1000
_MEAN_VERTICES = 100.0
# What the settings' ranges may span, so that no picture takes minutes.
_LIMITS = {
    "vertices": (3, _core.MAX_VERTICES),
    "lines": (1, _core.MAX_LINES),
    "frequencies": (0, 1000),
    "radius": (0, 1000),
    "perlin": (0.0, 100.0),
    "line_width": (0.0, 100.0),
    "oval": (0.0, 100.0),
}
_WHOLE = ("vertices", "lines", "frequencies", "radius")


class _Contours(Tabular):
    """What both families say alike."""

    settings: Settings
    _ground: int
    _grays: int  # that a line is drawn from; what is over 255 is 255
    _shift: int  # of the centre, from the middle of the plane, in half units: at most this, in each axis

    def check_settings(self, settings: Settings) -> None:
        """Raises a ValueError where a range is not one, or leads beyond what can be drawn."""
        for name, value in settings.items():
            (low, high), whole = _LIMITS[name], name in _WHOLE
            kinds: tuple[type, ...] = (int, np.integer) if whole else (int, float, np.integer, np.floating)
            good = isinstance(value, (tuple, list)) and len(value) == 2
            good = good and all(isinstance(end, kinds) and not isinstance(end, bool) for end in value)
            if not (good and low <= value[0] <= value[1] <= high):
                what = "whole numbers" if whole else "numbers"
                raise ValueError(f"{name} is {value!r}; expected a pair of {what}, {low} <= first <= last <= {high}")

    def complete(self, spec: RenderSpec) -> RenderSpec:
        """The spec in gray where it says None; points, draw, pad and fit mean nothing to contours."""
        return self._completed(spec, {})

    def _completed(self, spec: RenderSpec, options: dict[str, tuple[object, ...]]) -> RenderSpec:
        return spec.completed(self.name, options, colors=("gray", "color"), color="gray")

    def palette(self, spec: RenderSpec) -> NDArray[np.uint8]:
        """The ground and then the other greys, round from 255 to 0; or the ground and 128 hues."""
        if spec.color == "color":
            palette = spec.palette.copy()
            palette[0] = self._ground
        else:
            greys = (self._ground + np.arange(256)).astype(np.uint8)  # modulo 256
            palette = greys[:, None].repeat(spec.image_channels, axis=1)
        palette.flags.writeable = False
        return palette

    def _records(self, catalog: Catalog, instances: Instances, spec: RenderSpec) -> NDArray[np.void]:
        """All but the ellipse."""
        params, categories = catalog.params, instances.categories
        records = instances.records(Contours.RECORD)
        records["vertices"], records["lines"] = params["vertices"][categories], params["lines"][categories]
        records["gain"] = params["perlin"][categories]
        records["shift"] = -params["perlin"][categories] - params["line_width"][categories]
        words = self._words(instances, 0)
        records["centre"] = (PLANE + _whole(words[:, :2], -self._shift, self._shift)) / 2
        shades = (HUES, 1) if spec.color == "color" else (self._grays, -self._ground % 256)
        records["shades"], records["first_shade"] = shades
        return records

    def _words(self, instances: Instances, block: int) -> NDArray[np.uint32]:
        """Four words (N, 4) of an instance's own."""
        keys = (instances.categories, instances.numbers, instances.drawn_epochs, block)
        return keyed.words(instances.seed, Purpose.INSTANCE, *keys)


class RCDB(_Contours):
    """The family `rcdb`: greys on white.

    Settings of a search, each a pair of the least and the largest:
        vertices: of a contour, whole numbers.
        lines: of a picture, whole numbers.
        perlin: how strongly noise moves the vertices before each line, in units of the plane.
        line_width: how far each line lies from the last one besides.
    """

    name = "rcdb"
    settings: Settings = MappingProxyType(
        {"vertices": (3, 200), "lines": (1, 200), "perlin": (0.0, 4.0), "line_width": (0.0, 0.1)}
    )
    columns = MappingProxyType(
        {
            "vertices": Column("int32", (), *_LIMITS["vertices"]),
            "lines": Column("int32", (), *_LIMITS["lines"]),
            "perlin": Column("float64", (), *_LIMITS["perlin"]),
            "line_width": Column("float64", (), *_LIMITS["line_width"]),
        }
    )
    _ground = 255
    _grays = 257
    _shift = 400

    def complete(self, spec: RenderSpec) -> RenderSpec:
        """The spec in gray where it says None.

        The option broken_contours, a number of lines or True for 1,000, draws so many lines in the ground's colour
        across the finished picture of 512 pixels, and in proportion to the side across others: a line is one pixel wide
        at every size, so that as many as published would leave next to nothing of a small picture.
        """
        if "broken_contours" not in spec.options:
            return self._completed(spec, {"broken_contours": ()})
        breaks = spec.options["broken_contours"]
        most = _core.MAX_BREAKS * PLANE // max(PLANE, spec.whole)
        if not isinstance(breaks, (int, np.integer)) or not 0 <= breaks <= most:
            expected = f"True, or a number of lines from 0 to {most}"
            raise ValueError(f"option broken_contours is {breaks!r}; expected {expected}")
        count = BROKEN_CONTOURS if breaks is True else int(breaks)
        # One way to say it, so that equal pictures have equal digests.
        options = {name: value for name, value in spec.options.items() if name != "broken_contours"}
        spec = replace(spec, options=options | ({"broken_contours": count} if count else {}))
        return self._completed(spec, {"broken_contours": (count,)})

    def sample(self, seed: int, candidates: NDArray[np.int64], settings: Settings) -> dict[str, NDArray[Any]]:
        """Parameters of numbered candidates; each is a pure function of (seed, its number, settings).

        The settings are ranges. vertices: the whole part of an exponentially distributed number with the mean 100,
        drawn until it is in the range; lines: any whole number of the range; perlin and line_width: uniform.

        Returns:
            vertices, lines int32 (N,), perlin, line_width float64 (N,).
        """
        words = keyed.words(seed, Purpose.CANDIDATE, candidates)
        low, high = settings["vertices"]
        # The inverse of the distribution between low and high + 1 draws but once.
        most, least = _core.exponential(-low / _MEAN_VERTICES), _core.exponential(-(high + 1) / _MEAN_VERTICES)
        tails = most - (most - least) * keyed.unit(words[:, 0])
        vertices = np.array([-_MEAN_VERTICES * _core.logarithm(tail) for tail in tails.tolist()])
        return {
            "vertices": np.clip(vertices, low, high).astype(np.int32),
            "lines": _whole(words[:, 1], *settings["lines"]).astype(np.int32),
            "perlin": _real(words[:, 2], *settings["perlin"]),
            "line_width": _real(words[:, 3], *settings["line_width"]),
        }

    def drawing(self, catalog: Catalog, instances: Instances, spec: RenderSpec) -> Contours:
        """Contours of numbered instances.

        Each draws its noise and greys, its centre (512 + k) / 2 with k from -400 to 400 in each axis, a radius from 0
        to 100, and U(1, 2) times that for either axis of the ellipse.
        """
        records = self._records(catalog, instances, spec)
        records["gain"] *= 2
        words = self._words(instances, 1)
        records["axis"] = _whole(words[:, :1], 0, 100) * _real(words[:, 1:3], 1.0, 2.0)
        records["breaks"] = -(-spec.options.get("broken_contours", 0) * spec.whole // PLANE)  # rounded up
        return Contours(records)


class VisualAtom(_Contours):
    """The family `visualatom`: greys on black, and two waves round the contour.

    Settings of a search, each a pair of the least and the largest: those of rcdb, and
        frequencies: of the two waves, whole numbers.
        radius: of the contour, whole numbers, in units of the plane.
        oval: what either axis of the ellipse is, in radii.
    """

    name = "visualatom"
    settings: Settings = MappingProxyType(
        {
            "vertices": (200, 1000),
            "lines": (1, 200),
            "frequencies": (0, 20),
            "perlin": (0.0, 4.0),
            "line_width": (0.0, 0.1),
            "radius": (10, 60),
            "oval": (1.0, 2.0),
        }
    )
    columns = MappingProxyType(
        {
            **RCDB.columns,
            "frequencies": Column("int32", (2,), *_LIMITS["frequencies"]),
            "radius": Column("float64", (), *_LIMITS["radius"]),
            "oval": Column("float64", (2,), *_LIMITS["oval"]),
        }
    )
    _ground = 0
    _grays = 256
    _shift = 512

    def check_settings(self, settings: Settings) -> None:
        """Raises a ValueError where a range is not one, or leads beyond what can be drawn."""
        super().check_settings(settings)
        low, high = settings["frequencies"]
        if low == high != 0:
            raise ValueError(f"frequencies is {settings['frequencies']!r}; expected two that differ, or (0, 0)")

    def sample(self, seed: int, candidates: NDArray[np.int64], settings: Settings) -> dict[str, NDArray[Any]]:
        """Parameters of numbered candidates; each is a pure function of (seed, its number, settings).

        The settings are ranges, of which vertices, lines, frequencies and radius are any whole number, the others
        uniform. The second frequency is any but the first, or any at all where the first is 0.

        Returns:
            vertices, lines int32 (N,), frequencies int32 (N, 2), perlin, line_width, radius float64 (N,), oval float64
            (N, 2).
        """
        words = keyed.words(seed, Purpose.CANDIDATE, candidates[:, None], np.arange(3)).reshape(-1, 12)
        low, high = settings["frequencies"]
        first = _whole(words[:, 4], low, high)
        other = _whole(words[:, 5], low, max(low, high - 1))
        second = np.where(first == 0, _whole(words[:, 5], low, high), other + (other >= first))
        return {
            "vertices": _whole(words[:, 0], *settings["vertices"]).astype(np.int32),
            "lines": _whole(words[:, 1], *settings["lines"]).astype(np.int32),
            "perlin": _real(words[:, 2], *settings["perlin"]),
            "line_width": _real(words[:, 3], *settings["line_width"]),
            "frequencies": np.stack([first, second], 1).astype(np.int32),
            "radius": _whole(words[:, 6], *settings["radius"]).astype(np.float64),
            "oval": _real(words[:, 7:9], *settings["oval"]),
        }

    def drawing(self, catalog: Catalog, instances: Instances, spec: RenderSpec) -> Contours:
        """Contours of numbered instances.

        Each draws its noise and greys, and its centre (512 + k) / 2 with k from -512 to 512 in each axis.
        """
        records = self._records(catalog, instances, spec)
        params, categories = catalog.params, instances.categories
        records["axis"] = params["radius"][categories, None] * params["oval"][categories]
        records["frequency"] = params["frequencies"][categories]
        return Contours(records)


def _whole(words: NDArray[np.uint32], low: int, high: int) -> NDArray[np.int64]:
    """Any whole number from low to high, both included."""
    return low + (words.astype(np.uint64) * np.uint64(high - low + 1) >> np.uint64(32)).astype(np.int64)


def _real(words: NDArray[np.uint32], low: float, high: float) -> NDArray[np.float64]:
    return low + (high - low) * keyed.unit(words)
