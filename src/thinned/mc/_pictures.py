"""A prediction is drawn here: its intervals, and how many observations they cover."""

from __future__ import annotations

from typing import Any

import numpy as np

from thinned._installed import needs
from thinned.mc import _regression
from thinned.mc._statistics import Sampled


def coverage(prediction: Sampled, targets: Any, noise: Any, axes: Any) -> Any:
    """Coverage against level."""
    axes = _axes(axes)
    levels = np.linspace(0.05, 0.95, 19)
    found = [_regression.measure(prediction, targets, float(level), noise).coverage for level in levels]
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    axes.plot(levels, found, marker="o", markersize=3)
    axes.set(xlabel="level of the interval", ylabel="share of observations inside", xlim=(0, 1), ylim=(0, 1))
    return axes


def intervals(prediction: Sampled, targets: Any, level: float, noise: Any, axes: Any) -> Any:
    """Mean and interval of each input, in order of the mean, with the observations."""
    axes = _axes(axes)
    low, high = _regression.interval(prediction, level, noise)
    if prediction.mean[0].size != 1:
        raise ValueError(f"plot_intervals draws one output, got outputs of shape {prediction.mean.shape[1:]}")
    order = np.argsort(prediction.mean.ravel())
    place = np.arange(len(order))
    axes.fill_between(
        place, low.ravel()[order], high.ravel()[order], alpha=0.3, label=f"{level:.0%} interval"
    )
    axes.plot(place, prediction.mean.ravel()[order], label="mean")
    if targets is not None:
        y = _regression._targets(prediction, targets)
        axes.plot(place, y.ravel()[order], ".", markersize=3, label="observed")
    axes.set(xlabel="inputs, by their mean")
    axes.legend()
    return axes


def calibration(prediction: Sampled, labels: Any, bins: int, axes: Any) -> Any:
    """Accuracy against confidence of the likeliest class."""
    if prediction.predictive_entropy is None:
        raise ValueError('plot_calibration is of classes: predict with outputs="logits" or "probabilities"')
    axes = _axes(axes)
    right = prediction.mean.argmax(axis=-1) == np.asarray(labels)
    sure = prediction.mean.max(axis=-1)
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.digitize(sure, edges) - 1, 0, bins - 1)
    seen = [number for number in range(bins) if (place == number).any()]
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    axes.plot([sure[place == n].mean() for n in seen], [right[place == n].mean() for n in seen], marker="o")
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    return axes


def _axes(axes: Any) -> Any:
    if axes is not None:
        return axes
    needs("Prediction.plot_…", "matplotlib", "cli")
    from matplotlib.figure import Figure

    return Figure(layout="constrained").add_subplot()
