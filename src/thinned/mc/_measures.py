"""Predictions are measured here as scikit-learn and torchmetrics measure them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import (  # type: ignore[import-untyped]
    brier_score_loss,
    log_loss,
    zero_one_loss,
)
from torchmetrics.functional.classification import binary_calibration_error

from thinned.contract import check_integer

Doubles = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

BINS: Final = 15
_SUM = 1e-3  # how far from 1 the sum of bfloat16 probabilities may be


@dataclass(frozen=True)
class Measures:
    """Says how good probabilities are for the labels that came true; less is better in all four.

    Attributes:
        error: share of the inputs whose likeliest class is not their label, in [0, 1].
        nll: mean negative log-likelihood of the labels, in nats.
        brier: mean squared distance from the label's 0s and 1s, summed over the classes, in [0, 2].
        calibration: expected calibration error of the likeliest class, in [0, 1]: the mean distance between
            confidence and accuracy over bins of equal width.

    Example:
        >>> measures([[1.0, 0.0], [1.0, 0.0]], [0, 1]).error
        0.5
    """

    error: float
    nll: float
    brier: float
    calibration: float


def measures(probabilities: Any, labels: Any, *, bins: int = BINS) -> Measures:
    """Measure the error, log-likelihood, Brier score and calibration of probabilities.

    Args:
        probabilities: array or tensor of shape (n, C), C ≥ 2, each row in [0, 1] with sum 1.
        labels: integers of shape (n,), in [0, C).
        bins: of the calibration error, at least 1.

    Returns:
        The measures, each over all n inputs.

    Raises:
        TypeError: `labels must be integers, got …`.
        ValueError: `probabilities must have shape (n, C) with n ≥ 1 and C ≥ 2, got …`; `probabilities must
            be ≥ 0 and sum to 1 …`; `labels must be in [0, C) …`; `labels must have shape …`; `bins must be
            at least 1, got …`.

    Source:
        Brier, "Verification of forecasts expressed in terms of probability", 1950; Guo, Pleiss, Sun and
        Weinberger, "On Calibration of Modern Neural Networks", ICML 2017 (calibration error).

    Example:
        >>> found = measures([[0.75, 0.25], [0.5, 0.5]], [0, 1])
        >>> found.error, round(found.nll, 4), found.brier, found.calibration
        (0.5, 0.4904, 0.3125, 0.375)
    """
    check_bins(bins)
    given = check_probabilities(probabilities)
    right = check_labels(labels, given.shape)
    classes = np.arange(given.shape[1])
    return Measures(
        error=float(zero_one_loss(right, given.argmax(axis=1))),
        nll=float(log_loss(right, given, labels=classes)),
        brier=float(brier_score_loss(right, given, labels=classes, scale_by_half=False)),
        calibration=calibration(given.max(axis=1), given.argmax(axis=1) == right, bins),
    )


def calibration(confidence: Doubles, correct: npt.NDArray[np.bool_], bins: int) -> float:
    """Expected calibration error of predictions, each of this confidence and correct or not.

    For the likeliest class torchmetrics' multiclass measure is its binary one of these two.
    """
    sure, right = torch.from_numpy(confidence).contiguous(), torch.from_numpy(correct).long()
    return float(binary_calibration_error(sure, right, n_bins=bins, validate_args=False))


def refuse_complex(name: str, values: Any) -> None:
    """A complex number would lose its imaginary part."""
    if np.iscomplexobj(values):
        raise TypeError(f"{name} must be real numbers, got {np.asarray(values).dtype}")


def check_bins(bins: Any) -> None:
    """The number of bins of a calibration error."""
    if check_integer("bins", bins) < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")


def check_probabilities(probabilities: Any) -> Doubles:
    """Returns probabilities in double, with rows that sum to 1 as closely as doubles can.

    A single one above 1 by rounding would make torchmetrics take all of them for logits.
    """
    refuse_complex("probabilities", probabilities)
    given = np.asarray(probabilities, np.float64)
    if given.ndim != 2 or given.shape[0] < 1 or given.shape[1] < 2:
        raise ValueError(
            f"probabilities must have shape (n, C) with n ≥ 1 and C ≥ 2, got {given.shape}: for the "
            "probability p of an event pass the two columns 1 − p and p"
        )
    sums = given.sum(axis=1, keepdims=True)
    if not (np.all(given >= 0) and np.all(abs(sums - 1) <= _SUM)):
        raise ValueError(
            f"probabilities must be ≥ 0 and sum to 1 along the last axis, got sums from {sums.min():.4g} to "
            f'{sums.max():.4g} and a least value of {given.min():.4g}: pass outputs="logits" for scores'
        )
    return np.asarray(given / sums, np.float64)


def check_labels(labels: Any, shape: tuple[int, ...]) -> Labels:
    """Class numbers that fit probabilities of this shape."""
    given = np.asarray(labels)
    if given.dtype.kind not in "iu":
        raise TypeError(f"labels must be integers, got {given.dtype}: pass class numbers, not one-hot rows")
    if given.shape != shape[:1]:
        raise ValueError(
            f"labels must have shape {shape[:1]} for outputs of shape {shape}, got {given.shape}"
        )
    if given.min() < 0 or given.max() >= shape[1]:
        raise ValueError(
            f"labels must be in [0, {shape[1]}), the outputs' classes, got {given.min()} to {given.max()}"
        )
    return given.astype(np.int64)
