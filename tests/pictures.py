"""One small batch per feature of a family's pictures, and what its pixels must hash to on every engine."""

from __future__ import annotations

import hashlib
from functools import cache

import formulas  # noqa: F401 (registers families)
import numpy as np

import fdsl
from fdsl import Catalog, Crop, Dataset, RandomView, RenderSpec

CONTOURS = {
    "gray": RenderSpec(size=64),
    "gray, odd size": RenderSpec(size=61),
    "gray, three channels": RenderSpec(size=64, channels=3),
    "gray, large": RenderSpec(size=512),
    "color": RenderSpec(size=64, color="color"),
    "crop": RenderSpec(size=64, view=Crop(of=100)),
    "random view": RenderSpec(size=64, color="color", view=RandomView()),
    "random view, rotation": RenderSpec(size=64, view=RandomView(rotation=30)),
    "fresh": RenderSpec(size=64),
}
SPECS = {
    "fractaldb": {
        "point": RenderSpec(size=64, points=5_000, draw="point"),
        "point, odd size": RenderSpec(size=61, points=4_999, draw="point"),
        "fewer points than trajectories": RenderSpec(size=32, points=100, draw="point"),
        "point, stored fit": RenderSpec(size=64, points=5_000, draw="point", fit="stored"),
        "point, three channels": RenderSpec(size=64, points=5_000, draw="point", channels=3),
        "point, no padding": RenderSpec(size=64, points=5_000, draw="point", pad=0),
        "patch": RenderSpec(size=64, points=5_000),
        "patch, large": RenderSpec(size=512, points=100_000),
        "patch per point": RenderSpec(size=64, points=5_000, draw="patch_per_point"),
        "patch per point, color": RenderSpec(size=64, points=5_000, draw="patch_per_point", color="color"),
        "color": RenderSpec(size=64, points=5_000, draw="point", color="color"),
        "color, patch": RenderSpec(size=64, points=5_000, color="color"),
        "density": RenderSpec(size=64, points=5_000, draw="point", color="density"),
        "density, patch, three channels": RenderSpec(size=64, points=5_000, color="density", channels=3),
        "crop": RenderSpec(size=64, points=5_000, view=Crop(of=100)),
        "random view": RenderSpec(size=64, points=5_000, view=RandomView()),
        "random view, rotation": RenderSpec(size=64, points=5_000, view=RandomView(rotation=30), fit="stored"),
        "published instances": RenderSpec(size=64, points=5_000, options={"instance_rule": "published"}),
        "fresh": RenderSpec(size=64, points=5_000),
    },
    "bezier": {
        "gray": RenderSpec(size=64),
        "white, three channels, odd size": RenderSpec(size=61, color="white", channels=3),
        "color": RenderSpec(size=64, color="color"),
        "crop": RenderSpec(size=64, view=Crop(of=100)),
        "random view": RenderSpec(size=64, view=RandomView(rotation=30)),
        "fresh": RenderSpec(size=64),
    },
    "perlin": {
        "gray": RenderSpec(size=64),
        "three channels, odd size": RenderSpec(size=61, channels=3),
        "color": RenderSpec(size=64, color="color"),
        "crop": RenderSpec(size=64, view=Crop(of=100)),
        "random view": RenderSpec(size=64, view=RandomView(rotation=30)),
        "fresh": RenderSpec(size=64),
    },
    "rcdb": CONTOURS | {"broken contours": RenderSpec(size=64, options={"broken_contours": 50})},
    "visualatom": CONTOURS,
    "exfractaldb": {
        "point": RenderSpec(size=64),
        "point, odd size": RenderSpec(size=61, points=9_999),
        "fewer points than trajectories": RenderSpec(size=32, points=100),
        "point, stored fit": RenderSpec(size=64, fit="stored"),
        "point, large": RenderSpec(size=512, points=100_000),
        "patch": RenderSpec(size=64, draw="patch"),
        "patch per point": RenderSpec(size=64, draw="patch_per_point"),
        "patch per point, color": RenderSpec(size=64, draw="patch_per_point", color="color"),
        "color": RenderSpec(size=64, color="color"),
        "color, patch": RenderSpec(size=64, draw="patch", color="color"),
        "density": RenderSpec(size=64, color="density"),
        "crop": RenderSpec(size=64, view=Crop(of=100)),
        "random view": RenderSpec(size=64, view=RandomView()),
        "random view, rotation": RenderSpec(size=64, view=RandomView(rotation=30), fit="stored"),
        "published instances": RenderSpec(size=64, options={"instance_rule": "published"}),
        "fresh": RenderSpec(size=64),
    },
    "sparks": {
        "point": RenderSpec(size=64),
        "patch, odd size, three channels": RenderSpec(size=61, draw="patch", color="white", channels=3),
        "patch per point, color": RenderSpec(size=64, draw="patch_per_point", color="color"),
        "color, patch": RenderSpec(size=64, draw="patch", color="color"),
        "density, no padding": RenderSpec(size=64, color="density", pad=0),
        "crop": RenderSpec(size=64, view=Crop(of=100)),
        "random view, rotation": RenderSpec(size=64, view=RandomView(rotation=30)),
        "fresh": RenderSpec(size=64),
    },
    "sparks_in_space": {
        "point": RenderSpec(size=64),
        "color, random view": RenderSpec(size=64, color="color", view=RandomView(rotation=30)),
    },
    "zigzags": {
        "gray": RenderSpec(size=64),
        "color": RenderSpec(size=64, color="color"),
        "white, no padding": RenderSpec(size=61, color="white", pad=0),
        "crop": RenderSpec(size=64, view=Crop(of=100)),
        "random view, rotation": RenderSpec(size=64, view=RandomView(rotation=30)),
        "fresh": RenderSpec(size=64),
    },
    "ripples": {
        "gray": RenderSpec(size=64),
        "color": RenderSpec(size=61, color="color"),
        "three channels, crop": RenderSpec(size=64, channels=3, view=Crop(of=100)),
        "random view, rotation": RenderSpec(size=64, view=RandomView(rotation=30)),
    },
    "pcfractaldb": {
        "point": RenderSpec(size=64, points=5_000),
        "odd size, few points": RenderSpec(size=61, points=99),
        "patch, three channels": RenderSpec(size=64, points=3_000, draw="patch", color="gray", channels=3),
        "patch per point, color": RenderSpec(size=64, points=3_000, draw="patch_per_point", color="color"),
        "color": RenderSpec(size=64, points=5_000, color="color"),
        "density": RenderSpec(size=64, points=5_000, color="density"),
        "crop": RenderSpec(size=64, points=5_000, view=Crop(of=100)),
        "random view, rotation": RenderSpec(size=64, points=5_000, view=RandomView(rotation=30)),
        "fresh": RenderSpec(size=64, points=5_000),
    },
}
# Every kind of instance that a family has.
INSTANCES: dict[str, tuple[int, ...]] = {
    # Every flip, varied and unvaried rows, several patterns, continuous ones.
    "fractaldb": (0, 1, 2, 3, 41, 80, 123, 478, 999, 1000, 1001, 123_456),
    "bezier": (0, 7, 1000),
    "perlin": (0, 7, 1000),
    "rcdb": (0, 1, 7, 123_456),
    "visualatom": (0, 1, 7, 123_456),
    # Every view of the unvaried row, other rows, continuous ones.
    "exfractaldb": (*range(72, 84), 0, 5, 150, 1_307, 1_739, 1_740, 1_741, 123_456),
    **dict.fromkeys(("sparks", "sparks_in_space", "zigzags", "ripples"), (0, 1, 5, 12)),
    # Every view, several clouds.
    "pcfractaldb": (*range(0, 156, 13), 123_456),
}
# Grids hold a square number; of the others, four.
CATEGORIES = {"bezier": 16, "perlin": 9}
CASES = [(family, name) for family, specs in SPECS.items() for name in specs]


@cache
def catalog(family: str) -> Catalog:
    """A few searched categories."""
    return fdsl.search(family, categories=CATEGORIES.get(family, 4), seed=3)


def dataset(family: str, name: str) -> Dataset:
    return Dataset(catalog(family), INSTANCES[family], SPECS[family][name], seed=7, fresh=name == "fresh")


def digest(pixels: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()[:16]
