"""Augmentation of whole batches, keyed by sample: RandAugment or colour jitter, erasing, mixing, as timm does them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from fdsl import keyed
from fdsl.train.rand_augment import (
    OPERATIONS,
    Floats,
    Operation,
    apply,
    argument,
    pictures_at_once,
)  # first: it names what is missing

# isort: split
import torch

from fdsl.engines.cuda import Blocks
from fdsl.engines.cuda_gpu import Gpu
from fdsl.train.fused_augmentation import Drawn, Mixing, Prepared, prepare
from fdsl.train.recipes import Augmentation

# The chance that an operation of RandAugment that was chosen is applied.
_APPLIED = 0.5
_JITTER = ("Brightness", "Contrast", "Color")
# Of random erasing: smallest and largest area, narrowest shape, how many rectangles are tried, numbers of noise.
_AREAS, _NARROWEST, _TRIES, _NOISE = (0.02, 1 / 3), 0.3, 10, 1 << 20
_DTYPES = ("float32", "float16", "bfloat16")
# A sample has blocks of four random numbers: for erasing one and one a try, for jitter one, then one a layer.
_JITTER_BLOCK, _FIRST_LAYER = _TRIES + 1, _TRIES + 2


class Augment(torch.nn.Module):  # type: ignore[misc]
    """What timm does to pictures and labels, on batches, on the device that they are on, keyed by sample.

    In this order, as in the scripts of DeiT and of the FDSL papers: RandAugment (Cubuk et al., NeurIPS 2020, in timm's
    version: 15 operations, each applied with probability 0.5 at a magnitude of its own) or else colour jitter; shift
    and scale of pixel values; random erasing (Zhong et al., AAAI 2020: a rectangle of 2 to 33 % of the area becomes
    normally distributed noise); mixup (Zhang et al., ICLR 2018) or CutMix (Yun et al., ICCV 2019) with the batch in
    reverse order; label smoothing.

    What is drawn for sample i is a function of (seed, i), whatever its batch and rank. What mixing draws, a share and a
    rectangle for the whole batch, is a function of (seed, first). So there is no state that a checkpoint has to hold.

    Other than in timm, warps always interpolate bilinearly (it draws bilinear or bicubic each time, by default), and
    the noise of an erased rectangle is a piece of a million numbers that are drawn once; where the piece begins is
    drawn for each sample.

    On a GPU of compute capability 7.5 or newer, where cuda-core is installed, kernels do all that (kernels/cuda): one
    pass from bytes to normalised, erased and mixed floats, colour jitter included, after two launches for a layer of
    RandAugment; nobody waits for the GPU. Elsewhere torch's operations do. Both give the same bits, but for warps:
    torch rounds interpolation as each device likes, and 2 in 100,000 values differ by one level of 255.

    A batch of 64 takes two thirds of the processor time that timm's transforms take on Pillow at 224 pixels, less than
    a third at 32. Half of that of RandAugment goes into the interpolation of warps; the rest is bound by memory.

    Args:
        augmentation: what is done.
        classes: labels lie below it.
        mean, std: of pixels in 0 to 1, one number or three. Warps fill with the mean.
        seed: 0 to 2^64 - 1.
        dtype: of the pixels that it gives, "float32", "float16" or "bfloat16": rounded once, at the end.
        channels_last: they lie in memory as (batch, height, width, channels); the shape stays.
        blocks: what runs the kernels, instead of the GPU that the images are on.

    Raises:
        ValueError: a number is out of its range.

    >>> augment = Augment(Augmentation(rand_augment=9, mixup=0.8, cutmix=1.0), 10, mean=[0.5], std=[0.5], seed=0)
    >>> pixels, targets = augment(torch.zeros(4, 3, 32, 32, dtype=torch.uint8), torch.arange(4), first=0)
    >>> pixels.shape, pixels.dtype, targets.shape
    (torch.Size([4, 3, 32, 32]), torch.float32, torch.Size([4, 10]))
    """

    _noise: torch.Tensor

    def __init__(
        self,
        augmentation: Augmentation,
        classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        seed: int,
        dtype: str = "float32",
        channels_last: bool = False,
        blocks: Blocks | None = None,
    ) -> None:
        super().__init__()
        if dtype not in _DTYPES:
            raise ValueError(f"dtype is {dtype!r}; expected {', '.join(_DTYPES)}")
        if classes < 1:
            raise ValueError(f"classes is {classes}; expected 1 or more")
        for name, numbers in (("mean", mean), ("std", std)):
            if len(numbers) not in (1, 3):
                raise ValueError(f"{name} is {numbers!r}; expected one number, or three")
        if min(std) <= 0:
            raise ValueError(f"std is {std!r}; expected numbers over 0")
        self.augmentation, self.classes, self.seed = augmentation, classes, keyed.check_seed(seed)
        self._channels = (1, 3) if len(mean) == len(std) == 1 else (3,)
        self.dtype, self.channels_last, self._blocks = getattr(torch, dtype), channels_last, blocks
        means, stds = np.broadcast_arrays(np.asarray(mean, np.float64), np.asarray(std, np.float64))
        constants = {"scale": 1 / (255 * stds), "shift": -means / stds, "fill": np.rint(255 * means).clip(0, 255)}
        self._constants = {name: constant.astype(np.float32) for name, constant in constants.items()}
        self.register_buffer("_noise", torch.empty(0), persistent=False)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def forward(self, images: torch.Tensor, labels: torch.Tensor, first: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch as training takes it; `images` stays as it is.

        Args:
            images: uint8 (batch, 1 or 3, height, width).
            labels: int64 (batch,), on the same device.
            first: number of the batch's first sample in the whole run; the others follow it.

        Returns:
            Pixels, normalised: (batch, channels, height, width), of this module's dtype and layout. The share of each
            class: float32 (batch, classes), of sum 1.

        Raises:
            ValueError: images are of another type or shape.
        """
        self._check(images)
        drawn = self.drawn(first, *images.shape)
        spread = self.augmentation.label_smoothing / self.classes
        targets = torch.full((len(images), self.classes), spread, device=images.device)
        targets.scatter_(1, labels[:, None], 1 - self.augmentation.label_smoothing + spread)
        share = drawn.mixing.share
        return self._pixels(images, drawn), targets * share + targets.flip(0) * (1 - share)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def normalize(self, images: torch.Tensor) -> torch.Tensor:
        """Pixels as evaluation takes them, (x / 255 - mean) / std: uint8 (batch, channels, height, width) to floats.

        Raises:
            ValueError: images are of another type or shape.

        >>> white = torch.full((1, 1, 1, 2), 255, dtype=torch.uint8)
        >>> Augment(Augmentation(), 10, mean=[0.5], std=[0.5], seed=0).normalize(white)
        tensor([[[[1., 1.]]]])
        """
        self._check(images)
        return self._pixels(images, Drawn((), False, np.zeros((len(images), 5), np.int64)))

    def prepare(self, images: torch.Tensor, first: int, out: torch.Tensor) -> Prepared:
        """What `forward` does to pixels, uploaded: its `run` writes them to `out`, and a CUDA graph captures it.

        Raises:
            RuntimeError: no kernels run on the device of the images.

        >>> prepared = augment.prepare(images, first, pixels)
        >>> with torch.cuda.graph(graph):
        ...     prepared.run(pixels)
        """
        self._check(images)
        blocks = self._blocks_of(images)
        if blocks is None:
            raise RuntimeError(f"images are on {images.device}; expected a GPU that the cuda engine can use")
        drawn = self.drawn(first, *images.shape)
        return prepare(blocks, _dense(images), drawn, self._constants, self._noise_on(images, blocks), out)

    def drawn(self, first: int, count: int, channels: int, height: int, width: int) -> Drawn:
        """What is drawn for `count` pictures from sample `first` on."""
        return Drawn(
            self.operations(first, count),
            self.augmentation.rand_augment is None and self.augmentation.color_jitter > 0,
            self._erased(first, count, channels, height, width),
            self._mixing(first, height, width),
        )

    def operations(self, first: int, count: int) -> list[list[Operation]]:
        """What is done to pixels of the samples from `first` on, before normalisation: layers, one after the other.

        >>> Augment(Augmentation(color_jitter=0.4), 10, [0.5], [0.5], seed=0).operations(first=0, count=1)[0]
        [('Brightness', array([0]), array([1.05352657]))]
        """
        wanted = self.augmentation
        if wanted.rand_augment is not None:
            blocks = range(_FIRST_LAYER, _FIRST_LAYER + wanted.rand_augment_layers)
            return [self._layer(wanted.rand_augment, drawn) for drawn in self._drawn(first, count, blocks)]
        if not wanted.color_jitter:
            return []
        (drawn,) = self._drawn(first, count, [_JITTER_BLOCK])
        order = np.array(list(permutations(range(3))))[(drawn[3] * 6).astype(int)]
        lowest, highest = max(0.0, 1 - wanted.color_jitter), 1 + wanted.color_jitter
        factors = lowest + (highest - lowest) * drawn[:3]
        return [
            [(_JITTER[k], members, factors[k, members]) for k in range(3) if len(members := np.flatnonzero(turn == k))]
            for turn in order.T
        ]

    def _layer(self, magnitude: float, drawn: Floats) -> list[Operation]:
        wanted, choice = self.augmentation, drawn[0] * len(OPERATIONS)
        chosen = np.where(drawn[1] < _APPLIED, choice.astype(int), -1)
        # What is left of the choice is as uniform as the choice.
        sign = np.where(choice % 1 < 0.5, 1.0, -1.0)
        normal = np.sqrt(-2 * np.log(1 - drawn[2])) * np.cos(2 * np.pi * drawn[3])  # Box and Muller's
        magnitudes = np.clip(magnitude + wanted.rand_augment_std * normal, 0, 10)
        return [
            (name, members, argument(name, magnitudes[members], sign[members], wanted.rand_augment_increasing))
            for number, name in enumerate(OPERATIONS)
            if len(members := np.flatnonzero(chosen == number))
        ]

    def _erased(self, first: int, count: int, channels: int, height: int, width: int) -> NDArray[np.int64]:
        erased = np.zeros((count, 5), np.int64)
        if not self.augmentation.erasing:
            return erased
        drawn = self._drawn(first, count, range(1 + _TRIES))
        area, shape, down, across = np.moveaxis(drawn[1:], 1, 0)
        area = (_AREAS[0] + (_AREAS[1] - _AREAS[0]) * area) * (height * width)
        ratio = np.exp(np.log(_NARROWEST) * (1 - 2 * shape))
        rows, columns = (np.rint(np.sqrt(values)).astype(int) for values in (area * ratio, area / ratio))
        tops, lefts = (down * (height - rows + 1)).astype(int), (across * (width - columns + 1)).astype(int)
        fits = (rows < height) & (columns < width)
        some = np.flatnonzero((drawn[0, 0] < self.augmentation.erasing) & fits.any(0))
        tries = fits[:, some].argmax(0)
        erased[some, :4] = np.stack([values[tries, some] for values in (tops, lefts, rows, columns)], 1)
        room = _noise_numbers(channels, height, width) - channels * erased[:, 2] * erased[:, 3]
        erased[some, 4] = (drawn[0, 1] * room)[some].astype(int)
        return erased

    def _mixing(self, first: int, height: int, width: int) -> Mixing:
        mixup, cutmix = self.augmentation.mixup, self.augmentation.cutmix
        if not mixup and not cutmix:
            return Mixing()
        # NumPy keeps RandomState's beta distribution as it is in all versions; a Generator's may change.
        numbers = np.random.RandomState(np.random.Philox(key=self.seed, counter=(first + 1) << 64))
        cut = bool(cutmix) and (numbers.random_sample() < 0.5 or not mixup)
        alpha = cutmix if cut else mixup
        share = float(numbers.beta(alpha, alpha))
        if not cut:
            return Mixing(share, 1 - share)
        rows, columns = int(height * np.sqrt(1 - share)), int(width * np.sqrt(1 - share))
        y, x = int(numbers.randint(height)), int(numbers.randint(width))
        top, bottom = max(y - rows // 2, 0), min(y + (rows + 1) // 2, height)
        left, right = max(x - columns // 2, 0), min(x + (columns + 1) // 2, width)
        share = 1 - (bottom - top) * (right - left) / (height * width)
        return Mixing(share, swapped=(top, left, bottom - top, right - left))

    def _pixels(self, images: torch.Tensor, drawn: Drawn) -> torch.Tensor:
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        out = torch.empty(images.shape, dtype=self.dtype, device=images.device, memory_format=layout)
        if not images.numel():
            return out
        blocks = self._blocks_of(images)
        noise = self._noise_on(images, blocks)
        if blocks is not None:
            prepare(blocks, _dense(images), drawn, self._constants, noise, out).run(out)
            return out
        constants = torch.from_numpy(np.stack(list(self._constants.values())))
        constants = (constants.pin_memory() if images.is_cuda else constants).to(images.device, non_blocking=True)
        scale, shift, fill = constants[..., None, None]
        changed = apply(images, drawn.layers, fill)
        pixels = out if self.dtype == torch.float32 else torch.empty_like(images, dtype=torch.float32)
        at_once = pictures_at_once(images)
        for some, of_them in zip(changed.split(at_once), pixels.split(at_once), strict=True):
            of_them.copy_(some).mul_(scale).add_(shift)
        for sample in np.flatnonzero(drawn.erased[:, 2]):
            top, left, rows, columns, begin = drawn.erased[sample].tolist()
            channels = images.shape[1]
            of_it = noise[begin : begin + channels * rows * columns].view(channels, rows, columns)
            pixels[int(sample), :, top : top + rows, left : left + columns] = of_it
        _mix(pixels, drawn.mixing)
        return out if pixels is out else out.copy_(pixels)

    def _noise_on(self, images: torch.Tensor, blocks: Blocks | None) -> torch.Tensor:
        """Noise for erased rectangles on the device of the images, drawn when it is first needed."""
        needed = _noise_numbers(*images.shape[1:]) if self.augmentation.erasing else 0
        if needed and (len(self._noise) < needed or self._noise.device != images.device):
            numbers = np.random.RandomState(np.random.Philox(key=self.seed)).standard_normal(needed).astype(np.float32)
            if blocks is None:
                self._noise = torch.from_numpy(numbers).to(images.device)
            else:
                there = blocks.empty(numbers.nbytes)
                blocks.upload(numbers.view(np.uint8), there)
                self._noise = there.view(torch.float32)
        return self._noise

    def _blocks_of(self, images: torch.Tensor) -> Blocks | None:
        """What runs kernels on the device of the images; None where torch's operations do the same."""
        if self._blocks is not None or not images.is_cuda:
            return self._blocks
        return _gpu(images.device)

    def _drawn(self, first: int, count: int, blocks: Sequence[int]) -> Floats:
        """Numbers in [0, 1) of samples: (blocks, 4, samples)."""
        samples = np.arange(first, first + count, dtype=np.uint64)
        low, high = samples & np.uint64(2**32 - 1), samples >> np.uint64(32)
        words = keyed.words(self.seed, keyed.Purpose.AUGMENTATION, low, high, np.array(blocks)[:, None])
        return keyed.unit(np.moveaxis(words, 2, 1))

    def _check(self, images: torch.Tensor) -> None:
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in self._channels:
            channels = " or ".join(map(str, self._channels))
            raise ValueError(
                f"images are {images.dtype} {tuple(images.shape)}; expected uint8 (batch, {channels}, height, width)"
            )


def _mix(pixels: torch.Tensor, mixing: Mixing) -> None:
    """Mixes the first pictures with the last ones, in place; what is in the middle of an odd batch stays as it is."""
    top, left, rows, columns = mixing.swapped
    if not mixing.weight and not rows * columns:
        return
    window, half = pixels[..., top : top + rows, left : left + columns] if rows else pixels, len(pixels) // 2
    for begin in range(0, half, at_once := pictures_at_once(pixels)):
        end = min(begin + at_once, half)
        some, others = window[begin:end], window[len(pixels) - end : len(pixels) - begin]
        if rows:
            before = some.flip(0)
            some.copy_(others.flip(0))
            others.copy_(before)
        else:  # not by lerp_, which rounds as the processor likes
            moved = others.flip(0).sub_(some).mul_(mixing.weight)
            some.add_(moved)
            others.sub_(moved.flip(0))


def _noise_numbers(channels: int, height: int, width: int) -> int:
    return max(_NOISE, 2 * channels * height * width)


def _dense(images: torch.Tensor) -> torch.Tensor:
    """Images as kernels read them: planes of channels, or channels last."""
    return images if images.is_contiguous(memory_format=torch.channels_last) else images.contiguous()


@cache
def _gpu(device: torch.device) -> Gpu | None:
    """A GPU that runs our kernels; None where it or its driver is too old for them, or no compiler is installed."""
    try:
        gpu = Gpu(device)
        gpu.kernel("augment", "augment_float32_3")
    except (ImportError, RuntimeError):
        return None
    return gpu
