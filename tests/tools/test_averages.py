"""The averages experiment: what theory says of its means, and what may not change them."""

import math

import numpy as np
import pytest

import thinned
from thinned import averages


@pytest.fixture(scope="module")
def result():
    return averages.run(size=20_000, masks=300, keep=(1.0, 0.7, 0.5, 0.3), seed=3)


def test_unscaled_mean_is_keep_times_total(result):
    for rate in result.rates:
        slack = 5 * rate.unscaled.error if rate.keep < 1 else 1e-5 * abs(result.total)
        assert abs(rate.unscaled.mean - rate.keep * result.total) <= slack
        assert rate.expected == rate.keep * result.total


def test_scaled_mean_is_total(result):
    for rate in result.rates:
        slack = 5 * rate.scaled.error if rate.keep < 1 else 1e-5 * abs(result.total)
        assert abs(rate.scaled.mean - result.total) <= slack
    assert averages.worst_deviation(result) < 5


def test_spread_is_that_of_bernoulli_masks(result):
    squares = float((averages.make_weights(20_000, 3).astype(np.float64) ** 2).sum())
    for rate in result.rates:
        expected = math.sqrt(rate.keep * (1 - rate.keep) * squares)
        # The standard error of a standard deviation over n draws is about σ / √(2n).
        assert abs(rate.unscaled.deviation - expected) <= 5 * expected / math.sqrt(2 * 300) + 1e-3


def test_every_draw_uses_its_row_of_the_mask():
    size, masks = 40_000, 70  # more than one block of draws, more than one of columns
    found = averages.run(size=size, masks=masks, keep=[0.5], seed=1).rates[0].unscaled
    mask = thinned.keep_mask((masks, size), 0.5, key=thinned.Key(1).fold("averages").fold(0))
    expected = mask @ averages.make_weights(size, 1).astype(np.float64)
    assert found.mean == pytest.approx(expected.mean(), abs=1e-3)
    assert found.deviation == pytest.approx(expected.std(ddof=1), abs=1e-3)


def test_same_seed_same_numbers_and_another_seed_others(result):
    again = averages.run(size=20_000, masks=300, keep=(1.0, 0.7, 0.5, 0.3), seed=3)
    assert (again.total, again.rates) == (result.total, result.rates)
    other = averages.run(size=20_000, masks=300, keep=(1.0, 0.7, 0.5, 0.3), seed=4)
    assert other.rates != result.rates


def test_threads_change_nothing(result):
    before = thinned.get_num_threads()
    try:
        for threads in (1, 3):
            thinned.set_num_threads(threads)
            again = averages.run(size=20_000, masks=300, keep=(1.0, 0.7, 0.5, 0.3), seed=3)
            assert again.rates == result.rates
    finally:
        thinned.set_num_threads(before)


def test_progress_adds_up_to_all_draws():
    done = []
    averages.run(size=100, masks=71, keep=[0.5, 0.3], progress=done.append)
    assert sum(done) == 2 * 71


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size must be at least 1, got 0"),
        ({"masks": 1}, "masks must be at least 2, got 1"),
        ({"keep": [0.0]}, r"keep must be in \(0, 1\], got 0.0"),
        ({"keep": [1.5]}, r"keep must be in \[0, 1\], got 1.5"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        averages.run(**{"size": 10, "masks": 2, **arguments})
