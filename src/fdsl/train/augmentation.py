"""Augmentation of whole batches, keyed by sample: RandAugment or colour jitter, erasing, mixing, as timm does them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np

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

from fdsl.train.recipes import Augmentation

# The chance that an operation of RandAugment that was chosen is applied.
_APPLIED = 0.5
_JITTER = ("Brightness", "Contrast", "Color")
# Of random erasing: smallest and largest area, narrowest shape, how many rectangles are tried, numbers of noise.
_AREAS, _NARROWEST, _TRIES, _NOISE = (0.02, 1 / 3), 0.3, 10, 1 << 20
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

    A batch of 64 takes two thirds of the processor time that timm's transforms take on Pillow at 224 pixels, less than
    a third at 32. Half of that of RandAugment goes into the interpolation of warps; the rest is bound by memory.

    Args:
        augmentation: what is done.
        classes: labels lie below it.
        mean, std: of pixels in 0 to 1, one number or three. Warps fill with the mean.
        seed: 0 to 2^64 - 1.

    Raises:
        ValueError: a number is out of its range.

    >>> augment = Augment(Augmentation(rand_augment=9, mixup=0.8, cutmix=1.0), 10, mean=[0.5], std=[0.5], seed=0)
    >>> pixels, targets = augment(torch.zeros(4, 3, 32, 32, dtype=torch.uint8), torch.arange(4), first=0)
    >>> pixels.shape, pixels.dtype, targets.shape
    (torch.Size([4, 3, 32, 32]), torch.float32, torch.Size([4, 10]))
    """

    _scale: torch.Tensor
    _shift: torch.Tensor
    _fill: torch.Tensor
    _noise: torch.Tensor

    def __init__(
        self, augmentation: Augmentation, classes: int, mean: Sequence[float], std: Sequence[float], seed: int
    ) -> None:
        super().__init__()
        if classes < 1:
            raise ValueError(f"classes is {classes}; expected 1 or more")
        for name, numbers in (("mean", mean), ("std", std)):
            if len(numbers) not in (1, 3):
                raise ValueError(f"{name} is {numbers!r}; expected one number, or three")
        if min(std) <= 0:
            raise ValueError(f"std is {std!r}; expected numbers over 0")
        self.augmentation, self.classes, self.seed = augmentation, classes, keyed.check_seed(seed)
        self._channels = (1, 3) if len(mean) == len(std) == 1 else (3,)
        for name, constant in (
            ("_scale", 1 / (255 * np.asarray(std))),
            ("_shift", -np.asarray(mean) / np.asarray(std)),
            ("_fill", np.rint(255 * np.asarray(mean)).clip(0, 255)),
        ):
            self.register_buffer(name, torch.from_numpy(constant).float().view(1, -1, 1, 1), persistent=False)
        self.register_buffer("_noise", torch.empty(0), persistent=False)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def forward(self, images: torch.Tensor, labels: torch.Tensor, first: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch as training takes it; `images` stays as it is.

        Args:
            images: uint8 (batch, 1 or 3, height, width).
            labels: int64 (batch,), on the same device.
            first: number of the batch's first sample in the whole run; the others follow it.

        Returns:
            Pixels, normalised: float32 (batch, channels, height, width). The share of each class: float32 (batch,
            classes), of sum 1.

        Raises:
            ValueError: images are of another type or shape.
        """
        self._check(images)
        operations = self.operations(first, len(images))
        pixels = self.normalize(apply(images, operations, self._fill) if operations else images)
        if self.augmentation.erasing:
            self._erase(pixels, first)
        share = self._mix(pixels, first)
        spread = self.augmentation.label_smoothing / self.classes
        targets = torch.full((len(images), self.classes), spread, device=images.device)
        targets.scatter_(1, labels[:, None], 1 - self.augmentation.label_smoothing + spread)
        return pixels, targets * share + targets.flip(0) * (1 - share)

    def normalize(self, images: torch.Tensor) -> torch.Tensor:
        """Pixels as evaluation takes them, (x / 255 - mean) / std: uint8 (batch, channels, height, width) to float32.

        Raises:
            ValueError: images are of another type or shape.

        >>> white = torch.full((1, 1, 1, 2), 255, dtype=torch.uint8)
        >>> Augment(Augmentation(), 10, mean=[0.5], std=[0.5], seed=0).normalize(white)
        tensor([[[[1., 1.]]]])
        """
        self._check(images)
        pixels, at_once = torch.empty_like(images, dtype=torch.float32), pictures_at_once(images)
        for some, of_them in zip(images.split(at_once), pixels.split(at_once), strict=True):
            of_them.copy_(some).mul_(self._scale).add_(self._shift)
        return pixels

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

    def _erase(self, pixels: torch.Tensor, first: int) -> None:
        count, channels, height, width = pixels.shape
        drawn = self._drawn(first, count, range(1 + _TRIES))
        area, shape, down, across = np.moveaxis(drawn[1:], 1, 0)
        area = (_AREAS[0] + (_AREAS[1] - _AREAS[0]) * area) * (height * width)
        ratio = np.exp(np.log(_NARROWEST) * (1 - 2 * shape))
        rows, columns = (np.rint(np.sqrt(values)).astype(int) for values in (area * ratio, area / ratio))
        tops, lefts = (down * (height - rows + 1)).astype(int), (across * (width - columns + 1)).astype(int)
        fits = (rows < height) & (columns < width)
        numbers = max(_NOISE, 2 * channels * height * width)
        if len(self._noise) < numbers:
            noise = np.random.RandomState(np.random.Philox(key=self.seed)).standard_normal(numbers)
            self._noise = torch.from_numpy(noise).float().to(pixels.device)
        for sample in np.flatnonzero((drawn[0, 0] < self.augmentation.erasing) & fits.any(0)):
            k = fits[:, sample].argmax()
            top, left, h, w = (int(values[k, sample]) for values in (tops, lefts, rows, columns))
            begin = int(drawn[0, 1, sample] * (numbers - channels * h * w))
            noise = self._noise[begin : begin + channels * h * w].view(channels, h, w)
            pixels[int(sample), :, top : top + h, left : left + w] = noise

    def _mix(self, pixels: torch.Tensor, first: int) -> float:
        """Mixes in place, and returns the share that a picture keeps."""
        mixup, cutmix = self.augmentation.mixup, self.augmentation.cutmix
        if not mixup and not cutmix:
            return 1.0
        # NumPy keeps RandomState's beta distribution as it is in all versions; a Generator's may change.
        numbers = np.random.RandomState(np.random.Philox(key=self.seed, counter=(first + 1) << 64))
        cut = bool(cutmix) and (numbers.random_sample() < 0.5 or not mixup)
        alpha = cutmix if cut else mixup
        share = float(numbers.beta(alpha, alpha))
        weight, window = 1 - share, pixels
        if cut:
            height, width = pixels.shape[2:]
            rows, columns = int(height * np.sqrt(1 - share)), int(width * np.sqrt(1 - share))
            y, x = int(numbers.randint(height)), int(numbers.randint(width))
            top, bottom = max(y - rows // 2, 0), min(y + (rows + 1) // 2, height)
            left, right = max(x - columns // 2, 0), min(x + (columns + 1) // 2, width)
            share = 1 - (bottom - top) * (right - left) / (height * width)
            weight, window = 1.0, pixels[..., top:bottom, left:right]
        # The first pictures with the last ones; what is in the middle of an odd batch would mix with itself.
        half = len(pixels) // 2
        for begin in range(0, half, at_once := pictures_at_once(pixels)):
            end = min(begin + at_once, half)
            some, others = window[begin:end], window[len(pixels) - end : len(pixels) - begin]
            before = some.flip(0)
            some.lerp_(others.flip(0), weight)
            others.lerp_(before, weight)
        return share

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
        if self._scale.device != images.device:
            self.to(images.device)
