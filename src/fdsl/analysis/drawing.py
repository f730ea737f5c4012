"""What the figures share: tiles, and plots in light colours on a dark ground, which also shows well on a light page."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GROUND, _TEXT, _LINES = (38, 40, 46), "#ecedf0", "#5c606b"


def tiled(pictures: NDArray[np.uint8], columns: int, zoom: int = 1, gap: int = 1) -> NDArray[np.uint8]:
    """Pictures side by side: number k stands in row k // columns and column k % columns.

    Args:
        pictures: uint8 (N, h, w, 3).
        columns: of tiles.
        zoom: pixels of a side that a pixel of a picture becomes.
        gap: pixels around each.

    Returns:
        uint8 (rows * (zoom * h + gap) + gap, columns * (zoom * w + gap) + gap, 3).

    >>> tiled(np.zeros((10, 7, 7, 3), np.uint8), columns=4, zoom=2).shape
    (46, 61, 3)
    """
    count, height, width, _ = pictures.shape
    height, width = zoom * height, zoom * width
    rows = -(-count // columns)
    down, right = height + gap, width + gap
    sheet = np.empty((rows * down + gap, columns * right + gap, 3), np.uint8)
    sheet[:] = _GROUND
    for number, picture in enumerate(pictures.repeat(zoom, axis=1).repeat(zoom, axis=2)):
        top, left = number // columns * down + gap, number % columns * right + gap
        sheet[top : top + height, left : left + width] = picture
    return sheet


def figure(width: float, height: float) -> Figure:
    """A Matplotlib figure of so many inches, to draw in under `style()`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    empty = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(empty)
    return empty


def style() -> Any:
    """Colours and sizes of everything that is drawn while this context lasts."""
    import matplotlib

    ground = "#" + bytes(_GROUND).hex()
    colors = dict.fromkeys(("figure.facecolor", "savefig.facecolor", "axes.facecolor"), ground)
    colors |= dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), _TEXT)
    return matplotlib.rc_context(colors | {"axes.edgecolor": _LINES, "grid.color": _LINES, "font.size": 10})


def png(drawn: Figure | NDArray[np.uint8]) -> bytes:
    """The PNG file of a figure, or of an array uint8 (H, W, 3)."""
    from PIL import Image

    file = io.BytesIO()
    if isinstance(drawn, np.ndarray):
        Image.fromarray(drawn).save(file, "png", optimize=True)
    else:
        drawn.savefig(file, format="png", bbox_inches="tight", pad_inches=0.1)
    return file.getvalue()
