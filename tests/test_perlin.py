from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import views

import fdsl
from fdsl import Catalog, Crop, Dataset, RandomView, RenderSpec

SEED = 5
GRADIENTS = np.exp(0.25j * np.pi * np.arange(8))


@cache
def catalog(categories: int = 100) -> Catalog:
    return fdsl.search("perlin", categories=categories)


def dataset(spec: RenderSpec, instances: int = 8, categories: int = 100) -> Dataset:
    return Dataset(catalog(categories), instances, spec, SEED)


def direction(i: np.ndarray, j: np.ndarray, salt_x: int, salt_y: int) -> np.ndarray:
    """Which of eight gradients the lattice point (i, j) has."""
    h = (i * 0x9E3779B1 + int(salt_x)) % 2**32 ^ (j * 0x85EBCA77 + int(salt_y)) % 2**32
    h = h * 0x85EBCA6B % 2**32
    return (h ^ h >> 15) * 0xC2B2AE35 % 2**32 >> 29


def noise(x: np.ndarray, y: np.ndarray, salts: np.ndarray) -> np.ndarray:
    """Gradient noise by its definition."""
    i, j = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)

    def corner(di: int, dj: int) -> np.ndarray:
        gradient = GRADIENTS[direction(i + di, j + dj, *salts)]
        return gradient.real * (x - i - di) + gradient.imag * (y - j - dj)

    def blend(t: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a + (6 * t**5 - 15 * t**4 + 10 * t**3) * (b - a)

    return blend(y - j, blend(x - i, corner(0, 0), corner(1, 0)), blend(x - i, corner(0, 1), corner(1, 1)))


def reference(spec: RenderSpec, frequencies: np.ndarray, category: int, number: int, epoch: int = 0) -> np.ndarray:
    drawn = views.words(SEED, category, number, epoch, views.INSTANCE, 0, 0)
    back = np.linalg.inv(views.matrix(spec, SEED, category, number))
    centres = np.arange(spec.size) + 0.5
    column, row = np.meshgrid(centres, centres)
    x, y, _ = np.einsum("ij,jkl->ikl", back, np.stack([column, row, np.ones_like(row)]))
    offsets = drawn[:2] / 2.0**32
    value = noise(frequencies[0] * x + offsets[0], frequencies[1] * y + offsets[1], drawn[2:])
    return 128 + 127.5 * np.sqrt(2) * value


@pytest.mark.parametrize(
    "view",
    [
        None,
        Crop(of=150),
        RandomView(),
        RandomView(scale=(0.01, 0.02), rotation=180),
        RandomView((1.0, 1.0), rotation=90),
    ],
)
def test_a_pixel_is_the_noise_at_its_centre_in_every_view(view: Crop | RandomView | None) -> None:
    spec = RenderSpec(size=97, view=view)
    drawn = dataset(spec)
    for index in (0, 3, 9 * 8 + 1, 47 * 8 + 5, 90 * 8 + 2, 99 * 8 + 7):
        image, category = drawn[index]
        expected = reference(spec, catalog().params["frequencies"][category], category, index % 8)
        assert abs(image[0] - np.floor(expected)).max() <= 1
        assert (image[0] == np.floor(expected)).mean() > 0.99


@pytest.mark.parametrize("categories", [100, 1296])
def test_categories_are_a_grid_of_frequencies(categories: int) -> None:
    found = catalog(categories)
    side = round(categories**0.5)
    expected = [(x, y) for y in range(1, side + 1) for x in range(1, side + 1)]
    assert [tuple(pair) for pair in found.params["frequencies"].tolist()] == expected
    assert found == fdsl.search("perlin", categories=categories, seed=9)


@pytest.mark.parametrize("frequency", [4, 8, 16, 32])
def test_energy_lies_at_the_frequency_of_the_category(frequency: int) -> None:
    side = 36
    drawn = dataset(RenderSpec(size=256), 40, side**2)
    for category, axis in ((frequency - 1, 2), (side * (frequency - 1), 1)):
        images = drawn.batch(category * 40 + np.arange(40))[0][:, 0].astype(np.float64)
        power = (abs(np.fft.rfft(images - images.mean(axis, keepdims=True), axis=axis)) ** 2).mean((0, 3 - axis))
        cycles = np.arange(len(power))
        assert frequency * 0.4 < (power * cycles).sum() / power.sum() < frequency
        assert power[: 2 * frequency].sum() > 0.97 * power.sum()


def test_gradients_of_neighbours_are_uniform_and_independent() -> None:
    i, j = np.meshgrid(np.arange(-200, 200), np.arange(-200, 200))
    salts = views.words(SEED, 0, 0, 0, views.INSTANCE, 0, 0)[2:]
    here = direction(i, j, *salts)
    for di, dj in ((1, 0), (0, 1), (1, 1), (1, -1), (2, 0), (0, 8)):
        pairs = np.bincount((8 * here + direction(i + di, j + dj, *salts)).ravel(), minlength=64)
        expected = here.size / 64
        assert ((pairs - expected) ** 2 / expected).sum() < 63 + 5 * np.sqrt(2 * 63)


def test_instances_differ_and_fresh_ones_in_each_epoch() -> None:
    spec = RenderSpec(size=32)
    images, _ = dataset(spec).batch(range(800))
    assert len(np.unique(images.reshape(800, -1), axis=0)) == 800
    fresh = Dataset(catalog(), 8, spec, SEED, fresh=True)
    assert not np.array_equal(fresh.batch([11], epoch=1)[0], fresh.batch([11], epoch=2)[0])
    expected = reference(spec, catalog().params["frequencies"][1], 1, 3, epoch=2)
    assert abs(fresh.batch([11], epoch=2)[0][0, 0] - np.floor(expected)).max() <= 1


def test_three_channels_repeat_gray_and_color_takes_its_hue() -> None:
    gray = dataset(RenderSpec(size=40)).batch(range(20))[0]
    assert np.array_equal(dataset(RenderSpec(size=40, channels=3)).batch(range(20))[0], gray.repeat(3, axis=1))
    colored = dataset(RenderSpec(size=40, color="color"))
    expected = colored.palette[1 + gray[:, 0] // 2].transpose(0, 3, 1, 2)
    assert np.array_equal(colored.batch(range(20))[0], expected)


def test_an_extreme_view_is_drawn_all_the_same() -> None:
    spec = RenderSpec(size=16, view=RandomView(scale=(1e-300, 1e-300), rotation=180))
    images, _ = dataset(spec).batch(range(50))
    assert images.shape == (50, 1, 16, 16)


def test_a_file_gives_back_the_same_pictures(tmp_path: pytest.TempPathFactory) -> None:
    catalog().save(f"{tmp_path}/noise.safetensors")
    loaded = Dataset(fdsl.catalog(f"{tmp_path}/noise.safetensors"), 3, RenderSpec(size=24))
    assert np.array_equal(loaded.batch(range(9))[0], Dataset(catalog(), 3, RenderSpec(size=24)).batch(range(9))[0])
    assert loaded.file_name(7, 2) == "00007_0002"
    assert loaded.numbering(2) == {"instance": 2}


def test_a_split_parts_instances() -> None:
    train, held_out = Dataset(catalog(), 50).split(0.9)
    assert (len(train.instances), len(held_out.instances)) == (45, 5)
    assert not set(train.instances) & set(held_out.instances)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"categories": 1000}, "categories is 1000; expected a square number up to 65536 for perlin, such as 1024"),
        ({"categories": 98}, r"such as 100 \(10 x 10\)"),
        ({"categories": 10**6}, r"such as 65536 \(256 x 256\)"),
        ({"categories": 100, "fill_rate": 0.2}, "'fill_rate' is not a setting of perlin"),
    ],
)
def test_a_search_for_what_is_no_grid_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fdsl.search("perlin", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [{"color": "white"}, {"color": "density"}, {"points": 100}, {"draw": "point"}, {"pad": 2}, {"fit": "own"}],
)
def test_what_noise_does_not_have_is_refused_by_name(options: dict[str, object]) -> None:
    name, value = next(iter(options.items()))
    with pytest.raises(ValueError, match=f"{name} is {value!r}, but perlin has no"):
        dataset(RenderSpec(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "perlin has the arrays frequencies, not none"),
        ({"frequencies": np.ones((3, 2))}, r"float64 \(3, 2\); expected int32"),
        ({"frequencies": np.ones(3, np.int32)}, r"int32 \(3,\); expected int32 \(3, 2\)"),
        ({"frequencies": np.ones((0, 2), np.int32)}, r"expected int32 \(1, 2\)"),
        ({"frequencies": np.array([[1, 1], [4, 0]], np.int32)}, r"category 1: frequencies is \[4, 0\]; expected 1 to"),
        ({"frequencies": np.array([[257, 1]], np.int32)}, "category 0: frequencies is .*expected 1 to 256"),
    ],
)
def test_parameters_that_make_no_noise_are_refused(params: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Catalog("perlin", params)
