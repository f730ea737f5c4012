"""How fast a model trains where nothing keeps it waiting."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

from fdsl.train.networks import (  # first: it names what is missing
    device_named,
    device_text,
    has_fast_bf16,
    network_of,
    optimizer_of,
)

# isort: split
import torch
from torch.nn import functional

from fdsl.datasets import IndexedPictures
from fdsl.progress import Progress
from fdsl.train.recipes import Model, Optimizer

_WARM_UP = 3
# A GPU is waited for so seldom that it never runs out of work for that.
_SECONDS_AT_ONCE = 0.5


@dataclass(frozen=True)
class TrainingSpeed:
    """What a model trains on a device.

    Args:
        images_per_s: in steps of one batch, without any feed.
        steps: that were timed.
        device: its name.
        cpu: whether that is the processor, which the feed then shares.
    """

    images_per_s: float
    steps: int
    device: str
    cpu: bool


def training_speed(
    dataset: IndexedPictures,
    model: str,
    batch_size: int = 256,
    device: str = "auto",
    seconds: float = 5.0,
    compiled: bool = False,
    progress: Progress | None = None,
) -> TrainingSpeed:
    """Trains a timm model on one batch, over and over, as `pretrain` would: forward, backward, optimizer step.

    The batch is made of random pixels and lies on the device. bf16 where the device is fast at it. The first steps,
    in which torch compiles and tunes, are not counted.

    Args:
        dataset: whose pictures and classes the model is made for; none is drawn.
        model: a name that `timm.list_models()` has.
        batch_size: images of a step.
        device: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:1".
        seconds: to go on for, over 0; one step at least.
        compiled: with `torch.compile`.
        progress: called with (what, done, total).

    Raises:
        ValueError: timm has no such model, or it does not take such pictures.
        RuntimeError: the device is not there, or has too little memory.

    >>> training_speed(dataset, "resnet18", batch_size=8, seconds=1).images_per_s
    61.4
    """
    where = device_named(device)
    spec = dataset.spec
    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        torch.manual_seed(0)
        network = network_of(Model(name=model), spec.image_channels, spec.size, len(dataset.classes)).to(where)
        shape = (batch_size, spec.image_channels, spec.size, spec.size)
        images = torch.randint(0, 256, shape, dtype=torch.uint8, device=where)
        labels = torch.randint(0, len(dataset.classes), (batch_size,), device=where)
        optimizer = optimizer_of(network, Optimizer(), batch_size)
        forward = torch.compile(network) if compiled else network

        def step() -> None:
            with torch.autocast(where.type, torch.bfloat16, enabled=has_fast_bf16(where)):
                loss = functional.cross_entropy(forward(images.float() * (1 / 255)), labels, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        for number in range(_WARM_UP):
            with _timed(where) as took:
                step()
            if progress:
                progress("training", number + 1, _WARM_UP + round(10 * seconds))
            if number and took[0] > seconds:
                break
        at_once = max(1, int(_SECONDS_AT_ONCE / took[0]))
        steps, elapsed = 0, 0.0
        while elapsed < seconds:
            with _timed(where) as took:
                for _ in range(at_once):
                    step()
            steps, elapsed = steps + at_once, elapsed + took[0]
            if progress:
                done = min(round(10 * elapsed), round(10 * seconds))
                progress("training", _WARM_UP + done, _WARM_UP + round(10 * seconds))
    return TrainingSpeed(steps * batch_size / elapsed, steps, device_text(where), where.type == "cpu")


@contextlib.contextmanager
def _timed(device: torch.device) -> Iterator[list[float]]:
    took: list[float] = []
    began = time.perf_counter()
    yield took
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    took.append(time.perf_counter() - began)
