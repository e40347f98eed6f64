"""Intervals for observations are computed here from the networks' spread and the observation noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from thinned.mc._statistics import Doubles, Sampled

_LEAST = 3  # held-out inputs from which a noise is estimated


@dataclass(frozen=True)
class Noise:
    """Holds what observations scatter by around what a model predicts, the same for all inputs.

    Attributes:
        std: standard deviation of each output, shape (…) of one input's outputs.
        inputs: how many held-out inputs it was estimated from; None where it is known.

    Example:
        >>> from thinned.mc import Prediction
        >>> found = Prediction(np.zeros((1, 1)), np.zeros((1, 1)), samples=np.full(1, 100))
        >>> found.interval(0.95, noise=Noise(np.ones(1)))[1].round(2)
        array([[1.96]])
    """

    std: Doubles
    inputs: int | None = None


@dataclass(frozen=True)
class RegressionMeasures:
    """Says how good predictions of values are.

    Attributes:
        rmse: root of the mean squared error of the mean.
        nll: mean negative log-likelihood of the observations, in nats, of a normal (or Student) distribution.
        coverage: share of the observations inside their interval, which should be near its level.
        width: mean width of the intervals: of two with the right coverage the narrower is the better.
        level: of the intervals.

    Example:
        >>> from thinned.mc import Prediction
        >>> found = Prediction(np.zeros((2, 1)), np.zeros((2, 1)), samples=np.full(2, 100))
        >>> found.measures([1.0, 3.0], noise=1.0).coverage
        0.5
    """

    rmse: float
    nll: float
    coverage: float
    width: float
    level: float


def estimate_noise(prediction: Sampled, targets: Any) -> Noise:
    """Estimate the noise of observations from held-out ones, which neither training nor tuning has seen.

    Of the mean squared error of the mean, what the spread of the samples does not explain is noise. Training
    data give a noise that is too small. Inputs with a mean or target that is not a number are an error.

    Args:
        prediction: of held-out inputs, with `outputs="values"`.
        targets: their observations, of the mean's shape, or (n,) for a single output.

    Returns:
        The noise of each output; 0 where the spread explains all of the error.

    Raises:
        ValueError: `targets must have shape …, got …`; `targets must hold at least 3 inputs, got …`;
            `targets and predictions must be numbers, got NaN or infinity in … of them`.

    Example:
        >>> import numpy as np
        >>> from thinned.mc import Prediction
        >>> held_out = Prediction(np.zeros((4, 1)), np.full((4, 1), 0.5), samples=np.full(4, 100))
        >>> estimate_noise(held_out, [1.0, -1.0, 1.0, -1.0]).std.round(3)
        array([0.865])
    """
    y = _targets(prediction, targets)
    if len(y) < _LEAST:
        raise ValueError(
            f"targets must hold at least {_LEAST} inputs, got {len(y)}: a noise of fewer is a guess"
        )
    beyond = np.square(y - prediction.mean) - _spread(prediction)
    _check_finite(beyond)
    variance = beyond.mean(axis=0)
    return Noise(np.sqrt(np.maximum(variance, 0.0)), len(y))


def interval(prediction: Sampled, level: float, noise: Any) -> tuple[Doubles, Doubles]:
    """The limits between which an observation lies with this probability; see `Prediction.interval`."""
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}")
    from scipy.special import stdtrit  # type: ignore[import-untyped]

    scale, freedom = _scale(prediction, noise)
    half = stdtrit(freedom, (1 + level) / 2) * scale
    return prediction.mean - half, prediction.mean + half


def measure(prediction: Sampled, targets: Any, level: float, noise: Any) -> RegressionMeasures:
    """The measures; see `Prediction.measures`."""
    from scipy.stats import t  # type: ignore[import-untyped]

    y = _targets(prediction, targets)
    low, high = interval(prediction, level, noise)
    scale, freedom = _scale(prediction, noise)
    if not len(y):
        raise ValueError("targets hold no inputs: there is nothing to measure")
    _check_finite((y - prediction.mean) * scale)
    if not (scale > 0).all():
        raise ValueError(
            "the spread and the noise are both 0 for some inputs: no observation has a likelihood"
        )
    return RegressionMeasures(
        rmse=float(np.sqrt(np.square(y - prediction.mean).mean())),
        nll=float(-t.logpdf(y, freedom, prediction.mean, scale).mean()),
        coverage=float(((low <= y) & (y <= high)).mean()),
        width=float((high - low).mean()),
        level=level,
    )


def _check_finite(values: Doubles) -> None:
    if wrong := int((~np.isfinite(values)).sum()):
        raise ValueError(f"targets and predictions must be numbers, got NaN or infinity in {wrong} of them")


def _spread(prediction: Sampled) -> Doubles:
    """Variance of a network drawn at random around the mean of S of them."""
    if prediction.samples is None:
        raise ValueError(
            "samples of this prediction are not known: pass Prediction(…, samples=…), of each input"
        )
    samples = np.asarray(prediction.samples, np.float64)
    each = samples.reshape(-1, *(1,) * (prediction.std.ndim - 1))
    return np.square(prediction.std) * (1 + 1 / each)


def _scale(prediction: Sampled, noise: Any) -> tuple[Doubles, float]:
    """Standard deviation of an observation, and the degrees of freedom of its estimate."""
    if prediction.predictive_entropy is not None:
        raise ValueError(
            'intervals are of values, and these outputs are classes: predict with outputs="values"'
        )
    if noise is None and prediction.noise is not None:  # where it is NaN, so is the mean
        return np.sqrt(_spread(prediction) + np.square(prediction.noise)), np.inf
    if noise is None:
        raise ValueError(
            "noise is not known: std is the spread of the networks, and an observation scatters around them. "
            "Pass noise=mc.estimate_noise(held_out, targets), a standard deviation, or noise=0 for an "
            "interval of the networks alone; a model that predicts its variance is predicted with "
            'outputs="gaussian"'
        )
    known = noise if isinstance(noise, Noise) else Noise(np.asarray(noise, np.float64))
    std, shape = np.asarray(known.std), prediction.mean.shape
    if not (np.isfinite(std) & (std >= 0)).all():
        raise ValueError(f"noise must be a standard deviation ≥ 0, got {std.min()}")
    if std.shape not in ((), shape[1:], shape):
        raise ValueError(
            f"noise must be one number, or of shape {shape[1:]}, that of one input's outputs, got {std.shape}"
        )
    return np.sqrt(_spread(prediction) + np.square(std)), float(known.inputs or np.inf)


def _targets(prediction: Sampled, targets: Any) -> Doubles:
    given = targets.detach().cpu().numpy() if hasattr(targets, "detach") else np.asarray(targets)
    if given.dtype.kind in "USc":
        raise TypeError(f"targets must be real numbers, got {given.dtype}")
    y = given.astype(np.float64)
    shape = prediction.mean.shape
    if y.shape == shape[:1] and int(np.prod(shape[1:])) == 1:
        y = y.reshape(shape)
    if y.shape != shape:
        raise ValueError(f"targets must have shape {shape}, that of the mean, got {y.shape}")
    return y
