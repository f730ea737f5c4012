"""How long a run is, and the learning rate of each of its steps."""

from __future__ import annotations

import math
from bisect import bisect_right

from fdsl.train.recipes import Schedule


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Full batches that the images of an epoch give: what `steps_of` and `learning_rate` count epochs by.

    An epoch is as many pictures as there are, also where each comes several times: repeated augmentation, as published,
    takes a third of the pictures three times (`RASampler` of DeiT, samplers.py).

    Raises:
        ValueError: there are fewer images than a batch takes.

    >>> steps_per_epoch(1_000_000, 256)
    3906
    """
    if images < batch_size:
        raise ValueError(f"batch_size is {batch_size}; expected at most the {images} images there are to train on")
    return images // batch_size


def steps_of(schedule: Schedule, steps_per_epoch: int) -> int | None:
    """The steps of a whole run; None where the clock decides.

    >>> steps_of(Schedule(epochs=300), steps_per_epoch=3906)
    1171800
    """
    return schedule.epochs * steps_per_epoch if schedule.epochs is not None else schedule.steps


def unreached(schedule: Schedule, steps_per_epoch: int) -> str | None:
    """What of the schedule a run is too short for: its warm-up, or its milestones; None where it is long enough.

    >>> unreached(Schedule(epochs=10, warmup_epochs=10), steps_per_epoch=100)
    'the warm-up takes 1,000 steps'
    """
    steps = steps_of(schedule, steps_per_epoch)
    if steps is None:
        return None
    if (warmup := _warmup_steps(schedule, steps, steps_per_epoch)) >= steps:
        return f"the warm-up takes {warmup:,.0f} steps"
    if schedule.milestones and (first := schedule.milestones[0] * steps_per_epoch) >= steps:
        return f"the first milestone comes after {first:,} steps"
    return None


def _warmup_steps(schedule: Schedule, steps: int, steps_per_epoch: int) -> float:
    if schedule.warmup_epochs is not None:
        return schedule.warmup_epochs * steps_per_epoch
    return schedule.warmup_steps if schedule.warmup_steps is not None else (schedule.warmup_share or 0.0) * steps


def learning_rate(
    schedule: Schedule, highest: float, step: int, steps_per_epoch: int, done: float | None = None
) -> float:
    """The learning rate that a step is taken with: as timm's CosineLRScheduler, or torch's MultiStepLR, gives it.

    The warm-up is a part of the cosine's length (timm's `warmup_prefix=False`). With `per="epoch"` all steps of an
    epoch have the rate of its first one.

    Args:
        schedule: the recipe's.
        highest: the rate between warm-up and decay.
        step: its number in the run, from 0.
        steps_per_epoch: of the data; see the function of that name.
        done: with `schedule.seconds`, the share of the time that is over before the step, 0 to 1.

    Raises:
        ValueError: `done` is missing with `schedule.seconds`.

    >>> learning_rate(Schedule(steps=100, warmup_steps=10), 1e-3, step=5, steps_per_epoch=50)
    0.0005
    """
    epoch = step // steps_per_epoch
    if schedule.seconds is not None:
        if done is None:
            raise ValueError("done is None; expected the share of schedule.seconds that is over")
        now, length, warmup = done, 1.0, schedule.warmup_share or 0.0
    else:
        # In steps or, where the rate changes every epoch, in epochs.
        unit = steps_per_epoch if schedule.per == "epoch" else 1
        steps = steps_of(schedule, steps_per_epoch) or 0
        now, length = step // unit, steps / unit
        warmup = _warmup_steps(schedule, steps, steps_per_epoch) / unit
    if now < warmup:
        return schedule.warmup_from + now * ((highest - schedule.warmup_from) / warmup)
    if schedule.shape == "steps":
        return highest * schedule.factor ** bisect_right(schedule.milestones, epoch)
    if now >= length:
        return schedule.end
    return schedule.end + 0.5 * (highest - schedule.end) * (1 + math.cos(math.pi * now / length))
