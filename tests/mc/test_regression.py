"""Intervals hold what they promise, and what a prediction can be turned into."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

import thinned
from thinned import mc
from thinned.mc._prediction import Prediction
from thinned.mc._statistics import Statistics

KEY = thinned.Key(3)


def normal(rows=4000, spread=0.5, noise=1.0, samples=50):
    """Networks that are right: the truth is one more draw of theirs, and noise."""
    rng = np.random.default_rng(0)
    center = rng.normal(size=(rows, 1))
    draws = center + spread * rng.normal(size=(samples + 1, rows, 1))
    found = Prediction(draws[1:].mean(0), draws[1:].std(0, ddof=1), samples=np.full(rows, samples))
    return found, draws[0] + noise * rng.normal(size=(rows, 1))


def part(found, rows):
    return Prediction(found.mean[rows], found.std[rows], samples=found.samples[rows])


@pytest.mark.parametrize("held_out", [5, 2000])
@pytest.mark.parametrize("level", [0.5, 0.95])
def test_intervals_hold_their_level_also_by_a_noise_of_few_inputs(held_out, level):
    """Of five inputs a single noise is rough: over many of them the coverage is right to 0.03."""
    found, y = normal()
    shares = []
    for first in range(0, 2000, 2000 if held_out == 2000 else 25):
        rows = slice(first, first + held_out)
        noise = mc.estimate_noise(part(found, rows), y[rows])
        shares.append(part(found, slice(2000, None)).measures(y[2000:], level=level, noise=noise).coverage)
    assert abs(np.mean(shares) - level) < 0.03  # z of 2.3 for one share of 2,000


def test_the_spread_alone_is_no_interval():
    found, y = normal()
    assert found.measures(y, noise=0).coverage < 0.65
    with pytest.raises(ValueError, match="noise is not known: std is the spread"):
        found.interval()


def test_a_noise_is_0_where_the_spread_explains_the_error():
    found, _ = normal(noise=0.0)
    assert mc.estimate_noise(found, found.mean).std == 0


def test_models_that_predict_their_variance():
    class Gaussian(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x):
            return torch.cat([self.drop(x), torch.full_like(x, np.log(4.0))], dim=-1)

    found = mc.predict(Gaussian(), torch.ones(3, 2), samples=40, key=KEY, outputs="gaussian")
    plain = mc.predict(nn.Dropout(0.5), torch.ones(3, 2), samples=40, key=KEY)
    np.testing.assert_array_equal(found.mean, plain.mean)
    np.testing.assert_allclose(found.noise, 2.0, rtol=1e-6)
    low, high = found.interval(0.6827)
    np.testing.assert_allclose(high - low, 2 * np.sqrt(4 + plain.std**2 * (1 + 1 / 40)), rtol=1e-4)
    with pytest.raises(ValueError, match="must be even"):
        mc.predict(nn.Dropout(0.5), torch.ones(3, 3), samples=4, key=KEY, outputs="gaussian")


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (np.zeros((2, 1)), r"must have shape \(4000, 1\)"),
        (np.full((4000, 1), np.nan), "NaN or infinity in 4000"),
    ],
)
def test_targets_that_are_none(targets, words):
    with pytest.raises(ValueError, match=words):
        mc.estimate_noise(normal()[0], targets)


def test_two_inputs_are_too_few_for_a_noise():
    found, y = normal(rows=2)
    with pytest.raises(ValueError, match="at least 3 inputs, got 2"):
        mc.estimate_noise(found, y)


WRONG = np.array([[np.nan], [np.inf], [1.0], [2.0]])


def test_no_measure_counts_what_is_no_number():
    """NaN lies in no interval: the coverage would be too low, without a word."""
    found, y = normal(rows=4)
    other = Prediction(WRONG, found.std, samples=found.samples)
    for prediction, targets in [(found, WRONG), (other, y)]:
        with pytest.raises(ValueError, match="NaN or infinity in 2 of them"):
            prediction.measures(targets, noise=1.0)
    wide = Prediction(found.mean, WRONG, samples=found.samples)
    with pytest.raises(ValueError, match="NaN or infinity in 2 of them"):
        mc.estimate_noise(wide, y)
    assert np.isnan(other.interval(noise=1.0)[0]).tolist() == [[True], [False], [False], [False]]
    with pytest.raises(ValueError, match="targets hold no inputs"):
        part(found, slice(0)).measures([], noise=1.0)


@pytest.mark.parametrize(
    ("noise", "words"),
    [
        (np.ones(4), r"noise must be one number, or of shape \(1,\).* got \(4,\)"),
        (mc.Noise(np.ones(2), 9), r"noise must be one number.* got \(2,\)"),
        (np.inf, "must be a standard deviation ≥ 0, got inf"),
        (np.nan, "must be a standard deviation ≥ 0, got nan"),
    ],
)
def test_a_noise_is_of_the_outputs(noise, words):
    with pytest.raises(ValueError, match=words):
        normal(rows=4)[0].interval(noise=noise)


def test_what_the_intervals_must_know():
    with pytest.raises(ValueError, match="samples of this prediction are not known"):
        Prediction(np.zeros((2, 1)), np.ones((2, 1))).interval(noise=1.0)
    for targets in (["a", "b"], [1j, 2]):
        with pytest.raises(TypeError, match="targets must be real numbers"):
            mc.estimate_noise(normal(rows=2)[0], targets)


def test_a_models_own_noise_that_is_none_stays_in_its_row():
    ones = np.ones((2, 1))
    found = Prediction(WRONG[::2], ones, samples=np.full(2, 9), noise=WRONG[::2])
    assert np.isnan(found.interval()[0]).tolist() == [[True], [False]]


def test_without_pandas_a_line_that_brings_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ModuleNotFoundError, match=r"to_pandas needs pandas, .*: pip install pandas$"):
        normal(rows=2)[0].to_pandas()


def classes():
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 3))
    return mc.predict(model, torch.eye(4), samples=10, key=KEY, outputs="logits", keep=True)


def test_classes_have_no_interval():
    with pytest.raises(ValueError, match="intervals are of values"):
        classes().interval(noise=1)


def test_a_prediction_comes_back_from_a_file_and_as_a_table(tmp_path):
    found = classes()
    found.save(tmp_path / "found.npz")
    again = Prediction.load(tmp_path / "found.npz")
    for name in ("mean", "std", "mutual_information", "samples", "draws"):
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))
    np.testing.assert_array_equal(again.standard_error.mean, found.standard_error.mean)
    assert repr(again) == "Prediction(4 inputs, classes of shape (3,), 10 samples, draws kept)"
    assert "mutual_information" in again.summary()
    with pytest.raises(ValueError, match=r"path must end in \.npz"):
        found.save(tmp_path / "found.csv")
    np.savez(tmp_path / "other.npz", x=1)
    with pytest.raises(ValueError, match="holds no prediction: its arrays are x"):
        Prediction.load(tmp_path / "other.npz")


def test_a_data_frame_has_a_row_for_each_input():
    pytest.importorskip("pandas")
    frame = classes().to_pandas()
    assert list(frame.columns)[:3] == ["mean_0", "mean_1", "mean_2"]
    assert len(frame) == 4
    assert "mutual_information" in frame
    found, _ = normal(rows=5)
    assert list(found.to_pandas().columns) == ["mean", "std", "samples"]
    assert part(found, slice(0)).to_pandas().empty


def test_numbers_that_are_none_are_told_in_the_summary():
    found = Prediction(np.array([[np.nan], [1.0]]), np.zeros((2, 1)), standard_error=Statistics(None, None))
    assert "1 NaN or infinite" in found.summary()


def test_pictures():
    pytest.importorskip("matplotlib")
    found, y = normal(rows=60)
    line = found.plot_coverage(y, noise=1.0).lines[1]
    assert len(line.get_xdata()) == 19
    assert found.plot_intervals(y, noise=1.0).get_xlabel()
    assert classes().plot_calibration([0, 1, 2, 0]).get_xlabel() == "confidence"


def test_values_are_compared_by_likelihood_and_coverage_too():
    torch.manual_seed(0)
    x = torch.randn(300, 4)
    y = x.sum(dim=1, keepdim=True) + torch.randn(300, 1)
    model = nn.Sequential(nn.Dropout(0.02), nn.Linear(4, 1))
    model[1].weight.data.fill_(1.0)
    found = mc.compare(model, (x, y), samples=20, outputs="values", resamples=99)
    assert list(found.verdict) == ["rmse", "nll"]
    assert all(abs(share - 0.95) < 0.05 for share in found.coverage.values())  # z of 4
    assert "hold" in found.cautions[-1]
    with pytest.warns(DeprecationWarning, match=r"Comparison\.averages"):
        assert found.ladder is found.averages
    with pytest.raises(ValueError, match="cannot be compared"):
        mc.compare(model, (x, y), samples=20, outputs="gaussian")
