"""Statistics of samples, and the standard errors that they come with."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import log_loss

from thinned.mc import _statistics
from thinned.mc._statistics import as_outputs, summarise


def softmax(x):
    return as_outputs(x, "logits")


def draws_of(samples, rng, n=6, classes=4):
    return softmax(rng.standard_normal((samples, n, classes)) * 1.5 + np.linspace(-2, 2, classes))


def test_statistics_are_those_of_scipy():
    draws = draws_of(50, np.random.default_rng(1))
    found, error = summarise(draws, "probabilities")
    np.testing.assert_allclose(found.mean, draws.mean(0))
    np.testing.assert_allclose(found.std, draws.std(0, ddof=1))
    np.testing.assert_allclose(error.mean, stats.sem(draws, axis=0))
    entropy = stats.entropy(draws.mean(0), axis=-1)
    np.testing.assert_allclose(found.predictive_entropy, entropy)
    np.testing.assert_allclose(found.mutual_information, entropy - stats.entropy(draws, axis=-1).mean(0))
    votes = stats.mode(draws.argmax(-1), axis=0).count
    np.testing.assert_allclose(found.variation_ratio, 1 - votes / 50)


def test_logits_become_probabilities():
    logits = np.array([[[1000.0, 0.0], [0.0, 0.0]]], np.float32)
    np.testing.assert_array_equal(softmax(logits), [[[1.0, 0.0], [0.5, 0.5]]])
    p = softmax(np.random.default_rng(1).standard_normal((3, 5, 4)))
    assert log_loss([0, 1, 2, 3, 0], p[0]) > 0
    np.testing.assert_allclose(p.sum(-1), 1)


@pytest.mark.parametrize(
    "statistic", ["mean", "std", "predictive_entropy", "mutual_information", "variation_ratio"]
)
def test_a_standard_error_is_the_spread_over_runs(statistic):
    """Over 400 runs of 200 samples, the mean error is the spread of the statistic within 12 %.

    The spread of 400 values has itself a relative error of 3.5 %, and to first order the formulas are right:
    6 outputs at |z| < 3.4. The error of the variation ratio is large on purpose, by 2 samples of 200.
    """
    rng = np.random.default_rng(2)
    values, errors = [], []
    for _ in range(400):
        found, error = summarise(draws_of(200, rng), "probabilities")
        values.append(getattr(found, statistic))
        errors.append(getattr(error, statistic))
    ratio = np.mean(errors, axis=0) / np.std(values, axis=0)
    assert np.abs(ratio.reshape(6, -1).mean(-1) - 1).max() < 0.12


def test_agreement_of_all_samples_is_no_certainty():
    draws = np.tile([[[0.9, 0.1]]], (20, 1, 1))
    found, error = summarise(draws, "probabilities")
    assert found.variation_ratio == 0
    assert error.variation_ratio > 0.02
    assert max(error.mean.max(), error.std.max(), error.mutual_information.max()) < 1e-16


def test_certain_probabilities_have_no_entropy():
    found, error = summarise(np.tile([[[1.0, 0.0]]], (5, 1, 1)), "probabilities")
    assert found.predictive_entropy == found.mutual_information == 0
    assert np.isfinite(error.predictive_entropy).all()


@pytest.mark.parametrize("outputs", ["values", "probabilities"])
@pytest.mark.parametrize("block", [1, 50, 1 << 17])
def test_blocks_make_no_difference(outputs, block, monkeypatch):
    draws = draws_of(20, np.random.default_rng(3)).reshape(20, 2, 3, 4)
    want = summarise(draws, outputs)
    monkeypatch.setattr(_statistics, "_BLOCK", block)
    for ours, theirs in zip(summarise(draws, outputs), want, strict=True):
        for name, value in vars(theirs).items():
            np.testing.assert_allclose(getattr(ours, name), value) if value is not None else None
    assert want[0].mean.shape == (2, 3, 4)
    if outputs != "values":
        assert want[0].mutual_information.shape == want[1].mutual_information.shape == (2, 3)


def test_outputs_without_dimensions():
    found, error = summarise(np.random.default_rng(1).standard_normal((10, 7)), "values")
    assert found.mean.shape == error.std.shape == (7,)


def test_what_is_not_a_number_has_no_standard_error():
    found, error = summarise(np.array([[np.nan, 1.0, 1.0], [1.0, 1.0, 2.0]]), "values")
    assert np.isnan([found.mean[0], found.std[0], error.mean[0], error.std[0]]).all()
    assert error.std[1] == 0 < error.std[2]


def test_scores_are_not_taken_for_probabilities():
    """Their entropies were numbers as others."""
    for scores in ([[[2.0, -1.0]]], [[[3.0, 0.5]]]):
        with pytest.raises(ValueError, match=r'outputs="probabilities" has numbers in \[0, 1\], got'):
            as_outputs(np.array(scores), "probabilities")
    for shares in ([[[1.0078125, 0.0]]], [[[np.nan, 0.5]]], np.ones((2, 0, 3))):
        np.testing.assert_array_equal(as_outputs(np.array(shares), "probabilities"), shares)
