"""Pictures of scenes: their points and boxes, for a person to look at."""

from __future__ import annotations

import colorsys
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fdsl.clouds import Scene

if TYPE_CHECKING:
    from PIL import Image


def box_corners(boxes: ArrayLike) -> NDArray[np.float64]:
    """The corners of boxes (n, 7), float64 (n, 8, 3): the four of the floor counter-clockwise, then those above.

    >>> box_corners([[0, 0, 0.5, 1, 1, 1, 0]])[0, 0].tolist()
    [-0.5, -0.5, 0.0]
    """
    numbers = np.asarray(boxes, np.float64).reshape(-1, 7)
    signs = np.array([[x, y, z] for z in (-0.5, 0.5) for x, y in ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))])
    own = signs * numbers[:, None, 3:6]
    sine, cosine = np.sin(numbers[:, 6:]), np.cos(numbers[:, 6:])
    turned = [cosine * own[..., 0] - sine * own[..., 1], sine * own[..., 0] + cosine * own[..., 1], own[..., 2]]
    return np.add(np.stack(turned, -1), numbers[:, None, :3])


_GROUND, _FLOOR = (24, 26, 31), (84, 89, 100)
_SIDES = [(0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7)]
_HIGHEST = 1.4  # that a box reaches


def scene_picture(scene: Scene, size: int = 1024, floor: float = 15.0, azimuth: float = 30.0) -> Image.Image:
    """A picture of a scene from above the floor: points coloured by object, and boxes with a line toward their heading.

    Args:
        scene: of SceneDataset.
        size: pixels of its width; the height is what the floor takes.
        floor: side of the floor, which is outlined.
        azimuth: where the camera stands, in degrees about the vertical axis.

    Returns:
        An RGB image.

    >>> scene_picture(dataset[0]).save("scene.png")
    """
    from PIL import Image, ImageDraw

    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= 4096:
        raise ValueError(f"size is {size!r}; expected a whole number of pixels from 1 to 4,096")
    turn, tilt = math.radians(azimuth), math.radians(38)
    forward = -np.array([math.cos(tilt) * math.cos(turn), math.cos(tilt) * math.sin(turn), math.sin(tilt)])
    right = np.array([-math.sin(turn), math.cos(turn), 0.0])
    camera, down = -2.2 * floor * forward, -np.cross(right, forward)

    def plane(at: NDArray[Any]) -> NDArray[np.float64]:
        seen = at.astype(np.float64) - camera
        depth = np.maximum(seen @ forward, 1e-3)
        return np.stack([seen @ right / depth, seen @ down / depth], -1)

    # Drawn twice as large, for smooth lines; half a box hangs over the floor's edge at most.
    half, reach = floor / 2, floor / 2 + 0.7
    ends = [[x, y, z] for x in (-reach, reach) for y in (-reach, reach) for z in (0, _HIGHEST)]
    corners = plane(np.array(ends))
    low, high = corners.min(0), corners.max(0)
    scale = 2 * size / (high - low)[0]
    width, height = 2 * size, 2 * math.ceil((high - low)[1] * scale / 2)

    def project(at: NDArray[Any]) -> NDArray[np.float64]:
        places: NDArray[np.float64] = (plane(at) - low) * scale
        return places

    pixels = np.full((height, width, 3), _GROUND, np.uint8)
    image = Image.fromarray(pixels)
    outline = project(np.array([[-half, -half, 0], [half, -half, 0], [half, half, 0], [-half, half, 0]]))
    draw, ink = ImageDraw.Draw(image), _object_colors(len(scene["boxes"]))
    draw.polygon([tuple(corner) for corner in outline], outline=_FLOOR, width=3)
    for box, color in zip(box_corners(scene["boxes"]), ink, strict=True):
        at, faint = project(box), tuple(int(value) for value in 0.55 * color)
        for a, b in _SIDES:
            draw.line([tuple(at[a]), tuple(at[b])], fill=faint, width=3)
        middle, ahead = box[:4].mean(0), box[1:3].mean(0)
        arrow = project(np.array([ahead, ahead + 0.6 * (ahead - middle)]))
        draw.line([tuple(end) for end in arrow], fill=faint, width=7)

    pixels = np.array(image)
    order = np.argsort(-(scene["points"] @ forward.astype(np.float32)))  # from far to near: the nearest is drawn last
    column, row = np.floor(project(scene["points"][order])).astype(np.int64).T
    bright = 0.6 + 0.4 * np.clip(scene["points"][order, 2:] / _HIGHEST, 0, 1)
    colors = (ink[scene["objects"][order]] * bright).astype(np.uint8)
    for y, x in ((0, 0), (0, 1), (1, 0), (1, 1)):
        inside = (row + y >= 0) & (row + y < height) & (column + x >= 0) & (column + x < width)
        pixels[row[inside] + y, column[inside] + x] = colors[inside]
    return Image.fromarray(pixels).resize((width // 2, height // 2), Image.Resampling.LANCZOS)


def _object_colors(count: int) -> NDArray[np.float64]:
    # Hues a golden section apart, so that neighbours in number differ.
    hues = [colorsys.hsv_to_rgb(i * 0.618034 % 1, 0.65, 1.0) for i in range(count)]
    return 255 * np.array(hues).reshape(-1, 3)
