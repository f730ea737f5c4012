"""RenderSpec: everything about a picture that is not its formula."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Raised when the bytes of any picture change; part of every dataset's digest.
RENDER_VERSION = 1
MAX_SIZE = 4096
MAX_POINTS = 2**24
GRAY, WHITE = 127, 255
HUES = 128
DENSITY_LEVELS = 256
COLORS = ("gray", "white", "color", "density")


def _check(good: object, name: str, value: object, expected: str) -> None:
    if not good:
        raise ValueError(f"{name} is {value!r}; expected {expected}")


def _is_whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(low <= value <= high)


def _is_range(value: object, low: float, high: float) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and all(isinstance(end, (int, float)) and not isinstance(end, bool) for end in value)
        and low < value[0] <= value[1] <= high
    )


@dataclass(frozen=True)
class Crop:
    """A window of fixed scale, placed at random in a larger picture: `Crop(of=362)` with size=224 is 224 out of 362.

    Pixel for pixel a part of the picture of that size; no resizing, no flip (as the FractalDB recipe has it).
    """

    of: int

    def __post_init__(self) -> None:
        _check(_is_whole(self.of, 1, MAX_SIZE), "Crop(of=)", self.of, f"a whole number of pixels from 1 to {MAX_SIZE}")


@dataclass(frozen=True)
class RandomView:
    """A random-resized-crop in the formula's plane: no interpolation, no blur, no second pass.

    Args:
        scale: smallest and largest share of the picture's area, as in torchvision's RandomResizedCrop.
        ratio: smallest and largest width / height, drawn by its logarithm.
        rotation: largest angle either way, in degrees.
        flip: chance of a left-right flip.

    >>> RandomView(scale=(0.08, 1.0), rotation=15)
    RandomView(scale=(0.08, 1.0), ratio=(0.75, 1.3333333333333333), rotation=15, flip=0.5)
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    rotation: float = 0.0
    flip: float = 0.5

    def __post_init__(self) -> None:
        _check(_is_range(self.scale, 0, 1), "RandomView(scale=)", self.scale, "a pair 0 < low <= high <= 1")
        _check(_is_range(self.ratio, 0, 1e3), "RandomView(ratio=)", self.ratio, "a pair 0 < low <= high <= 1000")
        _check(_is_share(self.rotation, 180), "RandomView(rotation=)", self.rotation, "degrees from 0 to 180")
        _check(_is_share(self.flip, 1), "RandomView(flip=)", self.flip, "a chance from 0 to 1")
        # Equal views have equal digests, however their numbers came.
        for name in ("scale", "ratio"):
            object.__setattr__(self, name, tuple(map(float, getattr(self, name))))
        for name in ("rotation", "flip"):
            object.__setattr__(self, name, float(getattr(self, name)))


def _is_share(value: object, high: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= high


@dataclass(frozen=True)
class RenderSpec:
    """How pictures are drawn.

    What is None is the family's own; a Dataset's spec has it filled in. fractaldb: 100,000 points, "patch", "gray",
    pad 6, fit "own"; exfractaldb: 10,000 points, "point", "white", fit "own". What a family does not have, it rejects
    by name.

    Args:
        size: pixels of a side, 1 to 4,096.
        points: points of a picture, 1 to 2^24.
        draw: "point" sets the hit pixels; "patch" gives each the 3x3 pattern of its instance; "patch_per_point" stamps
            a pattern of its own per point, whose zeros erase (as the published code).
        color: "gray" (127 on black; contours: one gray a line; perlin: all grays), "white" (255), "color" (hue by step;
            contours and bezier: by line; perlin: by value) or "density" (by the count of points).
        channels: 1 or 3; None is 3 for color and 1 for the others (`image_channels`). 3 repeats gray.
        pad: pixels left free on each side of the whole picture.
        fit: "own" scales to the picture's own bounding box (within its probe's); "stored" to the probe's, in half the
            time, and drops points outside. Other pixels, so part of the spec.
        view: None for the whole picture, or a `Crop` or `RandomView` of it.
        options: what only some families have; fractaldb, exfractaldb: {"instance_rule": "published"}; rcdb:
            {"broken_contours": 1000}, lines in the ground's colour across a picture of 512 pixels, and in proportion.

    Raises:
        ValueError: an argument is out of its range, or two contradict each other.

    >>> RenderSpec(size=224, color="color").image_channels
    3
    """

    size: int = 224
    points: int | None = None
    draw: str | None = None
    color: str | None = None
    channels: int | None = None
    pad: int | None = None
    fit: str | None = None
    view: Crop | RandomView | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(_is_whole(self.size, 1, MAX_SIZE), "size", self.size, f"a whole number of pixels from 1 to {MAX_SIZE}")
        if self.points is not None:
            good = _is_whole(self.points, 1, MAX_POINTS)
            _check(good, "points", self.points, f"a whole number from 1 to {MAX_POINTS}")
        for name, choices in (
            ("draw", ("point", "patch", "patch_per_point")),
            ("color", COLORS),
            ("fit", ("own", "stored")),
        ):
            value = getattr(self, name)
            _check(value is None or value in choices, name, value, f"one of {', '.join(choices)}")
        _check(self.channels in (None, 1, 3), "channels", self.channels, "1, 3 or None")
        if self.color == "color" and self.channels == 1:
            raise ValueError("channels is 1 but color is 'color'; expected 3 channels")
        if self.draw == "patch_per_point" and self.color == "density":
            raise ValueError("color is 'density' but draw 'patch_per_point' erases points; expected 'point' or 'patch'")
        if self.view is not None and not isinstance(self.view, (Crop, RandomView)):
            raise ValueError(f"view is {self.view!r}; expected None, fdsl.Crop(...) or fdsl.RandomView(...)")
        if isinstance(self.view, Crop) and self.view.of < self.size:
            raise ValueError(f"Crop(of={self.view.of}) is smaller than size {self.size}; expected at least the size")
        if self.pad is not None:
            _check(_is_whole(self.pad, 0, MAX_SIZE), "pad", self.pad, "a whole number of pixels from 0 up")
            if 2 * self.pad >= self.whole:
                message = f"pad {self.pad} leaves nothing of {self.whole} pixels; expected less than half of them"
                raise ValueError(message)
        if not isinstance(self.options, Mapping):
            raise ValueError(f"options is {self.options!r}; expected a dict")
        object.__setattr__(self, "options", MappingProxyType(dict(self.options)))

    def completed(
        self,
        family: str,
        options: Mapping[str, tuple[object, ...]],
        *,
        colors: tuple[str, ...] = COLORS,
        **own: object,
    ) -> RenderSpec:
        """The spec with a family's own values where it says None.

        Args:
            family: its name, for the messages.
            options: the options that it has, and what each can be.
            colors: those that it has.
            own: its values of points, draw, color, pad and fit; what is left out, it does not have.

        Raises:
            ValueError: the spec asks for what the family does not have.

        >>> RenderSpec(size=32).completed("rings", {}, points=500, draw="point", color="white").points
        500
        """
        for name in ("points", "draw", "color", "pad", "fit"):
            value = getattr(self, name)
            if value is not None and name not in own:
                raise ValueError(f"{name} is {value!r}, but {family} has no {name}; expected None")
        if self.color is not None and self.color not in colors:
            expected = f"expected one of {', '.join(colors)}"
            raise ValueError(f"color is {self.color!r}, but {family} has no {self.color}; {expected}")
        for name, value in self.options.items():
            if name not in options:
                expected = ", ".join(options) or "no options"
                raise ValueError(f"option {name!r} is not one of {family}'s; expected: {expected}")
            if value not in options[name]:
                raise ValueError(f"option {name} is {value!r}; expected {' or '.join(map(repr, options[name]))}")
        missing: dict[str, Any] = {name: value for name, value in own.items() if getattr(self, name) is None}
        return replace(self, **missing)

    @property
    def whole(self) -> int:
        """Pixels of the whole picture's side, of which a crop shows a part."""
        return self.view.of if isinstance(self.view, Crop) else self.size

    @property
    def image_channels(self) -> int:
        """Channels of an image: 1 or 3."""
        return self.channels or (3 if self.color == "color" else 1)

    def canonical(self) -> str:
        """The spec as one line of JSON: equal for equal specs, and what digests cover."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("view", "options")}
        fields["channels"] = self.image_channels
        fields["view"] = None if self.view is None else {"kind": type(self.view).__name__, **asdict(self.view)}
        return json.dumps(fields | {"options": dict(self.options)}, sort_keys=True, default=int)

    @cached_property
    def palette(self) -> NDArray[np.uint8]:
        """Pixel values of drawn points by what a pixel holds, uint8 (N, channels), read-only; row 0 is the background.

        Hues go round once in 128 steps at saturation and value 0.75, as the published code's `convert_color` (which
        stores them as BGR; these are RGB). Density rises by the logarithm, in straight pieces between powers of two, so
        that no library's logarithm decides a pixel.
        """
        if self.color == "color":
            values: list[tuple[int, ...]] = [(0, 0, 0), *(_hue(step) for step in range(HUES))]
        elif self.color in ("gray", "white"):
            values = [(0,), (GRAY if self.color == "gray" else WHITE,)]
        else:
            values = [(255 * _log2_in_256ths(count + 1) // (8 * 256),) for count in range(DENSITY_LEVELS)]
        rows = np.array(values, np.uint8)
        palette = np.ascontiguousarray(np.broadcast_to(rows, (len(rows), self.image_channels)))
        palette.flags.writeable = False
        return palette

    def __reduce__(self) -> tuple[Any, ...]:
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return RenderSpec, tuple((values | {"options": dict(self.options)}).values())

    def __hash__(self) -> int:
        return hash(self.canonical())


def _hue(step: int) -> tuple[int, int, int]:
    sector, part = divmod(6 * step, HUES)
    share = part / HUES
    top, low = int(0.75 * 255), int(0.75 * 0.25 * 255)
    falling, rising = int(0.75 * (1 - 0.75 * share) * 255), int(0.75 * (1 - 0.75 * (1 - share)) * 255)
    return (
        (top, rising, low),
        (falling, top, low),
        (low, top, rising),
        (low, falling, top),
        (rising, low, top),
        (top, low, falling),
    )[sector]


def _log2_in_256ths(number: int) -> int:
    # 256 times the logarithm to base two, straight between powers of two.
    exponent = number.bit_length() - 1
    return 256 * exponent + (256 * number >> exponent) - 256
