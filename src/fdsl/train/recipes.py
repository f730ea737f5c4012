"""Recipes: everything about a training run, as YAML, each a published setting with its source."""

from __future__ import annotations

from typing import Any, Literal

try:
    from pydantic import BaseModel, ConfigDict, Field
except ImportError as error:
    raise ImportError(f"recipes need {error.name}, which is not installed; pip install 'fdsl[train]'") from error


class Settings(BaseModel):
    """A group of settings; unknown names and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class View(Settings):
    """A random-resized-crop: in the formula's plane where pictures are drawn, by torchvision where they are files."""

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    rotation: float = 0.0
    flip: float = 0.0


class Data(Settings):
    """What is seen.

    Args:
        source: what `fdsl.catalog` takes, "shards:PATTERN", "imagefolder:FOLDER", or a downstream dataset.
        instances: of each category, of what is drawn.
        held_out: share of the weight rows (or of a folder's files) that training does not see; it is measured on them.
        size, points, draw, color, pad, fit, options: `RenderSpec`'s, of what is drawn.
        channels: 1 or 3.
        crop_of: draw (or resize) so many pixels and take a random window of `size`, unscaled.
        view: a random-resized-crop. None of the two: the whole picture.
        mean, std: pixels in 0 to 1 are shifted and scaled by them.
        repeats: how often a picture comes in an epoch, each time with another view: repeated augmentation.
        seed: of the dataset.
    """

    source: str = "fractaldb-1k"
    instances: int = Field(1000, ge=1)
    held_out: float = Field(0.0, ge=0, lt=1)
    size: int = Field(224, ge=1)
    points: int | None = None
    draw: str | None = None
    color: str | None = None
    channels: Literal[1, 3] = 3
    pad: int | None = None
    fit: str | None = None
    options: dict[str, Any] = {}
    crop_of: int | None = None
    view: View | None = None
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    repeats: int = Field(1, ge=1)
    seed: int = 0


class Model(Settings):
    """A timm model: its name there, and options that `timm.create_model` takes (drop_path_rate, ...)."""

    name: str = "deit_tiny_patch16_224"
    options: dict[str, Any] = {}


class Optimizer(Settings):
    """The optimizer.

    Args:
        name: timm's.
        learning_rate: at its highest.
        per_batch: the batch size it is for; it is scaled in proportion to the run's. None: it is as it is.
        momentum: of SGD.
        weight_decay: not of biases and norms.
        clip_norm: gradients are clipped to it.
    """

    name: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0)
    per_batch: int | None = None
    momentum: float = 0.9
    weight_decay: float = Field(0.05, ge=0)
    clip_norm: float | None = None


class Schedule(Settings):
    """How long a run is, and its learning rate.

    Args:
        epochs, steps, seconds: the length: one of them. With seconds the schedule follows the clock.
        shape: "cosine" to `end`, or "steps": times `factor` at each of `milestones`.
        per: whether the rate changes every step or every epoch.
        warmup_epochs, warmup_steps, warmup_share: of a linear rise from `warmup_from`: one of them, or none. It is a
            part of the cosine's length, as in timm.
        warmup_from, end: learning rates.
        milestones: epochs.
        factor: of each milestone.
    """

    epochs: int | None = None
    steps: int | None = None
    seconds: float | None = None
    shape: Literal["cosine", "steps"] = "cosine"
    per: Literal["step", "epoch"] = "step"
    warmup_epochs: float | None = None
    warmup_steps: int | None = None
    warmup_share: float | None = None
    warmup_from: float = 0.0
    end: float = 0.0
    milestones: tuple[int, ...] = ()
    factor: float = 0.1


class Augmentation(Settings):
    """What is done to pixel values and labels, on the device, keyed by sample.

    Args:
        rand_augment: magnitude (0 to 10), or None for none; timm's "rand-mM-mstdS-incI".
        rand_augment_std: of the magnitude, drawn for each operation.
        rand_augment_layers: operations a picture.
        rand_augment_increasing: of timm's operations those that grow stronger with the magnitude.
        color_jitter: largest change of brightness, contrast and saturation. timm leaves it out beside RandAugment.
        erasing: chance of a random rectangle of noise.
        mixup, cutmix: alpha of the beta distribution; 0 is never. Where both are over 0, each batch takes one of them.
        label_smoothing: share that is spread over all classes.
    """

    rand_augment: float | None = None
    rand_augment_std: float = 0.5
    rand_augment_layers: int = 2
    rand_augment_increasing: bool = False
    color_jitter: float = 0.0
    erasing: float = Field(0.0, ge=0, le=1)
    mixup: float = Field(0.0, ge=0)
    cutmix: float = Field(0.0, ge=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)


class Training(Settings):
    """How a run goes.

    Args:
        batch_size: pictures of a step, of all ranks together.
        precision: "auto" is bf16 where the device is fast at it.
        compile: with torch.compile.
        ema: decay of an exponential moving average of the weights, which is then what is measured and saved beside them.
        seed: keys weights, order, dropout and augmentation.
        checkpoint_every: steps; there is always one at the end.
        evaluations: how many, evenly over the run, the last one at its end.
        held_out_images: at most so many in each.
    """

    batch_size: int = Field(256, ge=1)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    compile: bool = False
    ema: float | None = None
    seed: int = 0
    checkpoint_every: int = Field(1000, ge=1)
    evaluations: int = Field(10, ge=1)
    held_out_images: int = Field(10_000, ge=1)


class Recipe(Settings):
    """A whole run; `title` and `source` say what it repeats, and where that was published."""

    title: str = ""
    source: str = ""
    data: Data = Data()
    model: Model = Model()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule(epochs=300)
    augmentation: Augmentation = Augmentation()
    training: Training = Training()
