"""What a network's features are worth as they are: a linear classifier, and nearest neighbours."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

try:
    import torch
    from torch.nn import functional
except ImportError as error:
    raise ImportError(f"features need {error.name}, which is not installed; pip install 'fdsl[train]'") from error

from rich.progress import Progress

from fdsl.train.sources import Loader

_TEST_AT_ONCE = 512
_STEPS = 1000


class Features(NamedTuple):
    """Pooled features float32 (N, D) and labels int64 (N,), on one device."""

    values: torch.Tensor
    labels: torch.Tensor


def features_of(
    network: torch.nn.Module,
    loader: Loader,
    normalize: Callable[[torch.Tensor], torch.Tensor],
    bars: Progress,
    what: str,
) -> Features:
    """What a network without a head gives for each picture of one epoch.

    Args:
        network: of no classes, as `network_from(source, classes=0)`, on the loader's device.
        loader: of the pictures, each once.
        normalize: uint8 (B, C, S, S) to float32.
        bars: shows how far it is.
        what: for the bar.
    """
    values, labels = [], []
    task = bars.add_task(f"features of {what}", total=len(loader), note="")
    network.eval()
    with torch.no_grad():
        for images, known in loader:
            values.append(network(normalize(images).contiguous(memory_format=torch.channels_last)).float())
            labels.append(known)
            bars.advance(task)
    bars.remove_task(task)
    return Features(torch.cat(values), torch.cat(labels))


def linear_accuracy(train: Features, test: Features) -> float:
    """Top-1 accuracy of multinomial logistic regression on features, 0 to 1.

    Each feature is shifted and scaled to mean 0 and variance 1 over the training pictures. The weights minimise the
    sum of the cross-entropies plus half their squared norm, without that of the bias, as scikit-learn's
    `LogisticRegression` at its C = 1; by at most 1,000 steps of L-BFGS, as in CLIP (Radford et al., ICML 2021, A.3).

    >>> features = Features(torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1]))
    >>> linear_accuracy(features, features)
    1.0
    """
    mean, std = train.values.mean(0), train.values.std(0, unbiased=False)
    std = torch.where(std > 0, std, 1.0)
    inputs, classes = (train.values - mean) / std, int(torch.maximum(train.labels.max(), test.labels.max())) + 1
    weight = inputs.new_zeros((inputs.shape[1], classes), requires_grad=True)
    bias = inputs.new_zeros(classes, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=_STEPS, tolerance_grad=1e-6, tolerance_change=1e-9, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        solver.zero_grad()
        fit = functional.cross_entropy(inputs @ weight + bias, train.labels)
        total = fit + 0.5 * weight.square().sum() / len(inputs)
        total.backward()
        return total

    with torch.enable_grad():
        solver.step(loss)
    outputs = ((test.values - mean) / std) @ weight.detach() + bias.detach()
    return _accuracy(outputs.argmax(1), test.labels)


def neighbour_accuracy(train: Features, test: Features, neighbours: int, temperature: float | None = 0.07) -> float:
    """Top-1 accuracy of a vote of the nearest training pictures by cosine similarity, 0 to 1.

    Args:
        train, test: features.
        neighbours: that vote.
        temperature: a vote weighs exp(similarity / temperature), by default as Wu et al., CVPR 2018; None: 1.

    Raises:
        ValueError: there are fewer training pictures than neighbours, or the temperature is not over 0.

    >>> features = Features(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([0, 1]))
    >>> neighbour_accuracy(features, features, 1)
    1.0
    """
    if neighbours > len(train.labels):
        raise ValueError(f"knn is {neighbours}; expected at most the {len(train.labels)} training pictures")
    if temperature is not None and not temperature > 0:
        raise ValueError(f"knn_temperature is {temperature!r}; expected a number over 0, or None")
    known = functional.normalize(train.values, dim=1)
    classes = int(train.labels.max()) + 1
    found = []
    for asked in functional.normalize(test.values, dim=1).split(_TEST_AT_ONCE):
        similarity, places = (asked @ known.T).topk(neighbours)
        votes = torch.ones_like(similarity)
        if temperature is not None:
            # Of the nearest one the vote is 1: exp(1 / temperature) can be past what float32 holds.
            votes = ((similarity - similarity[:, :1]) / temperature).exp()
        ballot = votes.new_zeros((len(asked), classes)).scatter_add_(1, train.labels[places], votes)
        found.append(ballot.argmax(1))
    return _accuracy(torch.cat(found), test.labels)


def _accuracy(found: torch.Tensor, labels: torch.Tensor) -> float:
    return round(float((found == labels).double().mean().item()), 6)
