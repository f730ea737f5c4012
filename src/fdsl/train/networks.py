"""timm models and optimizers as recipes name them, and the devices that they train on."""

from __future__ import annotations

import difflib
from typing import Any

try:
    import timm
    import torch
    from timm.optim import create_optimizer_v2
except ImportError as error:
    raise ImportError(f"training needs {error.name}, which is not installed; pip install 'fdsl[train]'") from error

from fdsl.train.recipes import Model, Optimizer


def network_of(model: Model, channels: int, size: int, classes: int) -> torch.nn.Module:
    """timm's model of that name and options, untrained, in channels-last memory.

    Args:
        model: the recipe's.
        channels: of a picture.
        size: pixels of a side.
        classes: outputs.

    Raises:
        ValueError: timm has no such model (names the near ones), or it does not take such pictures or options.

    >>> network_of(Model(name="resnet18"), channels=3, size=64, classes=10).fc.out_features
    10
    """
    if not timm.is_model(model.name):
        models = timm.list_models()
        near = [one for one in models if one.startswith(model.name)][:3]
        near = near or difflib.get_close_matches(model.name, models, n=3, cutoff=0.4)
        raise ValueError(
            f"timm has no model {model.name!r}; expected one of timm.list_models(), such as {', '.join(near)}"
        )
    arguments = {"pretrained": False, "num_classes": classes, "in_chans": channels} | model.options
    try:
        try:
            network = timm.create_model(model.name, **{"img_size": size} | arguments)
        except TypeError:  # convolutions take any size
            torch.manual_seed(torch.initial_seed())
            network = timm.create_model(model.name, **arguments)
        with torch.inference_mode():
            network.eval()(torch.zeros(1, channels, size, size))
    except Exception as error:
        reason = str(error).partition("\n")[0]
        options = f" with options {model.options}" if model.options else ""
        raise ValueError(
            f"model {model.name!r}{options} does not take images of {(channels, size, size)} "
            f"(channels, height, width): {reason}"
        ) from None
    return network.train().to(memory_format=torch.channels_last)  # faster, for convolutions


def highest_rate(optimizer: Optimizer, batch_size: int) -> float:
    """The learning rate between warm-up and decay, scaled in proportion to the batch size if the recipe says so.

    >>> highest_rate(Optimizer(learning_rate=3e-4, per_batch=512), batch_size=64)
    3.75e-05
    """
    return optimizer.learning_rate * (batch_size / optimizer.per_batch if optimizer.per_batch else 1.0)


def optimizer_of(network: torch.nn.Module, optimizer: Optimizer, batch_size: int) -> torch.optim.Optimizer:
    """The optimizer of what requires gradients, at its highest rate.

    Args:
        network: whose biases, norms and `no_weight_decay()` are not decayed, unless the recipe says `decay_all`.
        optimizer: the recipe's.
        batch_size: of all ranks together.
    """
    name = "adamw" if optimizer.name == "adamw" else "sgd" if optimizer.nesterov else "momentum"
    return create_optimizer_v2(
        network,
        name,
        lr=highest_rate(optimizer, batch_size),
        weight_decay=optimizer.weight_decay,
        momentum=optimizer.momentum,
        filter_bias_and_bn=not optimizer.decay_all,
    )


def device_named(name: str) -> torch.device:
    """The device of that name; "auto" is CUDA where there is one.

    Raises:
        ValueError: there is no such kind of device.
        RuntimeError: it is not there.

    >>> device_named("cpu")
    device(type='cpu')
    """
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device is {name!r}; expected 'auto', 'cpu', 'cuda' or 'cuda:1'")
    if device.type == "cpu":
        return device
    index = device.index or 0
    if index >= torch.cuda.device_count():
        raise RuntimeError(f"device {name!r} is not there: torch sees {torch.cuda.device_count()} CUDA GPUs")
    return torch.device("cuda", index)


def device_text(device: torch.device) -> str:
    """What a report calls it: a GPU's name, or "cpu, 2 threads"."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"cpu, {torch.get_num_threads()} threads"


def has_fast_bf16(device: torch.device) -> bool:
    """Whether training in bf16 is faster there than in float32."""
    # Processors with AMX train 1.3 to 1.5 times as fast; newer versions of torch tell of them.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    if device.type == "cuda":
        return bool(torch.cuda.get_device_capability(device) >= (8, 0))  # before Ampere it is emulated
    return bool(capabilities.get("amx_bf16"))
