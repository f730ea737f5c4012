"""How pictures relate to each other: flips, patches, crops, channels, padding, fits."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fdsl
from fdsl import Catalog, Crop, Dataset, RandomView, RenderSpec, keyed
from fdsl.engines import cpu

POINT = RenderSpec(size=96, points=8_000, draw="point")


def draw(catalog: Catalog, spec: RenderSpec, instances: object = (80, 81, 82, 83), **keys: int) -> np.ndarray:
    dataset = Dataset(catalog, instances, spec, seed=1)
    return dataset.batch(range(len(dataset)), **keys)[0]


@pytest.mark.parametrize(
    "spec",
    [
        POINT,
        replace(POINT, draw="patch"),
        replace(POINT, draw="patch_per_point"),
        replace(POINT, color="color", draw="patch"),
        replace(POINT, size=97, fit="stored", color="density"),
        replace(POINT, draw="patch", pad=0),
    ],
)
def test_the_four_flips_are_exact_mirrors(spec: RenderSpec, catalog: Catalog) -> None:
    images = draw(catalog, spec).reshape(len(catalog), 4, spec.image_channels, spec.size, spec.size)
    plain = images[:, 0]
    assert np.array_equal(images[:, 1], plain[..., ::-1, :])
    assert np.array_equal(images[:, 2], plain[..., ::-1])
    assert np.array_equal(images[:, 3], plain[..., ::-1, ::-1])


def test_the_plain_picture_stands_as_the_published_one(published_catalog: Catalog) -> None:
    spec = RenderSpec(size=512, draw="point")
    for category in (0, 1, 3):
        image = Dataset(published_catalog, range(80, 81), spec)[category][0][0] > 0
        params = published_catalog.params
        table = np.column_stack([params["affine"][category], params["probability"][category]])
        reference = fdsl.published.render_point(table[: params["maps"][category]], np.ones(6)) > 0
        agreement = {
            flip: (image & turned).sum() / (image | turned).sum()
            for flip, turned in (("none", reference), ("rows", reference[::-1]), ("columns", reference[:, ::-1]))
        }
        assert max(agreement, key=agreement.__getitem__) == "none", agreement


@pytest.mark.parametrize("color", ["gray", "density", "color"])
def test_a_patch_is_a_dilation_by_the_largest_value(color: str, catalog: Catalog) -> None:
    spec = replace(POINT, color=color, channels=3)
    points, patches = (draw(catalog, replace(spec, draw=kind), range(80, 120, 4)) for kind in ("point", "patch"))
    for number, (before, after) in enumerate(zip(points, patches, strict=True)):
        category, pattern = divmod(number, 10)
        bits = int(keyed.words(1, keyed.Purpose.PATCH, category, pattern)[0] & 255)
        cells = [cell for cell in range(9) if cell == 4 or bits >> (cell if cell < 4 else cell - 1) & 1]
        if color == "color":  # the largest key is not the largest value: compare where something was drawn
            before, after = (before.max(0, keepdims=True) > 0), (after.max(0, keepdims=True) > 0)
        padded = np.pad(before, ((0, 0), (1, 1), (1, 1)))
        side = spec.size
        shifted = [padded[:, 2 - c // 3 : 2 - c // 3 + side, 2 - c % 3 : 2 - c % 3 + side] for c in cells]
        assert np.array_equal(after, np.max(shifted, 0))


def test_ten_patterns_make_ten_pictures_and_one_trajectory_each(catalog: Catalog) -> None:
    images = draw(catalog, replace(POINT, draw="patch"), range(80, 120, 4))
    assert len({image.tobytes() for image in images}) == len(images)


@pytest.mark.parametrize("draw_mode", ["point", "patch", "patch_per_point"])
@pytest.mark.parametrize("pad", [0, 6, 60])
def test_a_crop_is_a_part_of_the_whole_picture(draw_mode: str, pad: int, catalog: Catalog) -> None:
    whole = draw(catalog, RenderSpec(size=140, points=8_000, draw=draw_mode, pad=pad))
    spec = RenderSpec(size=64, points=8_000, draw=draw_mode, pad=pad, view=Crop(of=140))
    seen = set()
    for epoch in range(3):
        for large, small in zip(whole, draw(catalog, spec, epoch=epoch), strict=True):
            windows = np.lib.stride_tricks.sliding_window_view(large[0], (64, 64))
            found = np.argwhere((windows == small[0]).all((2, 3)))
            assert len(found)
            seen.add(tuple(found[0]))
    assert len(seen) > 10


def test_a_crop_as_large_as_the_picture_is_the_picture(catalog: Catalog) -> None:
    assert np.array_equal(draw(catalog, POINT), draw(catalog, replace(POINT, view=Crop(of=96)), epoch=5))


def test_a_view_of_everything_is_nearly_the_picture(catalog: Catalog) -> None:
    view = RandomView(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)
    plain, viewed = draw(catalog, POINT) > 0, draw(catalog, replace(POINT, view=view), epoch=1) > 0
    assert (plain & viewed).sum() > 0.98 * (plain | viewed).sum()


def test_views_change_with_epoch_and_repeat_and_fits_do_not(catalog: Catalog) -> None:
    for view, changes in ((None, False), (Crop(of=140), True), (RandomView(rotation=10), True)):
        spec = replace(POINT, view=view)
        base = draw(catalog, spec)
        for keys in ({"epoch": 1}, {"repeat": 1}):
            assert (not np.array_equal(base, draw(catalog, spec, **keys))) is changes


def test_a_rotated_view_is_the_picture_turned_about_its_centre(catalog: Catalog) -> None:
    view = RandomView(scale=(1.0, 1.0), ratio=(1.0, 1.0), rotation=180, flip=0.0)
    side, view_purpose = POINT.size, 2
    plain = draw(catalog, POINT, (81,)) > 0  # flip 1: row = y
    for epoch in range(4):
        viewed = draw(catalog, replace(POINT, view=view), (81,), epoch=epoch) > 0
        for category in range(len(catalog)):
            counters, words = (
                np.array([[category, 81, epoch, view_purpose << 28 | 1]], np.uint32),
                np.empty((1, 4), np.uint32),
            )
            fdsl._core.philox(1, counters, words)
            angle = np.pi * (2 * int(words[0, 0]) / 2**32 - 1)
            rows, columns = np.nonzero(plain[category, 0])
            x, y = columns + 0.5 - side / 2, rows + 0.5 - side / 2
            turned_x = np.cos(angle) * x - np.sin(angle) * y + side / 2
            turned_y = np.sin(angle) * x + np.cos(angle) * y + side / 2
            column, row = np.floor(turned_x).astype(int), np.floor(turned_y).astype(int)
            seen = (column >= 1) & (column < side - 1) & (row >= 1) & (row < side - 1)
            near = np.lib.stride_tricks.sliding_window_view(np.pad(viewed[category, 0], 1), (3, 3)).any((2, 3))
            assert seen.mean() > 0.5
            assert near[row[seen], column[seen]].mean() > 0.98


def test_three_channels_repeat_gray(catalog: Catalog) -> None:
    gray, three = draw(catalog, POINT), draw(catalog, replace(POINT, channels=3))
    assert np.array_equal(three, np.repeat(gray, 3, 1))
    assert set(np.unique(gray)) == {0, 127}


@pytest.mark.parametrize("fit", ["own", "stored"])
@pytest.mark.parametrize("pad", [0, 1, 6, 20])
def test_points_stay_within_the_padding_and_reach_it(fit: str, pad: int, catalog: Catalog) -> None:
    images = draw(catalog, replace(POINT, fit=fit, pad=pad), range(1000))
    hit = images[:, 0] > 0
    for axis in (1, 2):
        used = hit.any(axis)
        assert not used[:, :pad].any()
        assert not used[:, POINT.size - pad :].any()
        if fit == "own":
            assert used[:, pad].mean() > 0.999  # all but for rounding
            assert used[:, POINT.size - pad - 1].mean() > 0.999


def test_a_system_without_width_goes_to_the_padding() -> None:
    params = {
        "maps": np.array([2], np.int32),
        "affine": np.array([[[0.5, 0, 0, 0, 0, 0.3], [0.5, 0, 0, 0, 0.5, 0.3]]]),
        "probability": np.array([[0.5, 0.5]]),
    }
    line = fdsl.candidates.make_catalog("fractaldb", params, 0.4, {})
    image = Dataset(line, range(81, 82), replace(POINT, pad=6))[0][0][0]
    assert np.flatnonzero(image.any(1)).tolist() == [6]
    assert image[6, 6:90].all()


@pytest.mark.parametrize("pad", [0, 3])
def test_a_single_free_pixel_takes_all_points(pad: int, catalog: Catalog) -> None:
    images = draw(catalog, replace(POINT, size=2 * pad + 1, pad=pad))
    assert (images[:, 0, pad, pad] == 127).all()
    assert ((images > 0).sum((1, 2, 3)) == 1).all()


def test_patch_per_point_lets_the_last_point_win(catalog: Catalog) -> None:
    points = draw(catalog, POINT)[0, 0] > 0
    stamped = draw(catalog, replace(POINT, draw="patch_per_point"))[0, 0] > 0
    grown = np.zeros_like(points)
    for row in (-1, 0, 1):
        for column in (-1, 0, 1):
            grown |= np.roll(points, (row, column), (0, 1))
    assert (stamped <= grown).all()
    assert 0 < (points & ~stamped).sum() < points.sum()  # some zeros erased


def test_hues_are_the_published_ones_as_rgb() -> None:
    import colorsys

    palette = RenderSpec(color="color").palette
    assert palette[0].tolist() == [0, 0, 0]
    for step, value in enumerate(palette[1:]):
        exact = np.array(colorsys.hsv_to_rgb(step / 128, 0.75, 0.75)) * 255
        assert (abs(value - exact) < 1 + 1e-9).all()
        assert (value <= exact + 1e-9).all()


def test_density_rises_with_the_count() -> None:
    palette = RenderSpec(color="density").palette[:, 0].astype(int)
    assert palette[0] == 0
    assert palette[1] > 0
    assert (np.diff(palette) >= 0).all()
    assert palette[-1] == 255


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, 130),
    points=st.integers(1, 3_000),
    pad=st.integers(0, 70),
    draw_mode=st.sampled_from(["point", "patch", "patch_per_point"]),
    color=st.sampled_from(["gray", "color", "density"]),
    fit=st.sampled_from(["own", "stored"]),
    channels=st.sampled_from([None, 1, 3]),
    view=st.one_of(
        st.none(),
        st.builds(Crop, of=st.integers(1, 200)),
        st.builds(
            RandomView,
            scale=st.tuples(st.floats(0.01, 0.5), st.floats(0.5, 1)),
            rotation=st.floats(0, 180),
            flip=st.floats(0, 1),
        ),
    ),
    instance=st.integers(0, 5_000),
)
def test_any_spec_is_drawn_alike_by_every_kernel_or_refused(instance: int, draw_mode: str, **fields: object) -> None:
    catalog = tiny_catalog()
    try:
        spec = RenderSpec(draw=draw_mode, **fields)  # type: ignore[arg-type]
    except ValueError as error:
        assert "\n" not in str(error)
        assert "expected" in str(error)
        return
    drawn = []
    with pytest.MonkeyPatch.context() as patch:
        for kernel in fdsl._core.kernels():
            patch.setenv("FDSL_CPU", kernel)
            guarded = np.full((1, spec.image_channels * spec.size**2 + 64), 205, np.uint8)
            out = guarded[0, : spec.image_channels * spec.size**2].reshape(1, spec.image_channels, spec.size, spec.size)
            Dataset(catalog, [instance], spec).batch([1], epoch=3, out=out)
            assert (guarded[0, out.size :] == 205).all()
            drawn.append(out.copy())
    assert all(np.array_equal(drawn[0], other) for other in drawn)


@functools.cache
def tiny_catalog() -> Catalog:
    return fdsl.search("fractaldb", categories=2, seed=11)


def test_the_variable_names_a_kernel_that_runs_here(monkeypatch: pytest.MonkeyPatch, catalog: Catalog) -> None:
    monkeypatch.setenv("FDSL_CPU", "sse9")
    with pytest.raises(ValueError, match=r"FDSL_CPU is 'sse9'; expected one of .*portable"):
        draw(catalog, POINT)
    monkeypatch.setenv("FDSL_CPU", "portable")
    assert cpu.kernel_name() == "portable"
