"""PixelFormat: how pixels come to training, as bytes or as normalised floats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ELEMENT_BYTES = {"uint8": 1, "float16": 2, "bfloat16": 2, "float32": 4}


@dataclass(frozen=True)
class PixelFormat:
    """The type, the normalisation and the memory layout of a batch of pictures.

    Floats are (value / 255 - mean) / std, worked out in float64 and rounded once, from a table of what a pixel can
    hold: every engine gives the same bits.

    Args:
        dtype: "uint8", "float16", "bfloat16" or "float32".
        mean: of floats, one number or one for each channel; None is 0.
        std: likewise; None is 1.
        channels_last: in memory (pictures, rows, columns, channels); the shape stays.

    Raises:
        ValueError: an argument is out of its range, or mean or std is given for bytes.

    >>> PixelFormat("float16", mean=0.5, std=0.5).values(np.array([[0], [255]], np.uint8)).view(np.float16).tolist()
    [[-1.0], [1.0]]
    """

    dtype: str = "uint8"
    mean: float | Sequence[float] | None = None
    std: float | Sequence[float] | None = None
    channels_last: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in ELEMENT_BYTES:
            raise ValueError(f"dtype is {self.dtype!r}; expected {', '.join(ELEMENT_BYTES)}")
        for name in ("mean", "std"):
            given = getattr(self, name)
            if given is None:
                continue
            if self.dtype == "uint8":
                raise ValueError(f"{name} is {given!r} with dtype 'uint8'; expected a float dtype, or None")
            numbers = np.atleast_1d(np.asarray(given, np.float64))
            if numbers.shape not in ((1,), (3,)) or not np.isfinite(numbers).all():
                raise ValueError(f"{name} is {given!r}; expected one number, or one for each of three channels")
            if name == "std" and (numbers <= 0).any():
                raise ValueError(f"std is {given!r}; expected numbers over 0")
            object.__setattr__(self, name, tuple(numbers.tolist()))

    @property
    def element_bytes(self) -> int:
        """Bytes of a pixel's channel."""
        return ELEMENT_BYTES[self.dtype]

    def values(self, palette: NDArray[np.uint8]) -> NDArray[Any]:
        """What a palette's rows become, (rows, channels): uint8, uint16 (bit patterns) or uint32 (likewise).

        Raises:
            ValueError: mean or std is of another number of channels.
        """
        if self.dtype == "uint8":
            return palette
        numbers = [
            np.asarray((default,) if given is None else given) for given, default in ((self.mean, 0.0), (self.std, 1.0))
        ]
        for name, given in zip(("mean", "std"), numbers, strict=True):
            if len(given) not in (1, palette.shape[1]):
                raise ValueError(f"{name} has {len(given)} numbers; expected one, or {palette.shape[1]} (the channels)")
        exact: NDArray[np.float64] = (palette / 255.0 - numbers[0]) / numbers[1]
        if self.dtype == "bfloat16":
            return _bfloat16(exact)
        return exact.astype(self.dtype).view(np.uint16 if self.dtype == "float16" else np.uint32)

    def write(self, pictures: NDArray[np.uint8], out: NDArray[Any]) -> None:
        """Writes the pixels of pictures (B, channels, H, W) that were drawn as bytes.

        Args:
            pictures: as an engine drew them.
            out: of that shape, integers of `element_bytes`: the bit patterns.
        """
        channels = pictures.shape[1]
        every = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None], (256, channels))
        tables = np.ascontiguousarray(self.values(every).T).view(out.dtype)
        for picture, there in zip(pictures, out, strict=True):
            for plane, table, into in zip(picture, tables, there, strict=True):
                np.take(table, plane, out=into, mode="clip")


def _bfloat16(exact: NDArray[np.float64]) -> NDArray[np.uint16]:
    """The nearest bfloat16, a tie to the even one: rounded once, not by way of float32."""
    toward_zero = exact.astype(np.float32)
    beyond = np.abs(toward_zero.astype(np.float64)) > np.abs(exact)
    bits = toward_zero.view(np.uint32) - beyond.astype(np.uint32)  # truncated to float32
    inexact = bits.view(np.float32).astype(np.float64) != exact
    rest = (bits & np.uint32(0xFFFF)).astype(np.int64) * 2 + inexact
    high = bits >> np.uint32(16)
    up = (rest > 0x10000) | ((rest == 0x10000) & (high & np.uint32(1)).astype(bool))
    rounded: NDArray[np.uint16] = (high + up.astype(np.uint32)).astype(np.uint16)
    return rounded
