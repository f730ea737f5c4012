from __future__ import annotations

import math

import pytest

pytest.importorskip("timm")
import torch

from fdsl.train.frozen_features import Features, linear_accuracy, neighbour_accuracy


def at(*degrees: float) -> torch.Tensor:
    """Features that point that way; their length means nothing to a cosine."""
    turns = torch.tensor(degrees).deg2rad()
    return torch.stack([turns.cos(), turns.sin()], 1) * torch.arange(1, len(degrees) + 1)[:, None]


def test_neighbours_vote_by_their_similarity() -> None:
    # The one of class 1 is 2 degrees off, the two of class 0 are 30: by count 0 wins, by weight the near one.
    train = Features(at(2, 30, -30, 180), torch.tensor([1, 0, 0, 2]))
    test = Features(at(0), torch.tensor([1]))
    assert math.exp(math.cos(math.radians(2)) / 0.07) > 2 * math.exp(math.cos(math.radians(30)) / 0.07)
    assert neighbour_accuracy(train, test, 3) == 1.0
    assert neighbour_accuracy(train, test, 3, temperature=None) == 0.0
    assert neighbour_accuracy(train, test, 1, temperature=None) == 1.0
    assert neighbour_accuracy(train, test, 3, temperature=1.0) == 0.0
    assert neighbour_accuracy(train, test, 3, temperature=1e-4) == 1.0  # exp(1 / 1e-4) is past float32


def test_each_test_picture_counts_once() -> None:
    train = Features(at(0, 90), torch.tensor([0, 1]))
    test = Features(at(*range(0, 360, 10)).repeat(20, 1), torch.zeros(720, dtype=torch.int64))
    nearer = sum(math.cos(math.radians(d)) > math.sin(math.radians(d)) + 1e-6 for d in range(0, 360, 10))
    assert neighbour_accuracy(train, test, 1) == pytest.approx(nearer / 36, abs=1e-6)


def test_more_neighbours_than_pictures() -> None:
    features = Features(at(0, 90), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="knn is 3; expected at most the 2 training pictures"):
        neighbour_accuracy(features, features, 3)
    with pytest.raises(ValueError, match="knn_temperature is 0"):
        neighbour_accuracy(features, features, 1, temperature=0)


def test_the_linear_classifier_is_scikit_learns() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(4, 12, generator=generator) * torch.logspace(-2, 2, 12)
    labels = torch.arange(4).repeat(60)
    values = centres[labels] + torch.randn(240, 12, generator=generator) * 2 * torch.logspace(-2, 2, 12)
    values[:, 3] = 5.0  # a feature that never changes
    train, test = Features(values[:120], labels[:120]), Features(values[120:], labels[120:])
    scaler = preprocessing.StandardScaler().fit(train.values)
    reference = linear_model.LogisticRegression(max_iter=1000, tol=1e-8)
    reference.fit(scaler.transform(train.values), train.labels)
    expected = reference.score(scaler.transform(test.values), test.labels)
    assert 0.4 < expected < 0.99
    assert linear_accuracy(train, test) == pytest.approx(expected, abs=0.5 / 120)
