"""Position embeddings: whether a ViT has learned that its patches lie in a plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fdsl.analysis.drawing import figure, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float32]


def position_embeddings(network: Any) -> Array | None:
    """What a timm ViT adds to each patch, float32 (rows, columns, D), without those of class and other extra tokens.

    None where it has none, as with rotary or relative positions and in ResNets, and where they are no row of vectors,
    as in PiT, VOLO and SAM.

    >>> position_embeddings(timm.create_model("deit_tiny_patch16_224")).shape
    (14, 14, 192)
    """
    grid = getattr(getattr(network, "patch_embed", None), "grid_size", None)
    parameter: Any = getattr(network, "pos_embed", None)
    if not grid or getattr(parameter, "ndim", 0) != 3:
        return None
    rows, columns = grid
    embeddings: Array = parameter.detach().float().cpu().numpy()[0]
    extra = len(embeddings) - rows * columns
    if extra not in (0, getattr(network, "num_prefix_tokens", 0)):
        return None
    return embeddings[extra:].reshape(rows, columns, -1)


def similarities(embeddings: Array) -> Array:
    """The cosine of each patch's embedding with each other's.

    As in figure 7 (centre) of Dosovitskiy et al., "An Image is Worth 16x16 Words" (arXiv:2010.11929).

    Args:
        embeddings: float32 (rows, columns, D).

    Returns:
        float32 (rows, columns, rows, columns), from -1 to 1; [i, j] is the map of the patch in row i and column j. An
        embedding of zeros is similar to nothing.

    >>> similarities(np.float32([[[1, 0], [1, 1]]])).round(2)[0, 0]
    array([[1.  , 0.71]], dtype=float32)
    """
    rows, columns, size = embeddings.shape
    flat = embeddings.reshape(-1, size)
    unit = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    cosines: Array = (unit @ unit.T).reshape(rows, columns, rows, columns)
    return cosines


def mean_similarities(cosines: Array) -> dict[str, float]:
    """Means over pairs of different patches: side by side, in one row or column (side by side too), and all others.

    Args:
        cosines: float32 (rows, columns, rows, columns), of `similarities`.

    Returns:
        Cosines by kind of pair; a kind that a small grid has no pair of is left out.

    >>> mean_similarities(similarities(position_embeddings(network)))
    {'side_by_side': 0.62, 'same_row_or_column': 0.31, 'others': -0.05}
    """
    i, j, k, m = np.ogrid[tuple(map(slice, cosines.shape))]
    down, right = np.abs(i - k), np.abs(j - m)
    kinds = {
        "side_by_side": down + right == 1,
        "same_row_or_column": (down == 0) != (right == 0),
        "others": (down > 0) & (right > 0),
    }
    return {name: float(cosines[chosen].mean()) for name, chosen in kinds.items() if chosen.any()}


def draw_similarities(cosines: Array) -> Figure:
    """A grid of grids: the map at (i, j) shows how similar every patch's embedding is to that of patch (i, j).

    Args:
        cosines: float32 (rows, columns, rows, columns), of `similarities`.
    """
    import matplotlib

    rows, columns, _, _ = cosines.shape
    grid = np.full((rows, rows + 1, columns, columns + 1), np.nan, np.float32)
    grid[:, :rows, :, :columns] = cosines.transpose(0, 2, 1, 3)
    with style():
        side = min(12, max(6.8, columns * (columns + 1) / 110))  # inches: a pixel for each value, in a page's size
        drawn = figure(1.1 * side, side * rows / columns)
        axes = drawn.subplots()
        flat = grid.reshape(rows * (rows + 1), -1)[:-1, :-1]
        colors = matplotlib.colormaps["viridis"].resampled(64)  # more would make a large grid a large file
        shown = axes.imshow(flat, cmap=colors, vmin=-1, vmax=1, interpolation="nearest")
        for axis, count in ((axes.xaxis, columns), (axes.yaxis, rows)):
            every = -(-count // 16)
            numbers = range(0, count, every)
            axis.set_ticks([(count + 1) * number + (count - 1) / 2 for number in numbers])
            axis.set_ticklabels([f"{number + 1}" for number in numbers])
        axes.set(xlabel="column of the patch", ylabel="row of the patch")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        bar = drawn.colorbar(shown, ax=axes, fraction=0.046, pad=0.02, label="cosine similarity")
        bar.outline.set_visible(False)
    return drawn
