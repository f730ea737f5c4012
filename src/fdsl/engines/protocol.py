"""What the rest of fdsl asks of an engine."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fdsl.primitives import AffineSystems, Drawing, SpatialSystems
from fdsl.rendering import RenderSpec

# More pixels than a picture has.
ALL_PIXELS = 2**31 - 1


class Engine(Protocol):
    """Draws primitives into memory that the caller owns: NumPy arrays, or torch tensors on the engine's device.

    The cuda engine gives the bytes of the cpu engine. Records and what is measured stay in main memory. A batch may be
    empty.
    """

    def empty(self, shape: tuple[int, ...], dtype: str | None = None) -> Any:
        """Uninitialised memory of that shape: of pixels as this engine draws them, or of a named dtype.

        `draw` takes the whole of it, a slice of its first axis, and a part of a flat one that was reshaped.
        """

    def draw(self, drawing: Drawing, spec: RenderSpec, palette: NDArray[np.uint8], seed: int, out: Any) -> None:
        """Draws a batch.

        Args:
            drawing: what to draw, of a family.
            spec: how, as the family completed it.
            palette: what a pixel can hold, uint8 (N, channels), the ground first.
            seed: of the dataset.
            out: (B, channels, size, size), where to.
        """

    def put(self, out: Any, rows: NDArray[np.int64], pictures: Any) -> None:
        """Copies pictures (N, ...) to the rows (N,) of a batch."""

    def compose(
        self, pixels: Any, objects: NDArray[np.void], ground: NDArray[np.uint8], opaque: bool, out: Any, masks: Any
    ) -> None:
        """Pastes drawn objects onto canvases, those behind first, and fills in what is seen of each: box and pixels.

        Args:
            pixels: of all objects, (P,): from its offset on, an object's are (channels, side, side).
            objects: compositions.OBJECT (N,), C-contiguous, picture by picture.
            ground: uint8 (channels,), what canvases are filled with; the pixels of an object that equal it cover
                nothing.
            opaque: or all of them do.
            out: canvases, (B, channels, size, size).
            masks: uint8 (N, size, size): 1 where an object is seen, else 0; or (0, size, size) for none.
        """

    def measure(
        self, drawing: AffineSystems, spec: RenderSpec, seed: int, enough: ArrayLike = ALL_PIXELS
    ) -> NDArray[np.void]:
        """Point pictures judged, not kept: MEASUREMENT records of box, count of hit pixels, and finiteness, (B,).

        `enough` is one number for all or int (B,). A count may end before it is complete: once that many pixels are
        hit, or if an eighth of the points hit less than an eighth of them. What is not finite is not counted.
        """

    def measure_spatial(self, drawing: SpatialSystems, points: int, seed: int, least: float = 0.0) -> NDArray[np.void]:
        """Clouds judged, not kept: SPATIAL_MEASUREMENT records, (B,).

        The box is the least and largest coordinate and the centre of mass; the variances are those of x, y and z once
        all coordinates together span 2, and 0 where a point overflows. Where a fourth of the trajectories has less than
        half of `least` on an axis, the rest is not walked, and what is measured is of that fourth.
        """
