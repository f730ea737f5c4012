from __future__ import annotations

import pytest

pytest.importorskip("torch")
from fdsl.train.intervals import images_interval, seeds_interval, student_t


# Student's t at 97.5 %, as printed in any table of it.
@pytest.mark.parametrize(
    ("freedom", "expected"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (9, 2.262), (10, 2.228), (30, 2.042), (120, 1.980)],
)
def test_student_t(freedom: int, expected: float) -> None:
    assert student_t(freedom) == pytest.approx(expected, abs=5e-4)


def test_intervals_over_seeds() -> None:
    # Mean 0.92, standard deviation 0.02: 4.3027 x 0.02 / sqrt(3) either way.
    assert seeds_interval([0.90, 0.92, 0.94]) == pytest.approx((0.870317, 0.969683), abs=1e-6)
    assert seeds_interval([0.5, 0.5]) == (0.5, 0.5)
    assert seeds_interval([0.1, 1.0]) == (0.0, 1.0)
    with pytest.raises(ValueError, match="1 values; expected at least two"):
        seeds_interval([0.9])


def test_intervals_over_images() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263, 15 of 148, 0 of 20, by Wilson's method.
    assert images_interval(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert images_interval(15 / 148, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert images_interval(0.0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert images_interval(1.0, 29) == pytest.approx((0.8830, 1.0), abs=5e-5)
