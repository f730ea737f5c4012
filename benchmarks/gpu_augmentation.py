#!/usr/bin/env python3
"""Augmentation on a GPU: our kernels, the same by torch's operations, Kornia and torchvision v2, in one run.

256 pictures of 224 pixels, uint8 on the device, become normalised bfloat16 (Kornia's and torchvision's float32): colour
jitter or RandAugment (two layers, magnitude 9), erasing of a quarter, mixup. Ours draw for each picture; Kornia picks
RandAugment's operations once a batch, and torchvision draws all once a batch. Both mix by one operation of torch's.
Without a GPU nothing is measured: the kernels then run on the host, on three small pictures, and are checked.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import torch
from rounds import import_file, machine, versions

from fdsl.train import augmentation as augmenting
from fdsl.train.recipes import Augmentation

BATCH, SIZE, CLASSES, ROUNDS, BATCHES_A_ROUND = 256, 224, 1000, 7, 50
MEAN, STD, MIXED, ERASED = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], 0.3, 0.25
RECIPES: dict[str, dict[str, float]] = {"jitter": {"color_jitter": 0.4}, "rand_augment": {"rand_augment": 9.0}}
CONTESTANTS = ("kernels", "torch", "kornia", "torchvision")
PACKAGES = ["torch", "torchvision", "kornia", "cuda-core", "numpy"]
NOT_RUN = "not run"
Work = Callable[[int], object]


def augmentation() -> dict[str, Any]:
    """Images a second, by recipe and contestant, after a check that kernels and torch's operations agree."""
    report: dict[str, Any] = {"machine": machine(), "versions": versions(PACKAGES, {})}
    if not torch.cuda.is_available():
        host_blocks = import_file("host_blocks", Path(__file__).parents[1] / "tests" / "host_blocks.py")
        with tempfile.TemporaryDirectory() as folder:
            check(torch.device("cpu"), 3, 32, host_blocks.HostBlocks(Path(folder)))
        names = {f"{recipe}/{contestant}": NOT_RUN for recipe in RECIPES for contestant in CONTESTANTS}
        return report | {"checked": "on the host", "images_per_s": names}
    device = torch.device("cuda", torch.cuda.current_device())
    check(device, 32, SIZE, None)
    speeds: dict[str, Any] = {}
    for recipe in RECIPES:
        images, labels = pictures(BATCH, SIZE, device)
        works = dict(contestants(recipe, images, labels))
        for name in CONTESTANTS:
            speeds[f"{recipe}/{name}"] = images_per_s(works[name]) if name in works else NOT_RUN
    return report | {"gpu": torch.cuda.get_device_name(device), "checked": "on the GPU", "images_per_s": speeds}


def pictures(count: int, size: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    numbers = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 3, size, size), dtype=torch.uint8, generator=numbers)
    return images.to(device), torch.arange(count, device=device) % CLASSES


def ours(recipe: str, dtype: str, blocks: Any = None) -> Any:
    settings = Augmentation(**RECIPES[recipe], rand_augment_increasing=True, erasing=ERASED, mixup=0.8)
    return augmenting.Augment(settings, CLASSES, MEAN, STD, 0, dtype, blocks=blocks)


def check(device: torch.device, count: int, size: int, blocks: Any) -> None:
    """Stops where kernels and torch's operations differ in more than what interpolation rounds."""
    images, labels = pictures(count, size, device)
    for recipe in RECIPES:
        done = ours(recipe, "float32", blocks)(images, labels, 0)[0].cpu()
        expected = ours(recipe, "float32")(images.cpu(), labels.cpu(), 0)[0]
        different = (done != expected).float().mean().item()
        if different > (0.001 if recipe == "rand_augment" else 0):
            raise SystemExit(f"{recipe}: {different:.2%} of the values differ from those of torch's operations")


def contestants(recipe: str, images: torch.Tensor, labels: torch.Tensor) -> Iterator[tuple[str, Work]]:
    """Each that is installed, as what it does with a batch's number."""
    change = ours(recipe, "bfloat16")
    yield "kernels", lambda number: change(images, labels, number * BATCH)

    def by_torch(number: int) -> object:
        with mock.patch.object(augmenting, "_gpu", return_value=None):
            return change(images, labels, number * BATCH)

    yield "torch", by_torch

    def mixed(pixels: torch.Tensor) -> torch.Tensor:
        return pixels.lerp(pixels.flip(0), MIXED)

    try:
        import kornia.augmentation as kornia
        from kornia.augmentation.auto import RandAugment
    except ImportError:
        pass
    else:
        jitter = kornia.ColorJitter(0.4, 0.4, 0.4, 0.0, p=1.0)
        of_kornia = kornia.AugmentationSequential(
            jitter if recipe == "jitter" else RandAugment(n=2, m=27),  # of 30
            kornia.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
            kornia.RandomErasing(p=ERASED),
        )
        yield "kornia", lambda _: mixed(of_kornia(images.float() / 255))
    try:
        from torchvision.transforms import v2
    except ImportError:
        return
    of_torchvision = v2.Compose(
        [
            v2.ColorJitter(0.4, 0.4, 0.4) if recipe == "jitter" else v2.RandAugment(2, 27),  # of 31
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
            v2.RandomErasing(ERASED, value="random"),
        ]
    )
    yield "torchvision", lambda _: mixed(of_torchvision(images))


def images_per_s(work: Work) -> float:
    """The median of rounds, each from the first launch to the end of the last, the host's part included."""
    seconds = []
    for number in range(1 + ROUNDS):  # the first compiles
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for batch in range(BATCHES_A_ROUND):
            work(number * BATCHES_A_ROUND + batch)
        end.record()
        end.synchronize()
        seconds.append(begin.elapsed_time(end) / 1000)
    return BATCHES_A_ROUND * BATCH / median(seconds[1:])


if __name__ == "__main__":
    print(json.dumps(augmentation(), indent=2))
