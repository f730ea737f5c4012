"""Points against a float64 reference, written from the documentation and not from the kernels."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from references import attractor_points, philox, trajectories

import fdsl
from fdsl import RenderSpec


def test_philox_meets_the_vectors_of_its_paper() -> None:
    pi = np.array([[0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]], np.uint64)
    expected = [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]
    ours = np.empty((1, 4), np.uint32)
    fdsl._core.philox(0x299F31D0_A4093822, pi.astype(np.uint32), ours)
    assert ours[0].tolist() == philox(0x299F31D0_A4093822, pi)[0].tolist() == expected


@pytest.fixture(scope="module")
def contractive() -> fdsl.Catalog:
    """Every map shrinks distances, so that float32 orbits stay beside float64 ones."""
    return fdsl.search("fractaldb", categories=6, seed=5, sampler="sigma")


def place(points: NDArray[np.float64], box: NDArray[np.float64], size: int, pad: int) -> NDArray[np.float64]:
    low, high = box[0::2], box[1::2]
    return (points - low) / (high - low) * (size - 2 * pad - 1) + pad


@pytest.mark.parametrize("count", [20_011, 255, 40])
@pytest.mark.parametrize("category", range(6))
def test_every_pixel_is_where_a_float64_point_is(category: int, count: int, contractive: fdsl.Catalog) -> None:
    size, pad = 128, 5
    spec = RenderSpec(size=size, points=count, draw="point", pad=pad)
    dataset = fdsl.Dataset(contractive, range(81, 82), spec, seed=9)  # unvaried, flip 1: row = y
    image, _ = dataset[category]
    maps = contractive.params["maps"][category]
    affine, probability = (contractive.params[name][category, :maps] for name in ("affine", "probability"))
    points = attractor_points(affine, probability, count, trajectories(9, category, 20))
    probe = contractive.boxes[category, 2].astype(float)
    inside = points[((points >= probe[0::2]) & (points <= probe[1::2])).all(1)]
    box = np.stack([inside.min(0), inside.max(0)], 1).ravel()
    column, row = place(inside, box, size, pad).T
    expected = np.zeros((size, size), bool)
    expected[(row + 2**-8).astype(int), (column + 2**-8).astype(int)] = True
    differing = expected != (image[0] > 0)
    assert expected.sum() > 0.8 * min(count, 2000)
    assert differing.sum() <= 0.005 * expected.sum() + 2  # points within rounding of a pixel's edge


def test_hues_and_counts_follow_the_points(contractive: fdsl.Catalog) -> None:
    size, pad, count = 64, 4, 3_000
    probe = contractive.boxes[0, 2].astype(float)
    maps = contractive.params["maps"][0]
    affine, probability = (contractive.params[name][0, :maps] for name in ("affine", "probability"))
    points = attractor_points(affine, probability, count, trajectories(9, 0, 20))
    cells = np.floor(place(points, probe, size, pad) + 2**-8).astype(int)
    inside = ((cells >= pad) & (cells < size - pad)).all(1)
    last, counts = np.full((size, size), -1), np.zeros((size, size), int)
    for key, (column, row) in enumerate(cells):
        if inside[key]:
            last[row, column] = key
            counts[row, column] += 1
    for color, entries in (("color", np.where(last >= 0, 1 + last // 256 % 128, 0)), ("density", counts)):
        spec = RenderSpec(size=size, points=count, draw="point", pad=pad, color=color, fit="stored", channels=3)
        image, _ = fdsl.Dataset(contractive, range(81, 82), spec, seed=9)[0]
        expected = spec.palette[entries].transpose(2, 0, 1)
        assert (image != expected).any(0).mean() < 0.005
