"""The kernels, as kernels/cpu/bindings.cpp and published.cpp bind them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

TRAJECTORIES: int
MAX_MAPS: int
MAX_SIZE: int
MAX_POINTS: int
HUES: int
DENSITY_LEVELS: int
KEY_BYTES: int
AFFINE_INSTANCE_BYTES: int
GL_BYTES: dict[str, int]
LATTICE_NIBBLES: list[int]
CONTOUR_INSTANCE_BYTES: int
MAX_VERTICES: int
MAX_LINES: int
MAX_BREAKS: int
SPEC_BYTES: int
POINTS_BYTES: int
POLYLINES_BYTES: int
MEASUREMENT_BYTES: int
SPATIAL_INSTANCE_BYTES: int
SPATIAL_MEASUREMENT_BYTES: int
CLOUD_INSTANCE_BYTES: int
CLOUD_PICTURE_BYTES: int
POISSON_MOST: int
BEZIER_INSTANCE_BYTES: int
PERLIN_INSTANCE_BYTES: int
MAX_CONTROL_POINTS: int
PIECES: int
COMPOSITION_BYTES: int
OBJECT_BYTES: int
MAX_OBJECTS: int
OBJECT_SIDES: int

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
    own: int,
    instances: NDArray[np.uint8],
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
def draw_contours(
    kernel: str,
    instances: NDArray[np.uint8],
    spec: NDArray[np.uint8],
    palette: NDArray[np.uint8],
    out: NDArray[np.uint8],
    threads: int,
) -> None: ...
def draw_bezier(
    kernel: str,
    control_points: NDArray[Any],
    curves: NDArray[Any],
    weights: NDArray[np.float32],
    instances: NDArray[np.uint8],
    spec: NDArray[np.uint8],
    palette: NDArray[np.uint8],
    out: NDArray[np.uint8],
    threads: int,
) -> None: ...
def draw_perlin(
    kernel: str,
    frequencies: NDArray[Any],
    instances: NDArray[np.uint8],
    spec: NDArray[np.uint8],
    palette: NDArray[np.uint8],
    out: NDArray[np.uint8],
    threads: int,
) -> None: ...
def place_objects(composition: NDArray[np.uint8], pictures: NDArray[np.uint32], out: NDArray[np.uint8]) -> int: ...
def compose(
    pixels: NDArray[np.uint8],
    objects: NDArray[np.uint8],
    ground: NDArray[np.uint8],
    opaque: bool,
    out: NDArray[np.uint8],
    masks: NDArray[np.uint8],
    threads: int,
) -> None: ...
def draw_points(
    kernel: str,
    points: NDArray[np.float32],
    instances: NDArray[np.uint8],
    spec: NDArray[np.uint8],
    palette: NDArray[np.uint8],
    out: NDArray[np.uint8],
    threads: int,
) -> None: ...
def draw_polylines(
    kernel: str,
    vertices: NDArray[np.float32],
    ends: NDArray[np.int64],
    instances: NDArray[np.uint8],
    spec: NDArray[np.uint8],
    palette: NDArray[np.uint8],
    out: NDArray[np.uint8],
    threads: int,
) -> None: ...
def pixel_centres(
    key: NDArray[np.uint8], spec: NDArray[np.uint8], x: NDArray[np.float64], y: NDArray[np.float64]
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
def gl_affine(
    affine: NDArray[Any],
    probability: NDArray[Any],
    maps: NDArray[Any],
    instances: NDArray[np.uint8],
    spec: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> None: ...
def gl_spatial(
    affine: NDArray[Any],
    probability: NDArray[Any],
    maps: NDArray[Any],
    instances: NDArray[np.uint8],
    spec: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> None: ...
def gl_clouds(
    affine: NDArray[Any],
    probability: NDArray[Any],
    maps: NDArray[Any],
    own: int,
    instances: NDArray[np.uint8],
    spec: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> None: ...
def gl_contours(
    instances: NDArray[np.uint8],
    spec: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> None: ...
def gl_bezier(
    control_points: NDArray[Any],
    curves: NDArray[Any],
    weights: int,
    instances: NDArray[np.uint8],
    spec: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> None: ...
def gl_perlin(
    frequencies: NDArray[Any],
    instances: NDArray[np.uint8],
    spec: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> None: ...
def gl_points(
    points: NDArray[np.float32],
    instances: NDArray[np.uint8],
    spec: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> None: ...
def gl_polylines(
    vertices: NDArray[np.float32],
    ends: NDArray[np.int64],
    instances: NDArray[np.uint8],
    spec: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> None: ...
