"""timm models for the pictures of a dataset, and what else every training step of ours has."""

from __future__ import annotations

import difflib
from typing import Any

try:
    import timm
    import torch
    from timm.optim import create_optimizer_v2
except ImportError as error:
    raise ImportError(f"training needs {error.name}, which is not installed; pip install 'fdsl[train]'") from error

from fdsl.datasets import IndexedPictures

# The norm that gradients are clipped to.
CLIP_NORM = 1.0
# About a third of a picture's pixels are hit, at half of full brightness.
_PIXEL_MEAN, _PIXEL_STD = 0.2, 0.5


class PixelNorm(torch.nn.Module):  # type: ignore[misc]
    """uint8 pixels (B, C, H, W) to float32: (x / 255 − 0.2) / 0.5, on the device that they are on."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalises a batch."""
        return (images.float() - 255 * _PIXEL_MEAN) * (1 / (255 * _PIXEL_STD))


def network_named(name: str, dataset: IndexedPictures) -> torch.nn.Module:
    """timm's model of that name, untrained, for the pictures and classes of a dataset.

    Raises:
        ValueError: timm has no such model (names the near ones), or it does not take such pictures.

    >>> network_named("resnet18", dataset).fc.out_features
    2
    """
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.4)
        raise ValueError(f"timm has no model {name!r}; expected one of timm.list_models(), such as {', '.join(near)}")
    shape = (dataset.spec.image_channels, dataset.spec.size, dataset.spec.size)
    arguments = {"pretrained": False, "num_classes": len(dataset.classes), "in_chans": shape[0]}
    try:
        try:
            network = timm.create_model(name, img_size=shape[1], **arguments)
        except TypeError:  # convolutions take any size
            torch.manual_seed(torch.initial_seed())
            network = timm.create_model(name, **arguments)
        with torch.inference_mode():
            network.eval()(torch.zeros(1, *shape))
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"model {name!r} does not take images of {shape} (channels, height, width): {reason}"
        ) from None
    return network.train().to(memory_format=torch.channels_last)  # faster, for convolutions


def optimizer_of(network: torch.nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW, without decay of biases and norms."""
    return create_optimizer_v2(network, "adamw", lr=learning_rate, weight_decay=weight_decay)


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
    return device.type == "cuda" or bool(capabilities.get("amx_bf16"))
