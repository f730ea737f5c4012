"""rcdb and visualatom against their definition: noise, recurrence and Pillow's lines, written here once more."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from references import philox

import fdsl
import fdsl.primitives
from fdsl import Catalog, Crop, Dataset, RandomView, RenderSpec
from fdsl.families import family_named

FAMILIES = ("rcdb", "visualatom")
GROUND = {"rcdb": 255, "visualatom": 0}
TRAJECTORY, BREAK, VIEW, INSTANCE = 0, 1 << 16, 2 << 28, 3 << 28
# Perlin's permutation.
PERMUTATION = np.fromstring(
    """
    151 160 137 91 90 15 131 13 201 95 96 53 194 233 7 225 140 36 103 30 69 142 8 99 37 240 21 10 23 190 6 148 247 120
    234 75 0 26 197 62 94 252 219 203 117 35 11 32 57 177 33 88 237 149 56 87 174 20 125 136 171 168 68 175 74 165 71
    134 139 48 27 166 77 146 158 231 83 111 229 122 60 211 133 230 220 105 92 41 55 46 245 40 244 102 143 54 65 25 63
    161 1 216 80 73 209 76 132 187 208 89 18 169 200 196 135 130 116 188 159 86 164 100 109 198 173 186 3 64 52 217 226
    250 124 123 5 202 38 147 118 126 255 82 85 212 207 206 59 227 47 16 58 17 182 189 28 42 223 183 170 213 119 248 152
    2 44 154 163 70 221 153 101 155 167 43 172 9 129 22 39 253 19 98 108 110 79 113 224 232 178 185 112 104 218 246 97
    228 251 34 242 193 238 210 144 12 191 179 162 241 81 51 145 235 249 14 239 107 49 192 214 31 181 199 106 157 184 84
    204 176 115 121 50 45 127 4 150 254 138 236 205 93 222 114 67 29 24 72 243 141 128 195 78 66 215 61 156 180
    """,
    int,
    sep=" ",
)
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


def grey_of(family: str) -> Callable[[int], int]:
    return lambda word: min(word * 257 >> 32, 255) if family == "rcdb" else word * 256 >> 32


def reference(
    dataset: Dataset,
    category: int,
    number: int,
    epoch: int = 0,
    rounded: Round = exact,
    shade: Callable[[int], int] | None = None,
    place: Callable[[NDArray[Any]], NDArray[Any]] = exact,
) -> NDArray[Any]:
    """The picture of 512 pixels, as the published code draws it, with our streams of random words.

    Shade gives the value of a line by its random word, and place moves points (2, V) of the plane to pixels.
    """
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
    image = Image.new("L", (512, 512), 0 if shade else GROUND[family])
    draw = ImageDraw.Draw(image)
    for line in range(int(params["lines"])):
        for left, right in ((13, 0), (0, 17), (5, 0)):
            state ^= state << np.uint32(left) if left else state >> np.uint32(right)
        product = state.astype(np.uint64) * np.uint64(10_000)
        cell, t = (
            (product >> np.uint64(32)).astype(np.int64),
            (product >> np.uint64(8) & np.uint64(0xFFFFFF)) * 2.0**-24,
        )
        step = rounded(rounded(gain * 0.4) * pnoise1(cell, t, rounded) + bend)
        position = rounded(position - direction * step)
        x, y = place(rounded(position + centre[:, None])).astype(np.int64).tolist()
        grey = (shade or grey_of(family))(int(greys[line]))
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


def test_noise_is_that_of_the_package() -> None:
    noise = pytest.importorskip("noise")
    places = np.random.default_rng(0).uniform(0, 10_000, 20_000).astype(np.float32).astype(float)  # as it has them
    cell = np.floor(places).astype(np.int64)
    ours = 0.4 * pnoise1(cell, places - cell)
    assert np.allclose(ours, [noise.pnoise1(place) for place in places], atol=3e-6)
    assert ours.std() == pytest.approx(0.330, abs=0.01)
    assert 0.9 < abs(ours).max() < 0.9521


def test_color_gives_each_line_a_hue(dataset: Dataset) -> None:
    colored = Dataset(dataset.catalog, 3, RenderSpec(size=512, color="color"), dataset.seed)
    entries = reference(dataset, 2, 1, rounded=single, shade=lambda word: 1 + (word * 128 >> 32))
    assert np.array_equal(colored[7][0], colored.palette[entries].transpose(2, 0, 1))
    assert len(colored.palette) == 129
    assert (colored.palette[0] == GROUND[dataset.catalog.family]).all()


def test_three_channels_repeat_gray(dataset: Dataset) -> None:
    three = Dataset(dataset.catalog, 3, RenderSpec(size=512, channels=3), dataset.seed)
    assert np.array_equal(three[5][0], dataset[5][0].repeat(3, 0))
    assert (three.palette == three.palette[:, :1]).all()
    assert sorted(three.palette[:, 0].tolist()) == list(range(256))
    assert three.palette[0, 0] == GROUND[dataset.catalog.family]


@pytest.mark.parametrize("breaks", [True, 1, 37])
def test_broken_contours_are_lines_of_the_ground_across_the_picture(breaks: int) -> None:
    catalog = fdsl.search("rcdb", categories=6, seed=1)
    plain = Dataset(catalog, 1, RenderSpec(size=512), seed=9)
    broken = Dataset(catalog, 1, RenderSpec(size=512, options={"broken_contours": breaks}), seed=9)
    count = 1000 if breaks is True else breaks
    for category in range(6):
        image = Image.fromarray(plain[category][0][0])
        ends = streams(9, category, 0, 0, BREAK, count) >> np.uint32(23)  # 512 = 2^9 places
        for line in ends.tolist():
            ImageDraw.Draw(image).line(line, fill=255, width=1)
        assert np.array_equal(broken[category][0][0], np.asarray(image))


def test_broken_contours_leave_as_much_of_a_small_picture() -> None:
    catalog = fdsl.search("rcdb", categories=40)

    def kept(size: int) -> float:
        drawn = [
            (Dataset(catalog, 4, RenderSpec(size=size, options=options)).batch(range(160))[0] < 255).sum()
            for options in ({"broken_contours": True}, {})
        ]
        return float(drawn[0] / drawn[1])

    shares = [kept(size) for size in (64, 224, 512)]
    assert min(shares) > 0.35
    assert max(shares) < 0.5


def test_equal_ways_to_say_broken_contours_have_equal_digests() -> None:
    catalog = fdsl.search("rcdb", categories=2)

    def digest(**options: Any) -> str:
        return Dataset(catalog, 2, RenderSpec(options=options)).digest

    assert digest(broken_contours=True) == digest(broken_contours=1000) != digest(broken_contours=1)
    assert digest(broken_contours=0) == digest(broken_contours=False) == digest()


def test_a_crop_is_a_part_of_the_larger_picture(dataset: Dataset) -> None:
    options = {"broken_contours": 20} if dataset.catalog.family == "rcdb" else {}
    whole = Dataset(dataset.catalog, 3, RenderSpec(size=300, options=options), dataset.seed)
    crop = Dataset(dataset.catalog, 3, RenderSpec(size=200, view=Crop(of=300), options=options), dataset.seed)
    images, _ = crop.batch(range(36), epoch=4)
    for index in range(36):
        words = streams(dataset.seed, index // 3, index % 3, 4, VIEW, 1)[0]
        left, top = uniform(words[:2], 0, 100)
        assert np.array_equal(images[index], whole[index][0][:, top : top + 200, left : left + 200])


def test_views_that_change_nothing_or_mirror(dataset: Dataset) -> None:
    for flip in (0.0, 1.0):
        view = RandomView(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=flip)
        seen = Dataset(dataset.catalog, 3, RenderSpec(size=512, view=view), dataset.seed)
        for index in (2, 9, 16):
            assert np.array_equal(seen[index][0][..., :: -1 if flip else 1], dataset[index][0])


def test_a_rotated_view_draws_the_rotated_vertices(dataset: Dataset) -> None:
    view = RandomView(scale=(0.5, 0.5), ratio=(1.0, 1.0), rotation=40, flip=0.0)
    seen = Dataset(dataset.catalog, 3, RenderSpec(size=512, view=view), dataset.seed)
    for index in (0, 10, 20):
        r, q = streams(dataset.seed, index // 3, index % 3, 0, VIEW, 2) / 2**32
        side, angle = math.sqrt(0.5), math.radians(40 * (2 * q[0] - 1))
        centre = 512 * (side / 2 + (1 - side) * r[2:4])[:, None]
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])

        def place(points: NDArray[Any], turn: Any = turn / side, centre: Any = centre) -> NDArray[Any]:
            return turn @ (points - centre) + 256

        expected = reference(dataset, index // 3, index % 3, place=place)
        assert (seen[index][0][0] == expected).mean() > 0.99


def test_a_smaller_picture_shows_the_same(dataset: Dataset) -> None:
    half = Dataset(dataset.catalog, 3, RenderSpec(size=256), dataset.seed)
    ground = GROUND[dataset.catalog.family]
    for index in range(0, 36, 5):
        small, large = half[index][0][0] != ground, dataset[index][0][0] != ground
        pooled = large.reshape(256, 2, 256, 2).any((1, 3))
        padded = np.pad(pooled, 1)
        near = np.any([padded[i : i + 256, j : j + 256] for i in range(3) for j in range(3)], 0)
        assert near[small].mean() > 0.98
        assert pooled.sum() * 0.6 < small.sum() <= pooled.sum() * 1.1


def test_instances_differ_and_fresh_ones_change_with_the_epoch(dataset: Dataset) -> None:
    images, labels = dataset.batch(range(36))
    assert len({image.tobytes() for image in images}) == 36
    assert labels.tolist() == np.arange(12).repeat(3).tolist()
    assert np.array_equal(dataset.batch(range(36), epoch=3, repeat=2)[0], images)
    fresh = Dataset(dataset.catalog, 3, dataset.spec, dataset.seed, fresh=True)
    assert np.array_equal(fresh.batch(range(36))[0], images)
    assert not np.array_equal(fresh.batch(range(36), epoch=1)[0], images)
    assert np.array_equal(fresh.batch([7], epoch=1)[0][0, 0], reference(dataset, 2, 1, epoch=1, rounded=single))


def test_files_are_named_as_published(dataset: Dataset) -> None:
    assert dataset.file_name(7, 23) == "00007_0023"
    assert dataset.numbering(23) == {"instance": 23}
    train, held_out = Dataset(dataset.catalog, 20).split(0.8)
    assert (len(train), len(held_out)) == (12 * 16, 12 * 4)


def is_uniform(values: NDArray[Any], low: float, high: float) -> bool:
    """Kolmogorov and Smirnov's distance to the uniform distribution; whole numbers are ranges of one."""
    if values.dtype.kind == "i":
        values, high = values + np.linspace(0, 1, len(values), endpoint=False), high + 1
    ranks = (np.sort(values) - low) / (high - low)
    return bool(abs(ranks - np.linspace(0, 1, len(values))).max() < 1.63 / math.sqrt(len(values)))  # one in a hundred


def test_rcdb_categories_are_drawn_as_published() -> None:
    family = family_named("rcdb")
    params = family.sample(1, np.arange(40_000), family.settings)
    counts = np.bincount(params["vertices"], minlength=202)
    assert counts[:3].sum() == counts[201:].sum() == 0
    expected = np.exp(-np.arange(3, 201) / 100)
    expected *= 40_000 / expected.sum()
    assert ((counts[3:201] - expected) ** 2 / expected).sum() < 250  # chi-squared of 197 degrees: 0.6 %
    assert is_uniform(params["lines"], 1, 200)
    assert is_uniform(params["perlin"], 0, 4)
    assert is_uniform(params["line_width"], 0, 0.1)


def test_visualatom_categories_are_drawn_as_published() -> None:
    family = family_named("visualatom")
    params = family.sample(1, np.arange(40_000), family.settings)
    assert is_uniform(params["vertices"], 200, 1000)
    assert is_uniform(params["lines"], 1, 200)
    assert is_uniform(params["perlin"], 0, 4)
    assert is_uniform(params["line_width"], 0, 0.1)
    assert is_uniform(params["radius"].astype(int), 10, 60)
    assert is_uniform(params["oval"][:, 0], 1, 2)
    assert is_uniform(params["oval"][:, 1], 1, 2)
    first, second = params["frequencies"].T
    pairs = np.zeros((21, 21))
    np.add.at(pairs, (first, second), 1)
    expected = np.full((21, 21), 40_000 / 21 / 20)
    expected[0] = 40_000 / 21 / 21
    expected[np.arange(1, 21), np.arange(1, 21)] = 0
    assert not pairs[expected == 0].any()
    used = expected > 0
    assert ((pairs[used] - expected[used]) ** 2 / expected[used]).sum() < 490  # of 420 degrees: 1 %


@pytest.mark.parametrize("family", FAMILIES)
def test_instances_are_drawn_as_published(family: str) -> None:
    catalog = fdsl.search(family, categories=1)
    numbers = np.arange(20_000)
    asked = fdsl.primitives.Instances(0 * numbers, numbers, 0 * numbers, 0 * numbers, seed=3)
    records = family_named(family).drawing(catalog, asked, RenderSpec()).records
    half = (2 * records["centre"]).astype(np.int64)
    reach = 400 if family == "rcdb" else 512
    for axis in range(2):
        assert is_uniform(half[:, axis], 512 - reach, 512 + reach)
    assert abs(np.corrcoef(half.T)[0, 1]) < 0.03
    if family == "visualatom":
        assert (records["axis"] == catalog.params["radius"] * catalog.params["oval"]).all()
    else:
        zero = (records["axis"] == 0).all(1)
        assert zero.mean() == pytest.approx(1 / 101, rel=0.2)
        least, most = records["axis"].min(1), records["axis"].max(1)
        assert (most <= 2 * np.maximum(least, 0)).all()
        assert records["axis"].mean() == pytest.approx(75, rel=0.02)
        assert (most[~zero] / least[~zero]).mean() == pytest.approx(1.2726, rel=0.01)  # of two U(1, 2)


def test_more_categories_begin_with_the_same_ones() -> None:
    for family in FAMILIES:
        few, more = (fdsl.search(family, categories=count, seed=5).params for count in (3, 3000))
        assert all(np.array_equal(few[name], more[name][:3]) for name in few)


def test_search_keeps_to_the_ranges_asked_for() -> None:
    params = fdsl.search("rcdb", categories=300, vertices=(5, 5), lines=(7, 9), perlin=(1, 1.5)).params
    assert set(params["vertices"].tolist()) == {5}
    assert set(params["lines"].tolist()) == {7, 8, 9}
    assert ((params["perlin"] >= 1) & (params["perlin"] <= 1.5)).all()
    params = fdsl.search("visualatom", categories=300, frequencies=(3, 4), radius=(0, 0), oval=(1.0, 1.0)).params
    assert {tuple(pair) for pair in params["frequencies"].tolist()} == {(3, 4), (4, 3)}
    assert not params["radius"].any()
    zero = fdsl.search("visualatom", categories=3, frequencies=(0, 0)).params["frequencies"]
    assert not zero.any()


@pytest.mark.parametrize("size", [1, 2, 700])
def test_the_largest_categories_stay_in_the_picture(size: int) -> None:
    catalog = fdsl.search("rcdb", categories=2, vertices=(4096, 4096), lines=(40, 40), perlin=(100.0, 100.0))
    for view in (None, RandomView(scale=(1e-9, 1e-9), ratio=(1e-3, 1e-3), rotation=180), Crop(of=4096)):
        images, _ = Dataset(catalog, 2, RenderSpec(size=size, view=view)).batch(range(4), threads=2)
        assert images.shape == (4, 1, size, size)


def test_a_catalog_of_a_file_draws_the_same(tmp_path: Any) -> None:
    for family in FAMILIES:
        catalog = fdsl.search(family, categories=5, seed=8)
        catalog.save(tmp_path / f"{family}.safetensors")
        again = fdsl.Catalog.load(tmp_path / f"{family}.safetensors", verify=True)
        spec = RenderSpec(size=64)
        assert np.array_equal(Dataset(again, 1, spec).batch(range(5))[0], Dataset(catalog, 1, spec).batch(range(5))[0])


@pytest.mark.parametrize(
    ("family", "settings", "message"),
    [
        ("rcdb", {"radius": (10, 60)}, "'radius' is not a setting of rcdb; expected: vertices, lines, perlin"),
        ("rcdb", {"vertices": (2, 200)}, "vertices is (2, 200); expected a pair of whole numbers, 3 <= first"),
        ("rcdb", {"vertices": (3, 4097)}, "<= last <= 4096"),
        ("rcdb", {"vertices": 200}, "vertices is 200; expected a pair"),
        ("rcdb", {"vertices": (3.0, 200.0)}, "expected a pair of whole numbers"),
        ("rcdb", {"lines": (0, 200)}, "lines is (0, 200); expected a pair of whole numbers, 1 <= first"),
        ("rcdb", {"lines": (True, 200)}, "lines is (True, 200)"),
        ("rcdb", {"lines": (9, 3)}, "lines is (9, 3)"),
        ("rcdb", {"perlin": (0.0, math.nan)}, "perlin is (0.0, nan); expected a pair of numbers"),
        ("rcdb", {"perlin": (-1.0, 4.0)}, "perlin is (-1.0, 4.0)"),
        ("rcdb", {"line_width": (0.0, math.inf)}, "line_width is (0.0, inf)"),
        ("visualatom", {"line_width": "wide"}, "line_width is 'wide'"),
        ("visualatom", {"frequencies": (4, 4)}, "frequencies is (4, 4); expected two that differ, or (0, 0)"),
        ("visualatom", {"frequencies": (0, 20, 3)}, "frequencies is (0, 20, 3); expected a pair"),
        ("visualatom", {"radius": (10.5, 60)}, "radius is (10.5, 60); expected a pair of whole numbers"),
        ("visualatom", {"oval": None}, "oval is None; expected a pair of numbers"),
        ("visualatom", {"variation": 0.4}, "'variation' is not a setting of visualatom"),
    ],
)
def test_bad_settings_are_named(family: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        fdsl.search(family, categories=2, **settings)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("family", "spec", "message"),
    [
        ("rcdb", {"points": 100}, "points is 100, but rcdb has no points; expected None"),
        ("rcdb", {"draw": "point"}, "rcdb has no draw"),
        ("visualatom", {"pad": 6}, "visualatom has no pad"),
        ("visualatom", {"fit": "own"}, "visualatom has no fit"),
        ("rcdb", {"color": "density"}, "color is 'density', but rcdb has no density; expected one of gray, color"),
        ("visualatom", {"color": "white"}, "color is 'white', but visualatom has no white"),
        ("visualatom", {"options": {"broken_contours": 3}}, "option 'broken_contours' is not one of visualatom's"),
        ("rcdb", {"options": {"broken": 3}}, "option 'broken' is not one of rcdb's; expected: broken_contours"),
        ("rcdb", {"options": {"broken_contours": 3, "torn": 1}}, "option 'torn' is not one of rcdb's"),
        ("rcdb", {"options": {"broken_contours": None}}, "option broken_contours is None; expected True, or a number"),
        ("rcdb", {"options": {"broken_contours": -1}}, "option broken_contours is -1; expected True, or a number"),
        ("rcdb", {"options": {"broken_contours": 65536}}, "option broken_contours is 65536"),
        ("rcdb", {"options": {"broken_contours": 2.5}}, "option broken_contours is 2.5"),
        ("rcdb", {"options": {"broken_contours": "yes"}}, "option broken_contours is 'yes'"),
    ],
)
def test_what_contours_lack_is_named(family: str, spec: dict[str, Any], message: str) -> None:
    catalog = fdsl.search(family, categories=2)
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        Dataset(catalog, 2, RenderSpec(**spec))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vertices": np.array([5.0, 6.0])}, "vertices is float64 (2,); expected int32 (2,)"),
        ({"oval": np.ones(2)}, "oval is float64 (2,); expected float64 (2, 2)"),
        ({"lines": np.ones(3, np.int32)}, "lines is int32 (3,); expected int32 (2,)"),
        ({"colour": np.ones(2)}, "visualatom has the arrays vertices, lines, perlin"),
        ({"vertices": np.int32([5, 2])}, "category 1: vertices is 2; expected 3 to 4096"),
        ({"perlin": np.array([math.nan, 0])}, "category 0: perlin is nan; expected 0.0 to 100.0"),
        ({"frequencies": np.int32([[1, 2], [3, -1]])}, "category 1: frequencies is [3, -1]; expected 0 to 1000"),
    ],
)
def test_arrays_that_make_no_category_are_named(change: dict[str, Any], message: str) -> None:
    params = dict(fdsl.search("visualatom", categories=2).params)
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        Catalog("visualatom", params | change)
    assert message in str(error.value)
