"""Attention: how far the heads of a ViT look, and where."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

try:
    import torch
    from timm.utils import AttentionExtract
except ImportError as error:
    raise ImportError(f"attention needs {error.name}, which is not installed; pip install 'fdsl[train]'") from error

from fdsl.analysis.drawing import figure, style, tiled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float32]
_TILE, _GAP = 96, 4


@dataclass(frozen=True)
class Attention:
    """How the tokens of some pictures attend to each other.

    Args:
        weights: float32 tensor (layers, B, heads, N, N), from the first layer to the last. In [l, b, h, q] the weights
            of query q add up to 1. Attentions side by side, whose outputs a block adds up, are heads of one layer.
        rows, columns: of patches, which are the last rows * columns of the N tokens, row by row.
        from_class: whether the class token, which is the first one, is what the network classifies by; else it is the
            patches.
    """

    weights: torch.Tensor
    rows: int
    columns: int
    from_class: bool

    @property
    def extra(self) -> int:
        """Number of tokens before the patches: class, distillation, registers."""
        return int(self.weights.shape[-1]) - self.rows * self.columns


class AttentionReader:
    """A copy of a network that tells its attention: `reader(images)`.

    timm's AttentionExtract reads what goes into the dropout of the attention weights, which fused attention never
    computes; it is switched off in the copy.

    >>> reader = AttentionReader(timm.create_model("deit_tiny_patch16_224"))
    >>> reader(torch.zeros(1, 3, 224, 224)).weights.shape
    torch.Size([12, 1, 3, 197, 197])
    """

    def __init__(self, network: Any) -> None:
        self._network = copy.deepcopy(network)
        for module in self._network.modules():
            if hasattr(module, "fused_attn"):
                module.fused_attn = False
        try:
            self._extract = AttentionExtract(self._network, method="hook")
        except RuntimeError:  # no module has the name of such a dropout
            self._extract = None

    def __call__(self, images: torch.Tensor) -> Attention | None:
        """Runs the network on normalised images, float32 (B, C, H, W).

        None where not every layer attends from each token to all: in ResNets, and with windows, pooled keys, attention
        over channels, talking heads or differential attention; also where timm does not tell the grid of patches, as
        of NaFlexViT.
        """
        embedding: Any = getattr(self._network, "patch_embed", None)
        if self._extract is None or not hasattr(embedding, "dynamic_feat_size"):
            return None
        with torch.inference_mode():
            layers = self._extract(images)
        rows, columns = embedding.dynamic_feat_size(tuple(images.shape[-2:]))
        tokens = getattr(self._network, "num_prefix_tokens", 0) + rows * columns
        heads = [
            getattr(self._network.get_submodule(name.rpartition(".")[0]), "num_heads", None)
            for name in self._extract.names
        ]
        shapes = [tuple(weights.shape) for weights in layers.values()]
        if shapes != [(len(images), heads[-1], tokens, tokens)] * len(heads):
            return None
        # timm's ParallelThingsBlock holds its attentions in `attns`.
        blocks = dict.fromkeys(name.partition(".attns.")[0] for name in self._extract.names)
        weights = torch.stack(list(layers.values())).float().unflatten(0, (len(blocks), -1)).movedim(1, 2).flatten(2, 3)
        if not torch.allclose(weights.sum(-1), torch.ones(()), atol=1e-3):
            return None
        by_class = getattr(self._network, "global_pool", "token") in ("token", "")
        return Attention(weights, rows, columns, by_class and getattr(self._network, "cls_token", None) is not None)


def mean_distances(attention: Attention, height: int, width: int) -> Array:
    """How far each head looks from a patch on average, in pixels.

    The distance from the centre of the query's patch to that of each other patch, weighted by attention, then the mean
    over queries and pictures: appendix D.7 of Dosovitskiy et al. (arXiv:2010.11929). Only patches count: what a query
    gives to class and other extra tokens is left out, and its other weights are scaled to add up to 1; a query that
    gives nothing to patches counts as 0.

    Args:
        height, width: of the pictures, in pixels.

    Returns:
        float32 (layers, heads).

    >>> mean_distances(reader(images), 224, 224).shape
    (12, 3)
    """
    y = (torch.arange(attention.rows) + 0.5) * height / attention.rows
    x = (torch.arange(attention.columns) + 0.5) * width / attention.columns
    centres = torch.cartesian_prod(y, x).to(attention.weights.device)
    distances = torch.linalg.vector_norm(centres[:, None] - centres, dim=-1)
    weights = attention.weights[..., attention.extra :, attention.extra :]
    given = weights.sum(-1).clamp_min(torch.finfo(torch.float32).tiny)
    means = (weights * distances).sum(-1) / given
    found: Array = means.mean(dim=(1, 3)).cpu().numpy()
    return found


def last_layer(attention: Attention) -> Array:
    """What the last layer looks at: each head's weights from the class token to the patches.

    As in Caron et al., "Emerging Properties in Self-Supervised Vision Transformers" (arXiv:2104.14294). Without a class
    token that the network classifies by, the mean over the weights from all patches.

    Returns:
        float32 (B, heads, rows, columns), not over 1 in sum.

    >>> last_layer(reader(images)).shape
    (1, 3, 14, 14)
    """
    return _to_patches(attention, attention.weights[-1])


def rollout(attention: Attention) -> Array:
    """What all layers together look at: attention rollout.

    The weights of a layer, averaged over its heads and averaged with the identity for the residual connection,
    multiplied over the layers: Abnar and Zuidema, "Quantifying Attention Flow in Transformers" (arXiv:2005.00928), as
    in figure 6 of the ViT paper. From the class token to the patches, or the mean over the patches, as `last_layer`.

    Returns:
        float32 (B, rows, columns), not over 1 in sum.

    >>> rollout(reader(images)).shape
    (1, 14, 14)
    """
    identity = torch.eye(attention.weights.shape[-1], device=attention.weights.device)
    joint = identity
    for weights in attention.weights.mean(dim=2):
        joint = (weights + identity) / 2 @ joint
    return _to_patches(attention, joint)


def _to_patches(attention: Attention, weights: torch.Tensor) -> Array:
    from_class = weights[..., 0, :] if attention.from_class else weights[..., attention.extra :, :].mean(-2)
    patches = from_class[..., attention.extra :]
    shown: Array = patches.unflatten(-1, (attention.rows, attention.columns)).cpu().numpy()
    return shown


def map_brightness(maps: Array) -> Array:
    """Maps from 0, no attention, to 1, a map's own highest weight or twice its mean, whichever is more.

    An even map is therefore a plain 0.5. Scaled from its lowest to its highest weight, the faintest pattern of an
    untrained network would look like a trained one's.

    Args:
        maps: float32 (..., rows, columns), of `last_layer` or `rollout`.

    >>> map_brightness(np.float32([[[2, 2]], [[1, 9]]])).tolist()
    [[[0.5, 0.5]], [[0.1111111119389534, 1.0]]]
    """
    full = np.maximum(maps.max(axis=(-2, -1), keepdims=True), 2 * maps.mean(axis=(-2, -1), keepdims=True))
    shown: Array = maps / np.maximum(full, np.finfo(np.float32).tiny)
    return shown


def draw_distances(distances: Array, equal: float, width: int) -> Figure:
    """A dot for each head at its depth, and the mean of each layer as a line.

    Args:
        distances: float32 (layers, heads), of `mean_distances`.
        equal: what a head has that attends to all patches equally, drawn as a dashed line.
        width: of the pictures, in pixels.
    """
    depths = np.arange(1, len(distances) + 1)
    with style():
        drawn = figure(7.2, 4.2)
        axes = drawn.subplots()
        for head in distances.T:
            axes.plot(depths, head, "o", color="#7fc8f8", markersize=5, alpha=0.75, markeredgewidth=0)
        axes.plot(depths, distances.mean(axis=1), color="#ffb454", linewidth=1.6, label="mean of the layer")
        axes.plot([], [], "o", color="#7fc8f8", markersize=5, label="a head")
        axes.axhline(equal, color="#9ca1ad", linewidth=1, linestyle="--", label="equal attention")
        axes.set(xlabel="depth (layer)", ylabel=f"mean attention distance (pixels of {width})")
        axes.set_ylim(0, 1.1 * max(equal, distances.max()))
        axes.set_xticks(depths[:: -(-len(depths) // 16)])
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.legend(frameon=False, loc="best")
    return drawn


def draw_maps(pictures: NDArray[np.uint8], rollouts: Array, heads: Array) -> Figure:
    """A row for each picture: the picture, its rollout, and the map of each head of the last layer.

    Maps go from black over red to bright yellow as `map_brightness` says.

    Args:
        pictures: uint8 (B, 1 or 3, H, W).
        rollouts: float32 (B, rows, columns), of `rollout`.
        heads: float32 (B, heads, rows, columns), of `last_layer`.
    """
    import matplotlib
    from PIL import Image

    maps = np.concatenate([rollouts[:, None], heads], axis=1)
    count, each, rows, columns = maps.shape
    zoom = -(-_TILE // max(rows, columns))
    height, width = rows * zoom, columns * zoom
    colored = matplotlib.colormaps["inferno"](map_brightness(maps), bytes=True)[..., :3]
    tiles = colored.repeat(zoom, axis=2).repeat(zoom, axis=3).reshape(count, each, height, width, 3)
    seen = [
        Image.fromarray(np.broadcast_to(picture, (3, *picture.shape[1:])).transpose(1, 2, 0)) for picture in pictures
    ]
    shown = np.stack([np.asarray(picture.resize((width, height))) for picture in seen])[:, None]
    sheet = tiled(np.concatenate([shown, tiles], axis=1).reshape(-1, height, width, 3), columns=1 + each, gap=_GAP)
    with style():
        drawn = figure(sheet.shape[1] / 120 + 0.2, sheet.shape[0] / 120 + 0.4)
        axes = drawn.subplots()
        axes.imshow(sheet, interpolation="nearest")
        axes.set_xticks(_GAP + width / 2 + (width + _GAP) * np.arange(1 + each))
        axes.set_xticklabels(["picture", "rollout", *(f"head {head + 1}" for head in range(each - 1))], fontsize=8)
        axes.set_yticks([])
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return drawn
