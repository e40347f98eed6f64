"""Averages over all masks: the enumeration itself.

Tolerances of 1e-12 and the like are for doubles: sums of up to 2^20 terms, each rounded at 1.1e-16.
"""

import itertools
import math

import numpy as np
import pytest
from exact_cases import LAYER, softmax

from thinned import exact


@pytest.mark.parametrize("chunk", [1, 5, 32, 4096])
def test_masks_are_all_there_once_with_their_probabilities(chunk):
    p = [0.1, 0.5, 0.25, 0.9, 0.3]
    found = {}
    for keep, probability in exact.masks(5, p, chunk=chunk):
        assert len(keep) == len(probability) <= chunk
        assert keep.dtype == bool
        found.update(zip(map(tuple, keep.tolist()), probability.tolist(), strict=True))
    assert list(found) == [mask[::-1] for mask in itertools.product([False, True], repeat=5)]
    for keep, probability in found.items():
        expected = math.prod(1 - one if kept else one for kept, one in zip(keep, p, strict=True))
        assert probability == pytest.approx(expected, rel=1e-15)


def test_a_unit_that_is_always_kept_or_dropped_is_not_enumerated():
    ((keep, probability),) = exact.masks(30, [0.0] * 15 + [1.0] * 14 + [0.5])
    assert keep.shape == (2, 30)
    assert keep[:, :15].all()
    assert not keep[:, 15:29].any()
    assert probability.tolist() == [0.5, 0.5]


def test_probabilities_of_a_million_masks_sum_to_one():
    sums = [(len(keep), probability.sum()) for keep, probability in exact.masks(20, 0.3)]
    assert sum(count for count, _ in sums) == 2**20
    assert math.fsum(total for _, total in sums) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("mode", ["inverted", "classic"])
@pytest.mark.parametrize("p", [0.5, (0.1, 0.0, 1.0, 0.7)])
def test_average_is_the_sum_written_out(mode, p):
    x, rates = np.array([1.0, -2.0, 3.0, 0.5]), np.broadcast_to(p, 4)
    weight = np.random.default_rng(0).standard_normal((4, 3))
    mean, second, logs = np.zeros(3), np.zeros(3), np.zeros(3)
    for keep in itertools.product([False, True], repeat=4):
        probability, given = 1.0, np.zeros(4)
        for unit, kept in enumerate(keep):
            probability *= 1 - rates[unit] if kept else rates[unit]
            if kept and rates[unit] < 1:
                given[unit] = x[unit] / (1 - rates[unit]) if mode == "inverted" else x[unit]
        value = softmax(given @ weight)
        mean += probability * value
        second += probability * value**2
        logs += probability * np.log(value)
    given = np.where(rates < 1, x, 0) if mode == "inverted" else x * (1 - rates)
    for result in (
        exact.average(lambda x: softmax(x @ weight), x, p, mode=mode, geometric="categorical"),
        exact.average_linear(softmax, x, weight, p, mode=mode, geometric="categorical"),
    ):
        np.testing.assert_allclose(result.mean, mean, rtol=0, atol=1e-14)
        np.testing.assert_allclose(result.second_moment, second, rtol=0, atol=1e-14)
        np.testing.assert_allclose(result.variance, second - mean**2, rtol=0, atol=1e-14)
        np.testing.assert_allclose(result.geometric, np.exp(logs) / np.exp(logs).sum(), rtol=0, atol=1e-14)
        np.testing.assert_allclose(result.weight_scaling, softmax(given @ weight), rtol=0, atol=1e-14)


@pytest.mark.parametrize("chunk", [1, 7, 64, None])
def test_chunks_and_ways_agree(chunk):
    x, weight, bias = LAYER
    rows = np.stack([x, x[::-1], x**2])
    p = np.linspace(0, 0.9, 10)
    whole = exact.average(
        lambda x: softmax(x @ weight + bias), rows, p, geometric="categorical", chunk=1 << 10
    )
    for result in (
        exact.average(lambda x: softmax(x @ weight + bias), rows, p, geometric="categorical", chunk=chunk),
        exact.average_linear(softmax, rows, weight, p, bias=bias, geometric="categorical", chunk=chunk),
    ):
        assert whole.mean.shape == (3, 4)
        for name in ("mean", "variance", "weight_scaling", "geometric"):
            np.testing.assert_allclose(getattr(result, name), getattr(whole, name), rtol=0, atol=1e-13)
    for row, mean in zip(rows, whole.mean, strict=True):  # a row is averaged as if it were alone
        alone = exact.average(lambda x: softmax(x @ weight + bias), row, p)
        np.testing.assert_allclose(alone.mean, mean, rtol=0, atol=1e-13)


def test_sites_are_their_units_together():
    x, weight, bias = LAYER
    sizes, p = (3, 5, 2), (0.5, np.linspace(0.1, 0.9, 5), [0.0, 0.3])
    seen = []

    def function(*factors):
        seen.append([factor.shape[1] for factor in factors])
        return np.tanh((np.concatenate(factors, axis=1) * x) @ weight + bias)

    rates = np.concatenate([[0.5] * 3, p[1], p[2]])
    for mode in ("inverted", "classic"):
        found = exact.average_sites(function, sizes, p, mode=mode, chunk=100)
        expected = exact.average(lambda x: np.tanh(x @ weight + bias), x, rates, mode=mode)
        for name in ("mean", "variance", "weight_scaling"):
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=0, atol=1e-13)
    assert set(map(tuple, seen)) == {sizes}


def test_without_dropout_all_averages_are_one_number():
    x, weight, _ = LAYER
    result = exact.average(lambda x: softmax(x @ weight), x, 0.0, geometric="categorical")
    assert np.array_equal(result.mean, result.weight_scaling)
    assert np.array_equal(result.variance, np.zeros(4))
    np.testing.assert_allclose(result.geometric, result.mean, rtol=0, atol=1e-15)
    constant = exact.average(lambda x: np.full(len(x), 1 / 3), x, 0.3)
    assert (float(constant.mean), float(constant.variance)) == (1 / 3, 0.0)


def test_dropped_is_zero_whatever_it_was():
    _, weight, _ = LAYER
    x = np.array([1.0, math.nan, math.inf, *range(7)])
    p = np.array([0.5, 1, 1, *[0.2] * 7])
    clean = np.where(p < 1, x, 0.0)
    for ways in (
        lambda x: exact.average(lambda x: np.tanh(x @ weight), x, p),
        lambda x: exact.average_linear(np.tanh, x, weight, p),
    ):
        assert np.array_equal(ways(x).mean, ways(clean).mean)
        assert np.array_equal(ways(x).weight_scaling, ways(clean).weight_scaling)


def test_twenty_units_and_not_one_more():
    weight = np.random.default_rng(2).standard_normal((20, 1))
    x = np.ones(20)
    result = exact.average_linear(lambda s: s[:, 0], x, weight, 0.3)
    assert float(result.mean) == pytest.approx(weight.sum(), abs=1e-11)
    assert float(result.variance) == pytest.approx(0.3 / 0.7 * (weight**2).sum(), rel=1e-11)
    message = r"21 units have 2\^21 masks, and at most 20 units are enumerated: .*\(Monte Carlo\)"
    never = pytest.fail
    for refused in (
        lambda: exact.masks(21, 0.5),
        lambda: exact.average(never, np.ones(21), 0.5),
        lambda: exact.average_linear(never, np.ones(21), np.ones((21, 1)), 0.5),
        lambda: exact.average_sites(never, (10, 11), 0.5),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
