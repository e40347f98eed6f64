"""The measures: those of the libraries, of each input and of all, and nothing taken for what it is not."""

import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss, log_loss, root_mean_squared_error
from torchmetrics.functional.classification import multiclass_calibration_error

from thinned.mc._bootstrap import _measure, names
from thinned.mc._losses import group_means, joined, ladder, of_classes, of_values, with_likelihood
from thinned.mc._measures import Measures, measures


@pytest.fixture(scope="module")
def drawn():
    """Draws (S, n, C), weight scaling's probabilities, labels that are mostly likely."""
    rng = np.random.default_rng(0)
    scores = 2 * rng.standard_normal((300, 4))
    draws = np.exp(scores + rng.standard_normal((7, 300, 4)))
    draws /= draws.sum(axis=-1, keepdims=True)
    scaled = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    return draws, scaled, np.array([rng.choice(4, p=p) for p in scaled])


def test_by_hand():
    # Confidence 0.9 right, 0.8 wrong, 0.6 right: bins of a fifth hold each by itself.
    found = measures([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], [0, 0, 0], bins=5)
    assert found.error == pytest.approx(1 / 3)
    assert found.nll == pytest.approx(-(np.log(0.9) + np.log(0.2) + np.log(0.6)) / 3)
    assert found.brier == pytest.approx((2 * 0.1**2 + 2 * 0.8**2 + 2 * 0.4**2) / 3)
    # 0.9 and 0.8 share the bin from 0.8 on.
    assert found.calibration == pytest.approx((abs(0.9 + 0.8 - 1) + 0.4) / 3, abs=1e-6)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_they_are_the_libraries(drawn, bins):
    _, scaled, labels = drawn
    found = measures(scaled, labels, bins=bins)
    given, right = torch.from_numpy(scaled), torch.from_numpy(labels)
    assert found.error == np.mean(scaled.argmax(axis=1) != labels)
    assert found.nll == pytest.approx(log_loss(labels, scaled, labels=range(4)), rel=1e-12)
    assert found.brier == pytest.approx(
        brier_score_loss(labels, scaled, labels=range(4), scale_by_half=False), rel=1e-12
    )
    theirs = multiclass_calibration_error(given, right, 4, n_bins=bins)
    assert found.calibration == pytest.approx(float(theirs), rel=1e-5)  # theirs in single precision


def test_tensors_lists_and_low_precision_are_taken(drawn):
    _, scaled, labels = drawn
    exact = measures(scaled, labels)
    for given in (torch.from_numpy(scaled).float(), scaled.astype(np.float32), scaled.tolist()):
        found = measures(given, torch.from_numpy(labels))
        assert found.nll == pytest.approx(exact.nll, rel=1e-5)
        assert found.error == exact.error


def test_a_confidence_that_rounding_took_above_one_stays_a_confidence():
    sure = np.array([[1 + 1e-7, 0.0], [0.75, 0.25]])  # torchmetrics would take all of them for logits
    assert measures(sure, [0, 0]).calibration == pytest.approx(0.125, abs=1e-6)


def test_certainty_that_is_wrong_is_finite():
    found = measures([[1.0, 0.0]], [1])
    assert found == Measures(error=1.0, nll=pytest.approx(36.04, abs=0.01), brier=2.0, calibration=1.0)


def test_means_over_inputs_are_the_measures(drawn):
    """What the bootstrap resamples is what scikit-learn and torchmetrics measure, averaged over groups."""
    draws, scaled, labels = drawn
    losses = joined(
        [of_classes(draws[:, part], scaled[part], labels[part]) for part in (slice(99), slice(99, 300))]
    )
    assert losses.ladder == (1, 2, 5, 7)
    table = _measure(losses, 15, np.ones((1, 300)))[..., 0]
    assert table.shape == (4, 5)
    for column, k in enumerate((None, *losses.ladder)):
        groups = scaled[None] if k is None else group_means(draws, k)
        assert len(groups) == (1 if k is None else 7 // k)
        each = [measures(group, labels) for group in groups]
        for row, name in enumerate(names(losses)):
            some = each[:3] if name == "calibration" else each
            expected = np.mean([getattr(one, name) for one in some])
            assert table[row, column] == pytest.approx(expected, rel=1e-9), (name, k)


def test_root_mean_squared_error_is_scikit_learns():
    rng = np.random.default_rng(1)
    draws, scaled, y = (
        rng.standard_normal((6, 50, 2)),
        rng.standard_normal((50, 2)),
        rng.standard_normal((50, 2)),
    )
    losses = with_likelihood(of_values(draws, scaled, y))
    table = _measure(losses, 15, np.ones((1, 50)))[..., 0]
    assert names(losses) == ("rmse", "nll")
    assert table[0, 0] == pytest.approx(root_mean_squared_error(y.ravel(), scaled.ravel()), rel=1e-12)
    assert table[0, -1] == pytest.approx(
        root_mean_squared_error(y.ravel(), draws.mean(axis=0).ravel()), rel=1e-12
    )
    pairs = [np.mean((draws[k : k + 2].mean(axis=0) - y) ** 2) for k in (0, 2, 4)]
    assert table[0, 2] == pytest.approx(np.sqrt(np.mean(pairs)), rel=1e-12)


def test_the_ladder_ends_with_all_samples():
    assert ladder(2) == (1, 2)
    assert ladder(100) == (1, 2, 5, 10, 20, 50, 100)
    assert ladder(120) == (1, 2, 5, 10, 20, 50, 100, 120)
    assert ladder(7) == (1, 2, 5, 7)


@pytest.mark.parametrize(
    ("probabilities", "labels", "error", "message"),
    [
        ([0.5, 0.5], [0], ValueError, r"must have shape \(n, C\) .* got \(2,\)"),
        ([[1.0]], [0], ValueError, "pass the two columns 1 − p and p"),
        (np.ones((0, 3)), [], ValueError, "n ≥ 1"),
        ([[2.0, 1.0]], [0], ValueError, 'got sums from 3 to 3 .*: pass outputs="logits" for scores'),
        ([[1.5, -0.5]], [0], ValueError, "a least value of -0.5"),
        ([[float("nan"), 1.0]], [0], ValueError, "sum to 1"),
        ([[0.5, 0.5]], [0.0], TypeError, "labels must be integers, got float64"),
        ([[0.5, 0.5]], [[0, 1]], ValueError, r"labels must have shape \(1,\) for outputs of shape \(1, 2\)"),
        ([[0.5, 0.5]], [2], ValueError, r"labels must be in \[0, 2\), the outputs' classes, got 2 to 2"),
        ([[0.5, 0.5]], [-1], ValueError, r"labels must be in \[0, 2\)"),
    ],
)
def test_what_is_wrong_is_named(probabilities, labels, error, message):
    with pytest.raises(error, match=message):
        measures(probabilities, labels)


def test_bins_are_positive():
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        measures([[0.5, 0.5]], [0], bins=0)
