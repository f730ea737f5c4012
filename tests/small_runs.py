"""Small runs: a recipe, a network that takes no time, and as a script the runs of one rank of two."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

import fdsl
from fdsl.train.pretraining import PretrainReport, pretrain
from fdsl.train.recipes import Recipe
from fdsl.train.sources import DrawnSource

# An epoch is six batches of sixteen, so that ten steps end in the second. What can be random, is.
SETTINGS = {
    "model.name": "fdsl_small",
    "optimizer.clip_norm": 1.0,
    "schedule.steps": 10,
    "schedule.warmup_share": 0.2,
    "augmentation.mixup": 0.8,
    "augmentation.erasing": 0.25,
    "training.batch_size": 16,
    "training.ema": 0.9,
}
# What gives the same weights on any number of ranks: no dropout, no mixing within a rank's part. Two have 7 and 8.
PLAIN: dict[str, Any] = {"augmentation.mixup": 0.0, "training.batch_size": 15}


def recipe(changes: dict[str, Any] | None = None) -> Recipe:
    settings: dict[str, Any] = {}
    for name, value in {**SETTINGS, **(changes or {})}.items():
        part, _, key = name.partition(".")
        settings.setdefault(part, {})[key] = value
    return Recipe.model_validate(settings)


class Small(nn.Sequential):  # type: ignore[misc]
    """With dropout (random numbers) and batch norm (state beside the weights), or with neither.

    Args:
        die_at: the forward pass of training at which the process of the last rank is killed.
        memory: pictures for which there is memory.
    """

    def __init__(
        self, channels: int = 1, classes: int = 4, plain: bool = False, die_at: int = 0, memory: int = 1000
    ) -> None:
        super().__init__(
            nn.Conv2d(channels, 8, 3, 2),
            nn.GroupNorm(2, 8) if plain else nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.0 if plain else 0.2),
            nn.Linear(32, classes),
        )
        self.die_at, self.memory, self.passes = die_at, memory, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.passes += self.training
        if self.die_at and self.passes == self.die_at and os.environ.get("RANK", "1") == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        if len(images) > self.memory:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.14 GiB.")
        return super().forward(images)


def source() -> DrawnSource:
    catalog = fdsl.search("fractaldb", categories=4, seed=3)
    return DrawnSource(
        *fdsl.Dataset(catalog, range(0, 1000, 32), fdsl.RenderSpec(size=24, points=2000, pad=1)).split(0.8)
    )


def run(output: Path, changes: dict[str, Any] | None = None, **more: Any) -> PretrainReport:
    """Trains `Small`, always with the same weights at first; `plain` and `die_at` are its own."""
    torch.manual_seed(0)
    network = Small(**{name: more.pop(name) for name in ("plain", "die_at") if name in more})
    arguments: dict[str, Any] = {"device": "cpu", "progress": False, "source": source()}
    return pretrain(recipe(changes), output=output, network=network, **arguments | more)


if __name__ == "__main__":  # a rank that a launcher started
    folder = Path(sys.argv[1])
    run(folder / "plain", PLAIN, plain=True)
    run(folder / "whole")
