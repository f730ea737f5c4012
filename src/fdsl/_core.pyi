"""The kernels, as kernels/cpu/bindings.cpp and published.cpp bind them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

TRAJECTORIES: int
MAX_MAPS: int
HUES: int
DENSITY_LEVELS: int
KEY_BYTES: int
AFFINE_INSTANCE_BYTES: int
SPEC_BYTES: int
MEASUREMENT_BYTES: int
SPATIAL_INSTANCE_BYTES: int
SPATIAL_MEASUREMENT_BYTES: int
CLOUD_INSTANCE_BYTES: int
CLOUD_PICTURE_BYTES: int
POISSON_MOST: int

def kernels() -> list[str]: ...
def draw_affine(
    kernel: str,
    affine: NDArray[Any],
    probability: NDArray[Any],
    maps: NDArray[Any],
    instances: NDArray[np.uint8],
    spec: NDArray[np.uint8],
    palette: NDArray[np.uint8],
    out: NDArray[np.uint8],
    threads: int,
) -> None: ...
def measure_affine(
    kernel: str,
    affine: NDArray[Any],
    probability: NDArray[Any],
    maps: NDArray[Any],
    instances: NDArray[np.uint8],
    spec: NDArray[np.uint8],
    enough: NDArray[np.int32],
    out: NDArray[np.uint8],
    threads: int,
) -> None: ...
def draw_spatial(
    kernel: str,
    affine: NDArray[Any],
    probability: NDArray[Any],
    maps: NDArray[Any],
    instances: NDArray[np.uint8],
    spec: NDArray[np.uint8],
    palette: NDArray[np.uint8],
    out: NDArray[np.uint8],
    threads: int,
) -> None: ...
def measure_spatial(
    kernel: str,
    affine: NDArray[Any],
    probability: NDArray[Any],
    maps: NDArray[Any],
    instances: NDArray[np.uint8],
    spec: NDArray[np.uint8],
    least: float,
    out: NDArray[np.uint8],
    threads: int,
) -> None: ...
def draw_clouds(
    kernel: str,
    affine: NDArray[Any],
    probability: NDArray[Any],
    maps: NDArray[Any],
    instances: NDArray[np.uint8],
    seed: int,
    own: int,
    out: NDArray[np.float32],
    threads: int,
) -> None: ...
def draw_cloud_pictures(
    kernel: str,
    affine: NDArray[Any],
    probability: NDArray[Any],
    maps: NDArray[Any],
    instances: NDArray[np.uint8],
    own: int,
    spec: NDArray[np.uint8],
    palette: NDArray[np.uint8],
    out: NDArray[np.uint8],
    threads: int,
) -> None: ...
def place_scenes(
    seed: int,
    floor: float,
    objects: int,
    categories: int,
    instances: int,
    scenes: NDArray[np.uint32],
    epochs: NDArray[np.uint32],
    out: NDArray[np.uint8],
    counts: NDArray[np.int32],
    threads: int,
) -> None: ...
def philox(seed: int, counters: NDArray[np.uint32], out: NDArray[np.uint32]) -> None: ...
def sine_cosine(turns: NDArray[np.uint32], out: NDArray[np.float64]) -> None: ...
def exponential(x: float) -> float: ...
def logarithm(x: float) -> float: ...
def epoch_order(seed: int, epoch: int, size: int, positions: NDArray[np.int64]) -> None: ...
def published_choose(
    key: NDArray[np.uint32], position: int, sums: NDArray[np.float64], out: NDArray[np.uint8]
) -> int: ...
def published_render_point(
    params: NDArray[np.float64],
    weights: NDArray[np.float64],
    chosen: NDArray[np.uint8],
    pad: int,
    out: NDArray[np.uint8],
) -> None: ...
def published_judge(
    affine: list[NDArray[np.float64]], chosen: list[NDArray[np.uint8]], needed: int, out: NDArray[np.uint8]
) -> None: ...
def published_draw_spatial(
    key: NDArray[np.uint32],
    position: int,
    affine: NDArray[np.float64],
    probability: NDArray[np.float64],
    maps: NDArray[np.int32],
    chosen: NDArray[np.uint8],
) -> int: ...
def published_judge_spatial(
    affine: NDArray[np.float64],
    maps: NDArray[np.int32],
    chosen: NDArray[np.uint8],
    least: float,
    out: NDArray[np.uint8],
) -> None: ...
