"""The operations of timm's RandAugment on batches: the same pixel values, on the device that the pictures are on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

try:
    import torch
    from torch.nn import functional
except ImportError as error:
    raise ImportError(f"augmentation needs {error.name}, which is not installed; pip install 'fdsl[train]'") from error

# Values of pictures that are worked on at once: with what comes of them they stay in a core's cache.
_CACHED = 1 << 18

Floats = NDArray[np.float64]
# Of uint8 (N, channels, height, width), float32 (N, 6) of `coefficients`, and the fill.
PictureFunction = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
# What is done to some pictures of a batch: its name, their positions in the batch, and its argument for each of them.
Operation = tuple[str, NDArray[np.intp], Floats]


def argument(name: str, magnitude: ArrayLike, sign: ArrayLike = 1.0, increasing: bool = False) -> Floats:
    """What an operation does at a magnitude, as in timm.

    Args:
        name: one of `OPERATIONS`.
        magnitude: 0 to 10, of each picture.
        sign: 1 or -1, of each picture, where there are two directions.
        increasing: in timm's variants that change more the higher the magnitude is.

    Returns:
        Degrees, shear, share of the side, bits that are kept, threshold, addend or factor: float64, one a picture.

    >>> argument("Rotate", [9.0], sign=-1)
    array([-27.])
    """
    share, sign = np.asarray(magnitude, np.float64) / 10, np.asarray(sign)
    if name in ("Color", "Contrast", "Brightness", "Sharpness"):
        return np.maximum(0.1, 1 + sign * (share * 0.9)) if increasing else share * 1.8 + 0.1
    if name in ("Posterize", "Solarize"):
        most = 4 if name == "Posterize" else 256
        return most - np.trunc(share * most) if increasing else np.trunc(share * most)
    if name == "SolarizeAdd":
        return np.trunc(share * 110)
    most_of = {"Rotate": 30, "ShearX": 0.3, "ShearY": 0.3, "TranslateXRel": 0.45, "TranslateYRel": 0.45}
    return sign * (share * most_of.get(name, 0))


def apply(images: torch.Tensor, layers: Sequence[Sequence[Operation]], fill: torch.Tensor) -> torch.Tensor:
    """Pictures after layers of operations; in a layer those with the same one are done at once, and so are all warps.

    Pixel values are those of Pillow on x86, bit for bit, but where pictures are warped (bilinearly): coordinates are
    float32 here and float64 there, which moves about 1 % of values by 1. Where Pillow was compiled to fuse
    multiplications and additions, Color, Contrast, Brightness and Sharpness may be off by 1 too.

    Args:
        images: uint8 (batch, 1 or 3, height, width); stays as it is.
        layers: lists of operations, such as `Augment.operations` gives; in each, a picture has one at most.
        fill: what warps bring in, float32, 0 to 255, broadcast to the images.

    >>> black = torch.zeros(2, 1, 1, 1, dtype=torch.uint8)
    >>> apply(black, [[("Invert", np.array([1]), np.zeros(1))]], torch.zeros(1)).flatten()
    tensor([  0, 255], dtype=torch.uint8)
    """
    if not layers:
        return images
    count, at_once = len(images), pictures_at_once(images)
    # Of each layer: its pictures in the order of its operations, where each is put back, and the operation's numbers.
    table, groups = np.zeros((len(layers), count, 8)), []
    for layer, rows in zip(layers, table, strict=True):
        parts: dict[PictureFunction, list[Floats]] = {}
        for name, members, values in layer:
            numbers = coefficients(name, values, *images.shape[2:])
            parts.setdefault(OPERATIONS[name], []).append(np.column_stack([members, members, numbers]))
        rest = np.setdiff1d(np.arange(count), [member for _, members, _ in layer for member in members])
        parts[_unchanged] = [np.column_stack([rest] * 2 + [np.zeros(len(rest))] * 6)]
        rows[:] = np.concatenate([part for several in parts.values() for part in several])
        rows[:, 1] = rows[:, 0].argsort()
        groups.append([(operation, sum(map(len, several))) for operation, several in parts.items()])
    # Numbers go to the device in one piece, and the host waits for nothing.
    sent = torch.from_numpy(table)
    sent = (sent.pin_memory() if images.is_cuda else sent).to(images.device, non_blocking=True)
    for operations, part in zip(groups, sent, strict=True):
        members, places, numbers = part[:, 0].long(), part[:, 1].long(), part[:, 2:].float()
        changed, begin = [], 0
        for operation, size in operations:
            for start in range(begin, begin := begin + size, at_once):
                some = slice(start, min(start + at_once, begin))
                changed.append(operation(images.index_select(0, members[some]), numbers[some], fill))
        images = torch.cat(changed).index_select(0, places)
    return images


def pictures_at_once(images: torch.Tensor) -> int:
    """How many pictures are best worked on at once: on a processor as many as stay in its cache, on a GPU all."""
    return len(images) if images.is_cuda else max(1, _CACHED // max(1, images[:1].numel()))


def coefficients(name: str, values: Floats, height: int, width: int) -> Floats:
    """Arguments as the functions below, and the kernels, take them, float64 (N, 6).

    Of warps: the pixel (x, y) comes from (a x + b y + c, d x + e y + f). Of others: the argument, and zeros.
    """
    if name == "Rotate":
        cosine, sine, x, y = np.cos(np.radians(values)), np.sin(np.radians(values)), width / 2, height / 2
        return np.stack([cosine, -sine, x - cosine * x + sine * y, sine, cosine, y - sine * x - cosine * y], 1)
    if OPERATIONS[name] is not _warp:
        return np.outer(values, [1.0, 0, 0, 0, 0, 0])
    one = {"ShearX": (0, 1, 0, 0, 0, 0), "ShearY": (0, 0, 0, 1, 0, 0)}
    one |= {"TranslateXRel": (0, 0, width, 0, 0, 0), "TranslateYRel": (0, 0, 0, 0, 0, height)}
    matrices: Floats = np.array([1.0, 0, 0, 0, 1, 0]) + np.outer(values, one[name])
    return matrices


def _unchanged(images: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
    return images


def _warp(images: torch.Tensor, numbers: torch.Tensor, fill: torch.Tensor) -> torch.Tensor:
    height, width = images.shape[2:]
    a, b, c, d, e, f = numbers.T[..., None, None]
    x = torch.arange(width, device=images.device) + 0.5
    y = torch.arange(height, device=images.device)[:, None] + 0.5
    # Not torch's affine_grid, which multiplies matrices: users may let GPUs round those to ten bits. In -1 to 1; the
    # last term keeps the lower edge, which is inside, from being rounded out.
    across = 2 / width * a * x + (2 / width * (b * y + c) - 1 + 2**-22)
    down = 2 / height * d * x + (2 / height * (e * y + f) - 1 + 2**-22)
    inside = torch.maximum(across.abs(), down.abs()) < 1
    grid = torch.view_as_real(torch.complex(across, down))  # the fastest way to put one beside the other
    sampled = functional.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    # Pillow cuts fractions off; a sixty-fourth is more than what rounding takes away from a whole number.
    return torch.where(inside[:, None], sampled.add_(1 / 64), fill).short().to(torch.uint8)


def _color(images: torch.Tensor, numbers: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    return _blended(_gray(images), images, numbers)


def _sharpness(images: torch.Tensor, numbers: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    # The smooth picture: weights 1, in the middle 5, divided by 13 and rounded; the border stays.
    pixels, smooth = images.short(), images.float()
    rows = pixels[..., :-2, :] + pixels[..., 1:-1, :] + pixels[..., 2:, :]
    inner = pixels[..., 1:-1, 1:-1] * 4 + rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    smooth[..., 1:-1, 1:-1] = inner.float().mul_(1 / 13).add_(0.5).floor_()
    return _blended(smooth, images, numbers)


def _blended(degenerate: torch.Tensor, images: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """From the degenerate picture (factor 0) to the picture itself (1) and on, float32, cut off, as in Pillow."""
    # By way of int16, as in warps: a processor then converts three times as fast.
    factor, degenerate = numbers[:, :1, None, None], degenerate.float()
    return images.float().sub_(degenerate).mul_(factor).add_(degenerate).clamp_(0, 255).short().to(torch.uint8)


def _gray(images: torch.Tensor) -> torch.Tensor:
    """Luma as Pillow rounds it: (N, 1, height, width)."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.int().unbind(1)
    return ((red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16)[:, None]


def _by_table(levels_of: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]) -> PictureFunction:
    """An operation that takes each level 0 to 255 to another one, which is cut off, of (images, levels, arguments)."""

    def operation(images: torch.Tensor, numbers: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        levels = torch.arange(256, device=images.device)
        tables = levels_of(images, levels, numbers[:, :1, None]).clamp(0, 255).to(torch.uint8)
        return tables.expand(*images.shape[:2], 256).gather(2, images.flatten(2).long()).view_as(images)

    return operation


def _auto_contrast(images: torch.Tensor, levels: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    low, high = (limit(2, keepdim=True) for limit in (images.flatten(2).amin, images.flatten(2).amax))
    # In float64 and in this order, as Pillow's Python does it; torch rounds twice where it divides a number.
    scale = torch.full_like(low, 255, dtype=torch.float64) / (high - low)
    return torch.where(high > low, levels * scale + -low.double() * scale, levels)


def _equalize(images: torch.Tensor, levels: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    # One-dimensional, so that it also runs on GPUs where torch is told to be deterministic.
    kinds = len(images) * images.shape[1]
    pixels = images.reshape(kinds, -1) + torch.arange(0, kinds * 256, 256, device=images.device)[:, None]
    counts = pixels.new_zeros(kinds * 256).scatter_add_(0, pixels.flatten(), pixels.new_ones(()).expand(pixels.numel()))
    counts = counts.view(*images.shape[:2], 256)
    highest = torch.where(counts > 0, levels, 0).amax(2, keepdim=True)
    step = (pixels.shape[1] - counts.gather(2, highest)) // 255
    return torch.where(step > 0, (step // 2 + counts.cumsum(2) - counts) // step.clamp(min=1), levels)


def _contrast(images: torch.Tensor, levels: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    gray = _gray(images).flatten(2)
    mean = (2 * gray.sum(2, dtype=torch.int64, keepdim=True) + gray.shape[2]) // (2 * gray.shape[2])
    return (levels - mean) * factor + mean


def _posterize(_: torch.Tensor, levels: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    # No bits are black, as they were before Pillow refused them.
    return levels & (255 << (8 - bits.long()))


def _solarize(_: torch.Tensor, levels: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    return torch.where(levels < threshold, levels, 255 - levels)


# Those of timm, in its order, which is that of the TensorFlow code that they come from.
OPERATIONS: dict[str, PictureFunction] = {
    "AutoContrast": _by_table(_auto_contrast),
    "Equalize": _by_table(_equalize),
    "Invert": _by_table(lambda _, levels, __: 255 - levels),
    "Rotate": _warp,
    "Posterize": _by_table(_posterize),
    "Solarize": _by_table(_solarize),
    "SolarizeAdd": _by_table(lambda _, levels, addend: torch.where(levels < 128, levels + addend, levels)),
    "Color": _color,
    "Contrast": _by_table(_contrast),
    "Brightness": _by_table(lambda _, levels, factor: levels * factor),
    "Sharpness": _sharpness,
    "ShearX": _warp,
    "ShearY": _warp,
    "TranslateXRel": _warp,
    "TranslateYRel": _warp,
}

WARPS = tuple(name for name, operation in OPERATIONS.items() if operation is _warp)
