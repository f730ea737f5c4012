"""First-layer filters: what a network looks for in the pixels themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdsl.analysis.drawing import tiled

Filters = NDArray[np.float32]
# As many as the figure of the ViT paper shows, in four rows of seven.
COMPONENTS, _COMPONENT_COLUMNS = 28, 7
# More would be too small to see, and make a large page.
SHOWN = 256
_SHEET_PIXELS, _GAP = 960, 3


@dataclass(frozen=True)
class FirstLayer:
    """The convolution that sees the picture.

    Args:
        name: of the module.
        filters: float32 (F, C, h, w), as they are stored.
    """

    name: str
    filters: Filters


def first_layer(network: Any) -> FirstLayer | None:
    """conv1 of a ResNet, the patch embedding of a ViT; None where the network does not begin with a convolution.

    It is the one that timm names (`pretrained_cfg`), else the first in the order of the modules.

    >>> first_layer(timm.create_model("deit_tiny_patch16_224")).filters.shape
    (192, 3, 16, 16)
    """
    weights = {name: getattr(module, "weight", None) for name, module in network.named_modules()}
    convolutions: dict[str, Any] = {name: w for name, w in weights.items() if getattr(w, "ndim", 0) == 4}
    named = str((getattr(network, "pretrained_cfg", None) or {}).get("first_conv"))
    name = named if named in convolutions else next(iter(convolutions), None)
    if name is None:
        return None
    return FirstLayer(name, convolutions[name].detach().float().cpu().numpy())


def principal_components(filters: Filters, count: int = COMPONENTS) -> tuple[Filters, NDArray[np.float64]]:
    """The directions in which the filters differ most, as filters themselves.

    As in figure 7 (left) of Dosovitskiy et al., "An Image is Worth 16x16 Words" (arXiv:2010.11929).

    Args:
        filters: float32 (F, C, h, w).
        count: at most so many.

    Returns:
        float32 (K, C, h, w), each of norm 1 with its largest weight positive, and float64 (K,), the share of the
        filters' variance that each takes, in descending order. K is `count`, F - 1 or C * h * w, the least of them.

    >>> components, shares = principal_components(layer.filters)
    >>> len(components), round(shares.sum(), 2)
    (28, 0.93)
    """
    flat = filters.reshape(len(filters), -1).astype(np.float64)
    _, values, rows = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)
    kept = min(count, len(filters) - 1, flat.shape[1])
    variances, rows = values**2, rows[:kept]
    rows *= np.sign(np.take_along_axis(rows, np.abs(rows).argmax(axis=1, keepdims=True), axis=1))
    shares = variances[:kept] / max(variances.sum(), np.finfo(np.float64).tiny)
    return rows.reshape(kept, *filters.shape[1:]).astype(np.float32), shares


def filter_pictures(filters: Filters) -> NDArray[np.uint8]:
    """Each filter as a picture: its lowest weight is black, its highest one white, over its channels together.

    Args:
        filters: float32 (F, C, h, w).

    Returns:
        uint8 (F, h, w, 3); three channels are red, green and blue, any other number is averaged to gray. A filter whose
        weights are all the same is mid-gray.

    >>> filter_pictures(np.float32([[[[-1, 0, 3]]]]))[0, 0, :, 0]
    array([  0,  64, 255], dtype=uint8)
    """
    shown = filters if filters.shape[1] == 3 else filters.mean(axis=1, keepdims=True)
    low, high = (bound(shown, axis=(1, 2, 3), keepdims=True) for bound in (np.min, np.max))
    flat = high == low
    scaled = np.where(flat, 0.5, (shown - low) / np.where(flat, 1, high - low))
    pixels = (255 * scaled).round().astype(np.uint8).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:3], 3)))


def draw_filters(filters: Filters) -> NDArray[np.uint8]:
    """The first 256 filters (F, C, h, w) in rows of 16, few of them in rows of 8: uint8 (H, W, 3)."""
    return _sheet(filters[:SHOWN], 16 if len(filters) > 64 else 8)


def draw_components(components: Filters) -> NDArray[np.uint8]:
    """Principal components (K, C, h, w) in rows of seven, as in the ViT paper: uint8 (H, W, 3)."""
    return _sheet(components, _COMPONENT_COLUMNS)


def _sheet(filters: Filters, columns: int) -> NDArray[np.uint8]:
    zoom = max(1, (_SHEET_PIXELS // columns - _GAP) // filters.shape[3])
    return tiled(filter_pictures(filters), columns, zoom, _GAP)
