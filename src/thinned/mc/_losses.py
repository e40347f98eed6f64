"""The loss of each input is computed here for weight scaling, and for averages of k samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from thinned.mc._measures import Doubles, Labels

# Groups of draws of which a calibration error is taken, at most: their bins are counted in each resample.
_GROUPS: Final = 3
_NORMAL_95: Final = 1.959963984540054
_LEAST: Final = float(np.finfo(np.float64).eps)  # a probability, before its logarithm; so does scikit-learn


@dataclass(frozen=True)
class Losses:
    """Losses of n inputs by c candidates: weight scaling, then each k of the ladder.

    Attributes:
        ladder: the ks, rising.
        means: losses whose mean over the inputs is a measure, each of shape (n, c). Where k samples make up
            several disjoint groups, a loss is the mean over the groups.
        confidence: of the likeliest class, for each candidate, shape (groups, n); none of values.
        correct: whether that class was the label, of the same shapes.
        coverage: of values, share of the targets inside their 95 % intervals with the noise of observations:
            by weight scaling, and by the average of all samples.
    """

    ladder: tuple[int, ...]
    means: dict[str, Doubles]
    confidence: tuple[Doubles, ...] = ()
    correct: tuple[npt.NDArray[np.bool_], ...] = ()
    coverage: tuple[float, ...] = ()


def ladder(samples: int) -> tuple[int, ...]:
    """1, 2, 5, 10, 20, 50, … below the number of samples, and that number."""
    steps = (digit * 10**power for power in range(len(str(samples))) for digit in (1, 2, 5))
    return (*(k for k in steps if k < samples), samples)


def of_classes(draws: Doubles, scaled: Doubles, labels: Labels) -> Losses:
    """Takes probabilities: draws of shape (S, n, C), weight scaling's of shape (n, C)."""
    ks = ladder(len(draws))
    found: dict[str, list[Doubles]] = {"error": [], "nll": [], "brier": []}
    confidence, correct = [], []
    for group in (scaled[np.newaxis], *(group_means(draws, k) for k in ks)):
        right = group.argmax(axis=-1) == labels
        found["error"].append((~right).mean(axis=0))
        for name, loss in _proper(group, labels).items():
            found[name].append(loss)
        confidence.append(group[:_GROUPS].max(axis=-1))
        correct.append(right[:_GROUPS])
    means = {name: np.stack(losses, axis=1) for name, losses in found.items()}
    return Losses(ks, means, tuple(confidence), tuple(correct))


def of_values(draws: Doubles, scaled: Doubles, targets: Doubles) -> Losses:
    """Takes values: draws of shape (S, n, …), weight scaling's and the targets of shape (n, …).

    "squared" is the error; "spread" the variance of a network around the mean of k. `with_likelihood` makes a
    likelihood of them, for which all inputs are needed.
    """
    ks = ladder(len(draws))
    groups = [scaled[np.newaxis], *(group_means(draws, k) for k in ks)]
    losses = [
        np.square(group - targets).reshape(len(group), len(targets), -1).mean(axis=(0, 2)) for group in groups
    ]
    variance = draws.var(axis=0, ddof=1).reshape(len(targets), -1).mean(axis=1)
    spreads = [np.zeros(len(targets)), *(variance * (1 + 1 / k) if k > 1 else 0 * variance for k in ks)]
    return Losses(ks, {"squared": np.stack(losses, axis=1), "spread": np.stack(spreads, axis=1)})


def with_likelihood(losses: Losses) -> Losses:
    """The losses of values with a normal likelihood in place of the spread, "nll", and the coverage.

    Its variance is the spread and the noise of observations: for each half of the inputs, every second one,
    what the error of the other half has beyond its spread. Of several outputs the noise is one.
    """
    squared, spread = losses.means["squared"], losses.means["spread"]
    noise = np.empty((2, squared.shape[1]))
    for half in range(2):
        other = slice(1 - half, None, 2) if len(squared) > 1 else slice(None)
        noise[half] = np.maximum((squared[other] - spread[other]).mean(axis=0), 0.0)
    # An error of 0 everywhere has no likelihood; a variance is no less than the squared error's rounding.
    least = np.maximum(np.finfo(np.float64).eps * squared.mean(axis=0), np.finfo(np.float64).tiny)
    variance = np.maximum(spread + noise[np.arange(len(squared)) % 2], least)
    nll = 0.5 * (np.log(2 * np.pi * variance) + squared / variance)
    inside = (squared <= _NORMAL_95**2 * variance).mean(axis=0)
    shares = (float(inside[0]), float(inside[-1]))
    return Losses(losses.ladder, {"squared": squared, "nll": nll}, coverage=shares)


def joined(parts: Sequence[Losses]) -> Losses:
    """The losses of all inputs, from those of some at a time."""
    first = parts[0]
    candidates = range(len(first.confidence))
    return Losses(
        first.ladder,
        {name: np.concatenate([part.means[name] for part in parts]) for name in first.means},
        tuple(np.concatenate([part.confidence[c] for part in parts], axis=1) for c in candidates),
        tuple(np.concatenate([part.correct[c] for part in parts], axis=1) for c in candidates),
    )


def group_means(draws: Doubles, k: int) -> Any:
    """Means over disjoint groups of k draws, shape (S // k, …); what is left over belongs to none."""
    groups = len(draws) // k
    return draws[: groups * k].reshape(groups, k, *draws.shape[1:]).mean(axis=1)


def _proper(group: Doubles, labels: Labels) -> dict[str, Doubles]:
    """Log-likelihood and Brier score of each input, means over the groups; shape (groups, n, C) goes in."""
    probabilities = torch.from_numpy(group).flatten(0, 1)
    right = torch.from_numpy(labels).repeat(len(group))
    one_hot = functional.one_hot(right, group.shape[-1]).double()
    losses = {
        "nll": functional.nll_loss(probabilities.clamp_min(_LEAST).log(), right, reduction="none"),
        "brier": functional.mse_loss(probabilities, one_hot, reduction="none").sum(dim=1),
    }
    return {name: loss.reshape(len(group), -1).mean(dim=0).numpy() for name, loss in losses.items()}
