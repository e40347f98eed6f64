"""Statistics over samples of a network's outputs are computed here, each with its standard error."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

Outputs = Literal["values", "logits", "probabilities", "gaussian"]
Doubles = npt.NDArray[np.float64]

OUTPUTS: Final = ("values", "logits", "probabilities", "gaussian")

_BLOCK = 1 << 17  # numbers in the draws that are summarised at a time: 1 MiB

_ROUNDING = 0.02  # of a probability in bfloat16


@dataclass(frozen=True)
class Statistics:
    """Statistics over the samples of n inputs; those of classes are None where outputs are no probabilities.

    Attributes:
        mean: of the outputs; shape (n, …); probabilities where the model gives logits.
        std: standard deviation over the samples (with S − 1), of the same shape.
        predictive_entropy: of the mean's distribution over the last axis, in nats; shape (n, …) without it.
        mutual_information: predictive entropy less the mean entropy of the samples, in nats: what the
            samples disagree about. Of the same shape as the entropy.
        variation_ratio: share of the samples whose likeliest class is not the commonest one, in [0, 1).
        noise: standard deviation that the model itself predicts, with `outputs="gaussian"`: the root of the
            mean of its variances. Of the mean's shape.
    """

    mean: Doubles
    std: Doubles
    predictive_entropy: Doubles | None = None
    mutual_information: Doubles | None = None
    variation_ratio: Doubles | None = None
    noise: Doubles | None = None


@dataclass(frozen=True, repr=False)
class Sampled(Statistics):
    """Statistics with their standard errors, the number of samples and, where asked for, the samples."""

    # `predict` always gives both, so type checkers need not ask; a caller may make one without.
    standard_error: Statistics = None  # type: ignore[assignment]
    samples: npt.NDArray[np.int64] = None  # type: ignore[assignment]
    draws: npt.NDArray[Any] | None = None


def check_outputs(outputs: Any) -> Outputs:
    """Checks the kind of outputs: values if none is given."""
    if outputs is None:
        return "values"
    if outputs not in OUTPUTS:
        raise ValueError(
            f'outputs must be "values", "logits", "probabilities" or "gaussian", got {outputs!r}'
        )
    return outputs  # type: ignore[no-any-return]


def doubt(mean: Doubles, stacklevel: int) -> None:
    """Ask what outputs are that were taken for values, where they have the shape of classes' scores.

    Warns:
        UserWarning: `outputs= was not given, …`.
    """
    if mean.ndim != 2 or mean.shape[1] < 2:
        return
    shares = bool((mean >= 0).all()) and bool((np.abs(mean.sum(axis=1) - 1) < 1e-3).all())
    kind, pass_ = ("probabilities", "probabilities") if shares else ("scores of classes", "logits")
    warnings.warn(
        f"outputs= was not given, and the {mean.shape[1]} outputs of each input are averaged as values. If "
        f'they are {kind}, pass outputs="{pass_}"; if they are values, outputs="values" says so',
        stacklevel=stacklevel + 1,
    )


def as_outputs(raw: npt.NDArray[Any], outputs: Outputs) -> npt.NDArray[Any]:
    """Samples as statistics take them: probabilities where the model gives logits."""
    if np.iscomplexobj(raw):
        raise TypeError(
            f"the model must return real numbers, got {raw.dtype}: return real and imaginary parts side by "
            "side, torch.view_as_real(outputs)"
        )
    if outputs == "gaussian":
        return _with_variances(raw)
    if outputs == "probabilities":
        _check_shares(raw)
    if outputs != "logits":
        return raw
    shifted = raw - raw.max(axis=-1, keepdims=True)
    grown = np.exp(shifted, dtype=np.promote_types(raw.dtype, np.float32))
    return grown / grown.sum(axis=-1, keepdims=True)  # type: ignore[no-any-return]


def _check_shares(raw: npt.NDArray[Any]) -> None:
    """Refuse scores: their entropies would be numbers as others. Rounding, and NaN, pass."""
    if not raw.size:
        return
    low, high = float(np.nanmin(raw, initial=0.0)), float(np.nanmax(raw, initial=0.0))
    if low < -_ROUNDING or high > 1.0 + _ROUNDING:
        raise ValueError(
            f'outputs="probabilities" has numbers in [0, 1], got {low:.3g} to {high:.3g}: pass '
            'outputs="logits" for scores'
        )


def _with_variances(raw: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The second half of the last dimension as variances, in place of their logarithms."""
    if raw.ndim < 3 or raw.shape[-1] % 2:
        raise ValueError(
            'outputs="gaussian" has means and then logarithms of variances along the last dimension, which '
            f"must be even, got shape {raw.shape[1:]}: torch.cat([mean, log_variance], dim=-1)"
        )
    half = raw.shape[-1] // 2
    return np.concatenate([raw[..., :half], np.exp(raw[..., half:])], axis=-1)


def error_of_mean(draws: npt.NDArray[Any]) -> Doubles:
    """Standard error of the mean over the first axis."""
    return np.std(draws, axis=0, ddof=1, dtype=np.float64) / np.sqrt(len(draws))  # type: ignore[no-any-return]


def summarise(draws: npt.NDArray[Any], outputs: Outputs) -> tuple[Statistics, Statistics]:
    """Statistics of samples of shape (S, …), S ≥ 2, and the standard error of each.

    Of the mean: s/√S. Of the deviation: from the fourth moment. Of what is a function of the mean: to first
    order (the delta method). Of the variation ratio: binomial, with two samples added on either side, so
    that it is not 0 where all samples happen to agree.
    """
    mean, std, of_std = _in_blocks(draws, _moments)
    of_mean = std / np.sqrt(len(draws))
    if outputs == "values":
        return Statistics(mean, std), Statistics(of_mean, of_std)
    if outputs == "gaussian":
        (mean, variance), (std, _) = _halves(mean), _halves(std)
        (of_mean, of_variance), (of_std, _) = _halves(of_mean), _halves(of_std)
        noise = np.sqrt(variance)
        of_noise = np.divide(of_variance, 2 * noise, out=np.zeros_like(noise), where=noise != 0)
        return Statistics(mean, std, noise=noise), Statistics(of_mean, of_std, noise=of_noise)
    found = _in_blocks(draws.reshape(len(draws), -1, draws.shape[-1]), _of_classes)
    classes = [values.reshape(mean.shape[:-1]) for values in found]
    return Statistics(mean, std, *classes[:3]), Statistics(of_mean, of_std, *classes[3:])


def _halves(values: Doubles) -> tuple[Doubles, Doubles]:
    half = values.shape[-1] // 2
    return values[..., :half], values[..., half:]


def _in_blocks(draws: npt.NDArray[Any], of: Callable[[Doubles], tuple[Doubles, ...]]) -> list[Doubles]:
    """Gives what a function makes of (S, n, …), a part of the n at a time: in the cache it takes a third."""
    inside = draws.shape[1:]
    flat = draws.reshape(len(draws), -1) if of is _moments else draws
    block = max(1, _BLOCK // max(1, flat[:, :1].size))
    edges = range(0, max(flat.shape[1], 1), block)
    parts = [of(flat[:, first : first + block].astype(np.float64)) for first in edges]
    joined = [np.concatenate(part) for part in zip(*parts, strict=True)]
    return [part.reshape(inside) for part in joined] if of is _moments else joined


def _moments(drawn: Doubles) -> tuple[Doubles, ...]:
    """Mean, standard deviation and the standard error of that."""
    count = len(drawn)
    mean = np.add.reduce(drawn) / count  # as `mean` has it, at half the time for few numbers
    square = np.square(drawn - mean)
    variance = np.add.reduce(square) / (count - 1)
    std = np.sqrt(variance)
    fourth = np.add.reduce(np.square(square)) / count
    of_variance = np.maximum(fourth - variance**2 * (count - 3) / (count - 1), 0.0) / count
    return mean, std, np.divide(np.sqrt(of_variance), 2 * std, out=np.zeros_like(std), where=std != 0)


def _of_classes(drawn: Doubles) -> tuple[Doubles, ...]:
    """Entropy, mutual information and variation ratio, and their standard errors."""
    count = len(drawn)
    mean = drawn.mean(axis=0)
    tiny = np.finfo(np.float64).tiny  # x log x is 0 at 0
    surprise = -np.log(np.maximum(mean, tiny))
    entropy = (mean * surprise).sum(axis=-1)
    each = -(drawn * np.log(np.maximum(drawn, tiny))).sum(axis=-1)
    information = np.maximum(entropy - each.mean(axis=0), 0.0)
    cross = (drawn * surprise).sum(axis=-1)
    votes = drawn.argmax(axis=-1)
    commonest = np.max([(votes == c).sum(axis=0) for c in range(drawn.shape[-1])], axis=0)
    others = count - commonest
    near = (others + 2.0) / (count + 4.0)
    errors = (error_of_mean(cross), error_of_mean(cross - each), np.sqrt(near * (1.0 - near) / (count + 4.0)))
    return entropy, information, others / count, *errors
