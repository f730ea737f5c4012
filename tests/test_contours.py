"""rcdb and visualatom against their definition: noise, recurrence and Pillow's lines, written here once more."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from test_reference import philox

import fdsl
from fdsl import Catalog, Crop, Dataset, RandomView, RenderSpec
from fdsl.families import family_named

FAMILIES = ("rcdb", "visualatom")
GROUND = {"rcdb": 255, "visualatom": 0}
TRAJECTORY, INSTANCE = 0 << 28, 3 << 28
# Perlin's permutation by the lattice's slopes alone, -1 or 1 to 8, would not show two values swapped; this is all of it.
PERMUTATION = np.array(
    [int(h) for h in """
    151 160 137 91 90 15 131 13 201 95 96 53 194 233 7 225 140 36 103 30 69 142 8 99 37 240 21 10 23 190 6 148 247 120
    234 75 0 26 197 62 94 252 219 203 117 35 11 32 57 177 33 88 237 149 56 87 174 20 125 136 171 168 68 175 74 165 71
    134 139 48 27 166 77 146 158 231 83 111 229 122 60 211 133 230 220 105 92 41 55 46 245 40 244 102 143 54 65 25 63
    161 1 216 80 73 209 76 132 187 208 89 18 169 200 196 135 130 116 188 159 86 164 100 109 198 173 186 3 64 52 217 226
    250 124 123 5 202 38 147 118 126 255 82 85 212 207 206 59 227 47 16 58 17 182 189 28 42 223 183 170 213 119 248 152
    2 44 154 163 70 221 153 101 155 167 43 172 9 129 22 39 253 19 98 108 110 79 113 224 232 178 185 112 104 218 246 97
    228 251 34 242 193 238 210 144 12 191 179 162 241 81 51 145 235 249 14 239 107 49 192 214 31 181 199 106 157 184 84
    204 176 115 121 50 45 127 4 150 254 138 236 205 93 222 114 67 29 24 72 243 141 128 195 78 66 215 61 156 180
    """.split()]
)  # fmt: skip
Round = Callable[[Any], Any]


def exact(value: Any) -> Any:
    return value


def slope(point: NDArray[np.int64]) -> NDArray[np.float64]:
    h = PERMUTATION[point & 255]
    return np.where(h & 8, -1.0, 1.0 + (h & 7))


def pnoise1(cell: NDArray[np.int64], t: NDArray[np.float64], rounded: Round = exact) -> NDArray[np.float64]:
    """By definition, over 0.4: Perlin's improved noise at cell + t, each step rounded as asked for."""
    inner = rounded(t * rounded(6 * t - 15) + 10)
    fade = rounded(rounded(rounded(t * t) * t) * inner)
    before, after = rounded(slope(cell) * t), rounded(slope(cell + 1) * (t - 1))
    return rounded(fade * rounded(after - before) + before)


def streams(seed: int, category: int, number: int, epoch: int, what: int, count: int) -> NDArray[np.uint32]:
    counters = np.array([[category, number, epoch, what + j] for j in range(count)], np.uint64)
    return philox(seed, counters).astype(np.uint32)


def uniform(words: NDArray[np.uint32], low: int, high: int) -> NDArray[np.int64]:
    return low + (words.astype(np.int64) * (high - low + 1) >> 32)


def reference(dataset: Dataset, category: int, number: int, epoch: int = 0, rounded: Round = exact) -> NDArray[Any]:
    """The picture of 512 pixels, as the published code draws it, with our streams of random words."""
    family, seed = dataset.catalog.family, dataset.seed
    params = {name: array[category] for name, array in dataset.catalog.params.items()}
    vertices, c, width = int(params["vertices"]), params["perlin"], params["line_width"]
    own = streams(seed, category, number, epoch, INSTANCE, 2)
    if family == "rcdb":
        axis = uniform(own[1, :1], 0, 100) * (1 + own[1, 1:3] / 2**32)
        centre, waves, gain = (512 + uniform(own[0, :2], -400, 400)) / 2, 0.0, 2 * c
    else:
        axis, centre, gain = params["radius"] * params["oval"], (512 + uniform(own[0, :2], -512, 512)) / 2, c
        frequencies = params["frequencies"]
        waves = sum(0.5 * np.sin(2 * np.pi * f * np.arange(vertices) / vertices) for f in frequencies)
    angle = 2 * np.pi * np.arange(vertices) / vertices
    direction = rounded(np.stack([np.cos(angle), np.sin(angle)]))
    position = rounded(axis[:, None] * np.stack([np.cos(angle), np.sin(angle)]))
    bend = rounded(-c - width - waves + np.zeros(vertices))
    words = streams(seed, category, number, epoch, TRAJECTORY, max(vertices, int(params["lines"])))
    state, greys = words[:vertices, :2].T.copy(), words[:, 2].astype(np.int64)
    ground = GROUND[family]
    image = Image.new("L", (512, 512), ground)
    draw = ImageDraw.Draw(image)
    for line in range(int(params["lines"])):
        for left, right in ((13, 0), (0, 17), (5, 0)):
            state ^= state << np.uint32(left) if left else state >> np.uint32(right)
        product = state.astype(np.uint64) * np.uint64(10_000)
        cell, t = (product >> np.uint64(32)).astype(np.int64), (product >> np.uint64(8) & np.uint64(0xFFFFFF)) * 2.0**-24
        step = rounded(rounded(gain * 0.4) * pnoise1(cell, t, rounded) + bend)
        position = rounded(position - direction * step)
        x, y = rounded(position + centre[:, None]).astype(np.int64).tolist()
        grey = min(int(greys[line]) * 257 >> 32, 255) if family == "rcdb" else int(greys[line]) * 256 >> 32
        for i in range(vertices):
            draw.line((x[i], y[i], x[(i + 1) % vertices], y[(i + 1) % vertices]), fill=grey, width=1)
    return np.asarray(image)


def single(rounded: Any) -> Any:
    """Through float32, as the kernels' fused multiply-adds do."""
    return np.asarray(rounded, np.float64).astype(np.float32).astype(np.float64)


@pytest.fixture(scope="module", params=FAMILIES)
def dataset(request: pytest.FixtureRequest) -> Dataset:
    return Dataset(fdsl.search(request.param, categories=12, seed=4), 3, RenderSpec(size=512), seed=2**63 + 5)


def test_pictures_are_pillows_lines_between_the_vertices_of_the_recurrence(dataset: Dataset) -> None:
    for index in (0, 4, 8, 11, 15, 19, 23):
        category, number = divmod(index, 3)
        assert np.array_equal(dataset[index][0][0], reference(dataset, category, number, rounded=single))


def test_single_precision_moves_next_to_no_pixel(dataset: Dataset) -> None:
    for index in (1, 7, 13):
        category, number = divmod(index, 3)
        assert (dataset[index][0][0] == reference(dataset, category, number)).mean() > 0.999
