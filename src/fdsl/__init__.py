"""fdsl: formula-driven supervised learning, with pictures drawn in real time.

The public names. Everything else is reached through them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fdsl import clouds, published
from fdsl.candidates import search
from fdsl.catalogs import Catalog
from fdsl.compositions import Composition
from fdsl.datasets import Dataset
from fdsl.engines.pixel_format import PixelFormat
from fdsl.families.user import family
from fdsl.mixing import MixedDataset, mix
from fdsl.order import EpochBatches, EpochOrder
from fdsl.presets import catalog
from fdsl.rendering import Crop, RandomView, RenderSpec

if TYPE_CHECKING:
    from fdsl.feed import Feed

__version__ = "0.1.0"
__all__ = [
    "Catalog",
    "Composition",
    "Crop",
    "Dataset",
    "EpochBatches",
    "EpochOrder",
    "Feed",
    "MixedDataset",
    "PixelFormat",
    "RandomView",
    "RenderSpec",
    "catalog",
    "clouds",
    "family",
    "mix",
    "published",
    "search",
]


def __getattr__(name: str) -> Any:
    if name == "Feed":  # needs torch, which `import fdsl` does not
        from fdsl.feed import Feed

        return Feed
    raise AttributeError(f"module 'fdsl' has no attribute {name!r}")
