from __future__ import annotations

import numpy as np
import pytest

import fdsl
from fdsl import Dataset, RenderSpec
from fdsl.engines import cpu
from fdsl.families.fractaldb import FractalDB, published_weights
from fdsl.primitives import Instances


def test_search_is_the_same_for_any_number_of_threads() -> None:
    one, two = (fdsl.search("fractaldb", categories=12, seed=5, threads=threads) for threads in (1, 2))
    assert one.digest == two.digest
    assert one.digest[:12] == "c5447ce8dd62"
    assert fdsl.search("fractaldb", categories=12, seed=6).digest != one.digest


def test_more_categories_begin_with_the_same_ones() -> None:
    few, more = (fdsl.search("fractaldb", categories=count, seed=5) for count in (3, 12))
    assert np.array_equal(few.params["affine"], more.params["affine"][:3, : few.params["affine"].shape[1]])
    assert np.array_equal(few.boxes, more.boxes[:3])


@pytest.mark.parametrize("fill_rate", [0.05, 0.2, 0.25])
def test_what_is_found_fills_at_least_the_rate(fill_rate: float) -> None:
    catalog = fdsl.search("fractaldb", categories=5, seed=2, fill_rate=fill_rate)
    spec = RenderSpec(size=512, draw="point")
    filled = (Dataset(catalog, range(80, 120, 4), spec).batch(range(50))[0] > 0).mean((1, 2, 3))
    assert filled.min() > 0.97 * fill_rate  # other trajectories than the judge's


def test_the_early_rejection_loses_none() -> None:
    from fdsl import criteria

    family = FractalDB()
    params = family.sample(77, np.arange(4000), family.settings)
    filled = criteria._hit_pixels(family, params, np.arange(4000), 100_000, cpu.Engine(2))
    accepted = np.flatnonzero(filled >= 0.2 * 512 * 512)
    assert len(accepted) > 60
    for points, pixels in criteria._EARLY:
        assert (criteria._hit_pixels(family, params, accepted, points, cpu.Engine(2)) >= pixels).all()


def test_uniform_candidates_are_drawn_as_published() -> None:
    params = FractalDB().sample(1, np.arange(20_000), FractalDB.settings)
    maps, affine, probability = (params[name] for name in ("maps", "affine", "probability"))
    assert np.bincount(maps, minlength=8)[2:].tolist() == pytest.approx([20_000 / 6] * 6, rel=0.08)
    used = np.arange(7) < maps[:, None]
    for column in range(6):
        values = np.sort(affine[..., column][used])
        assert abs(values - np.linspace(-1, 1, len(values))).max() < 0.015  # Kolmogorov-Smirnov
    determinant = abs(affine[..., 0] * affine[..., 3] - affine[..., 1] * affine[..., 2])
    assert np.allclose(probability, determinant / determinant.sum(1, keepdims=True))
    assert not affine[~used].any()


@pytest.mark.parametrize("sigma_factor", [None, 3.5])
def test_sigma_candidates_contract_and_meet_the_sigma_factor(sigma_factor: float | None) -> None:
    numbers = np.arange(2000)
    settings = FractalDB.settings | {"sampler": "sigma", "sigma_factor": sigma_factor}
    params = FractalDB().sample(1, numbers, settings)
    keep = np.ones(2000, bool) if sigma_factor is None else 3 * params["maps"] > sigma_factor
    maps, matrices = params["maps"][keep], params["affine"][keep][..., :4].reshape(-1, 7, 2, 2)
    singular = np.linalg.svd(matrices, compute_uv=False)
    assert singular.max() <= 1 + 1e-12
    total = singular[..., 0].sum(1) + 2 * singular[..., 1].sum(1)
    if sigma_factor is None:
        assert (total >= (5 + maps) / 2 - 1e-9).all()
        assert (total <= (6 + maps) / 2 + 1e-9).all()
    else:
        assert np.allclose(total, sigma_factor)
    assert (np.linalg.det(matrices[:, 0]) < 0).mean() == pytest.approx(0.5, abs=0.05)  # reflections


def test_perturbed_candidates_stay_within_delta_of_the_one_base() -> None:
    base = fdsl.search("fractaldb", categories=1, sampler="sigma", sigma_factor=3.5, fill_rate=0.05)
    found = fdsl.search("fractaldb", categories=50, sampler="perturbed", base=base, delta=0.1, fill_rate=0.05)
    maps = base.params["maps"][0]
    ratio = (found.params["affine"] / base.params["affine"])[:, :maps]
    assert (found.params["maps"] == maps).all()
    assert 0.9 <= ratio.min() < 0.905
    assert 1.095 < ratio.max() <= 1.1
    assert found.settings["base"] == base.digest
    spec = RenderSpec(size=512, draw="point")
    assert (Dataset(found, range(80, 81), spec).batch(range(50))[0] > 0).mean((1, 2, 3)).min() > 0.045


def test_weights_are_the_published_literals(shared) -> None:
    for setting in (0.0125, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5):
        published = np.loadtxt(shared / "published" / "weights" / f"weights_{setting}.csv", delimiter=",")
        assert np.array_equal(published_weights(setting), published)


def test_no_instance_of_the_published_categories_is_nearly_empty(published_catalog: fdsl.Catalog) -> None:
    """25 variations of 100 categories at s = 0.4; as published, about 9 % of them are nearly empty."""
    share = {}
    for name, options in (("ours", {}), ("published rule", {"instance_rule": "published"})):
        spec = RenderSpec(size=512, draw="point", options=options)
        dataset = Dataset(published_catalog, range(0, 1000, 40), spec)
        blocks = [range(start, start + 500) for start in range(0, len(dataset), 500)]
        filled = np.concatenate([(dataset.batch(block)[0] > 0).mean((1, 2, 3)) for block in blocks])
        share[name] = (filled < 0.02).mean()
    assert share["ours"] == 0
    assert 0.04 < share["published rule"] < 0.14


def test_continuous_instances_are_not_empty_either(published_catalog: fdsl.Catalog) -> None:
    dataset = Dataset(published_catalog, range(1000, 1080, 4), RenderSpec(size=256, draw="point"))
    filled = (dataset.batch(range(len(dataset)))[0] > 0).mean((1, 2, 3))
    assert filled.min() > 0.01
    assert (filled < 0.02).mean() < 0.005
    assert len(np.unique(filled)) > 1500


def test_continuous_factors_lie_between_neighbouring_rows(catalog: fdsl.Catalog) -> None:
    numbers, none = np.arange(1000, 9000, 4), np.zeros(2000, np.int64)
    instances = Instances(categories=none, numbers=numbers, epochs=none, repeats=none, seed=0)
    records = FractalDB().drawing(catalog, instances, RenderSpec()).records
    varied = (records["factor"] != 1).sum(1)
    assert varied.max() == 1
    changed = records["factor"].min(1) + records["factor"].max(1) - 1
    unshrunk = catalog.shrink[0].min() == 8
    if unshrunk:
        assert changed.min() < 0.25
        assert changed.max() > 1.75
    assert ((changed >= 0.2) & (changed <= 1.8)).all()
    assert set(np.bincount(np.argmax(records["factor"] != 1, 1), minlength=6) > 200) == {True}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"family": "fractal"}, "family 'fractal' does not exist; expected one of: fractaldb"),
        ({"categories": 0}, "categories is 0"),
        ({"categories": 2.5}, "categories is 2.5"),
        ({"fill_rate": 0.8}, "can't be reached"),
        ({"fill_rate": 0}, "fill_rate is 0"),
        ({"variation": 0.6}, "variation is 0.6"),
        ({"seed": -1}, "seed is -1"),
        ({"sampler": "normal"}, "sampler is 'normal'; expected one of uniform, sigma"),
        ({"sigma_factor": 3.0}, "sigma_factor is 3.0"),
        ({"sampler": "perturbed", "delta": 0.1}, "base is None; expected a fractaldb catalog of one category"),
        ({"delta": 0.1}, "base and delta belong to sampler 'perturbed'"),
        ({"vertices": 3}, "'vertices' is not a setting of fractaldb; expected: fill_rate"),
        ({"max_candidates": 0}, "max_candidates is 0"),
        ({"threads": -3}, "threads is -3"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        fdsl.search(**({"family": "fractaldb", "categories": 1} | arguments))
    assert "\n" not in str(error.value)


def test_a_search_that_finds_nothing_says_how_much_it_found() -> None:
    with pytest.raises(RuntimeError, match=r"found 0 of 1 categories among 500 candidates \(acceptance rate 0\)"):
        fdsl.search("fractaldb", categories=1, fill_rate=0.35, max_candidates=500)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("affine", np.inf, "category 1: a parameter is not finite"),
        ("affine", 1e300, "category 1 diverges"),
        ("affine", 3.0, "category 1 diverges"),
        ("probability", -0.5, "category 1: a probability is negative"),
        ("probability", 0.9, "category 1: the probabilities do not sum to 1"),
        ("maps", 9, "category 1: the number of maps"),
    ],
)
def test_categories_that_make_no_system_are_named(
    column: str, value: float, message: str, catalog: fdsl.Catalog
) -> None:
    params = {name: array.copy() for name, array in catalog.params.items()}
    params[column][1] = value
    with pytest.raises(ValueError, match=message):
        fdsl.candidates.make_catalog("fractaldb", params, 0.4, {})
