"""95 % confidence intervals of accuracies: over seeds, or over the images of one test."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

# Of the normal distribution, for 95 % in its middle.
_NORMAL = 1.959963984540054


def seeds_interval(accuracies: Sequence[float]) -> tuple[float, float]:
    """Student's t interval of the mean of two or more, cut to 0 to 1.

    >>> low, high = seeds_interval([0.90, 0.92, 0.94])
    >>> round(low, 3), round(high, 3)
    (0.87, 0.97)
    """
    mean, half = statistics.fmean(accuracies), half_width(accuracies)
    return max(0.0, mean - half), min(1.0, mean + half)


def half_width(values: Sequence[float]) -> float:
    """Half of Student's t interval of the mean.

    Raises:
        ValueError: there are fewer than two, which say nothing of how they vary.

    >>> round(half_width([0.5, 0.6, 0.7]), 3)
    0.248
    """
    number = len(values)
    if number < 2:
        raise ValueError(f"{number} values; expected at least two for an interval over seeds")
    return student_t(number - 1) * statistics.stdev(values) / math.sqrt(number)


def images_interval(accuracy: float, images: int) -> tuple[float, float]:
    """Wilson's interval of a share of `images` pictures that were told right (JASA 22, 1927).

    >>> low, high = images_interval(0.9, 100)
    >>> round(low, 3), round(high, 3)
    (0.826, 0.945)
    """
    square = _NORMAL**2 / images
    middle = (accuracy + square / 2) / (1 + square)
    half = math.sqrt(square * accuracy * (1 - accuracy) + square**2 / 4) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def student_t(freedom: int) -> float:
    """What Student's t of so many degrees of freedom stays within in 95 % of all cases, either way.

    >>> round(student_t(4), 3)
    2.776
    """
    low, high = 0.0, 13.0  # one degree of freedom has 12.7
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if _within(middle, freedom) > 0.95 else (middle, high)
    return high


def _within(t: float, freedom: int) -> float:
    """The chance of a value within ±t: Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(freedom))
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = term if freedom > 1 else 0.0
    for place in range(2 + odd, freedom - 1, 2):
        term *= math.cos(angle) ** 2 * (place - 1) / place
        total += term
    share = math.sin(angle) * total
    return (angle + share) * 2 / math.pi if odd else share
