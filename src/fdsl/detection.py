"""Dense labels as torch users expect them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

try:
    import torch
except ImportError as error:
    raise ImportError("fdsl.detection needs torch, which is not installed; pip install 'fdsl[torch]'") from error


def collate(items: Sequence[tuple[Any, Mapping[str, Any]]]) -> tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]:
    """A batch as torchvision's detectors take it, for `DataLoader(dataset, collate_fn=collate)`.

    Args:
        items: (image, labels) of a Dataset with dense labels.

    Returns:
        A list of images, uint8 (C, H, W), and one of dicts of tensors. Detectors want images between 0 and 1, and most
        want three channels, `RenderSpec(channels=3)`:

    >>> import fdsl, torch, torchvision
    >>> from fdsl.detection import collate
    >>> catalog = fdsl.search("fractaldb", categories=2)
    >>> dataset = fdsl.Dataset(catalog, 8, fdsl.RenderSpec(channels=3), labels=("class", "mask", "boxes"))
    >>> images, targets = next(iter(torch.utils.data.DataLoader(dataset, batch_size=2, collate_fn=collate)))
    >>> detector = torchvision.models.detection.maskrcnn_resnet50_fpn(
    ...     weights=None, weights_backbone=None, num_classes=len(dataset.classes) + 1
    ... )
    >>> losses = detector([image.float() / 255 for image in images], targets)
    """
    images, targets = zip(*items, strict=True)
    return (
        [torch.from_numpy(image) for image in images],
        [{name: torch.from_numpy(array) for name, array in target.items()} for target in targets],
    )
