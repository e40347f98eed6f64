"""Averages over all masks: against theory, against each other, and against masks that thinned draws.

Tolerances of 1e-12 and the like are for doubles: sums of up to 2^20 terms, each rounded at 1.1e-16.
"""

import itertools
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_digits

import thinned
from thinned import exact
from thinned.demo import digits

RATES = [0.2, 0.5, 0.8]


def softmax(scores):
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def sigmoid(scores):
    return 1 / (1 + np.exp(-scores))


@pytest.fixture(scope="module")
def layer():
    """Ten units, four outputs: x, weight, bias."""
    rng = np.random.default_rng(1)
    return rng.standard_normal(10), rng.standard_normal((10, 4)), rng.standard_normal(4)


@pytest.fixture(scope="module")
def diabetes():
    x, y = load_diabetes(return_X_y=True)
    return x, y - y.mean()


# The enumeration itself.


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
def test_chunks_and_ways_agree(layer, chunk):
    x, weight, bias = layer
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


def test_sites_are_their_units_together(layer):
    x, weight, bias = layer
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


def test_without_dropout_all_averages_are_one_number(layer):
    x, weight, _ = layer
    result = exact.average(lambda x: softmax(x @ weight), x, 0.0, geometric="categorical")
    assert np.array_equal(result.mean, result.weight_scaling)
    assert np.array_equal(result.variance, np.zeros(4))
    np.testing.assert_allclose(result.geometric, result.mean, rtol=0, atol=1e-15)
    constant = exact.average(lambda x: np.full(len(x), 1 / 3), x, 0.3)
    assert (float(constant.mean), float(constant.variance)) == (1 / 3, 0.0)


def test_dropped_is_zero_whatever_it_was(layer):
    _, weight, _ = layer
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


# What theory says.


@pytest.mark.parametrize("p", RATES)
def test_softmax_weight_scaling_is_the_geometric_mean(layer, p):
    """The logarithm of a softmax is linear in the mask, but for what renormalising takes away."""
    x, weight, bias = layer
    for mode in ("inverted", "classic"):
        result = exact.average(lambda x: softmax(x @ weight + bias), x, p, mode=mode, geometric="categorical")
        assert abs(result.weight_scaling - result.geometric).max() < 1e-13
        assert abs(result.weight_scaling - result.mean).max() > 1e-2


def test_softmax_on_digits():
    """The same on data: 64 pixels reduced to the 16 that vary most, masks by the 65,536."""
    images, labels = load_digits(return_X_y=True)
    images = images[:, np.sort(np.argsort(-images.var(axis=0))[:16])] / 16
    weight = np.stack([images[labels == digit].mean(axis=0) - images.mean(axis=0) for digit in range(10)], 1)
    result = exact.average_linear(softmax, images[:3], 4 * weight, 0.5, geometric="categorical")
    assert abs(result.weight_scaling - result.geometric).max() < 1e-12
    assert abs(result.weight_scaling - result.mean).max() > 1e-2


@pytest.mark.parametrize("p", RATES)
def test_sigmoid_geometric_mean_is_the_sigmoid_of_the_mean(layer, p):
    """Baldi and Sadowski 2013: NWGM = σ(E[S])."""
    x, weight, bias = layer
    weight = weight / 3  # |S| < 10: 1 − σ, of which a logarithm is taken, keeps its digits
    result = exact.average(lambda x: sigmoid(x @ weight + bias), x, p, geometric="bernoulli")
    assert abs(result.geometric - sigmoid(x @ weight + bias)).max() < 1e-13
    assert abs(result.geometric - result.mean).max() > 1e-3


@pytest.mark.parametrize("mode", ["inverted", "classic"])
@pytest.mark.parametrize("p", [0.2, 0.5, (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)])
def test_linear_regression_is_ridge(diabetes, mode, p):
    """Wager, Wang and Liang 2013, on 442 rows of 10 features, over all 1024 masks."""
    x, y = diabetes
    w = np.random.default_rng(3).standard_normal(10) * 300

    def loss(thinned_x, w=w):
        return ((y - thinned_x @ w) ** 2).sum(axis=-1)

    enumerated = exact.average(loss, x, p, mode=mode).mean
    closed = exact.expected_squared_error(x, y, w, p, mode=mode)
    assert float(enumerated) == pytest.approx(closed, rel=1e-13)
    if mode == "inverted":  # as the papers write it
        rates = np.broadcast_to(p, 10)
        written = ((y - x @ w) ** 2).sum() + (rates / (1 - rates) * np.diag(x.T @ x) * w**2).sum()
        assert closed == pytest.approx(written, rel=1e-13)
        np.testing.assert_allclose(
            exact.ridge_penalty(x, p), rates / (1 - rates) * np.diag(x.T @ x), rtol=1e-13
        )


@pytest.mark.parametrize("mode", ["inverted", "classic"])
def test_the_enumerated_loss_is_least_at_the_ridge_solution(diabetes, mode):
    """Its gradient, also enumerated, is 0 there, and nowhere near."""
    x, y = diabetes
    p = np.linspace(0.1, 0.8, 10)
    best = exact.ridge_solution(x, y, p, mode=mode)

    def gradient(w):
        def function(thinned_x):
            return -2 * np.einsum("brn,br->bn", thinned_x, y - thinned_x @ w)

        return exact.average(function, x, p, mode=mode).mean

    size = abs(gradient(np.zeros(10))).max()
    assert abs(gradient(best)).max() < 1e-12 * size
    assert abs(gradient(best * 1.001)).max() > 1e-5 * size
    if mode == "inverted":
        ridge = np.linalg.solve(x.T @ x + np.diag(exact.ridge_penalty(x, p)), x.T @ y)
        np.testing.assert_allclose(best, ridge, rtol=1e-10)
    else:  # the same model in other units
        np.testing.assert_allclose(best * (1 - p), exact.ridge_solution(x, y, p), rtol=1e-10)


def test_autograd_goes_through_all_masks(diabetes):
    """With torch: the gradient of the average is that of the closed form's minimum, 0."""
    x, y = (torch.from_numpy(part) for part in diabetes)
    w = torch.from_numpy(exact.ridge_solution(x, y, 0.5)).requires_grad_()
    result = exact.average(lambda thinned_x: ((y - thinned_x @ w) ** 2).sum(-1), x, 0.5)
    result.mean.backward()
    assert result.mean.dtype == torch.float64
    assert w.grad.abs().max() < 1e-12 * (2 * x.T @ y).abs().max()


@pytest.mark.parametrize("p", RATES)
def test_variance_of_what_dropout_makes_of_mean_one_variance_one(p):
    """It is 2/(1−p) − 1.

    Given x, all masks give variance p/(1−p) · x² and mean x, so that the whole is p/(1−p) · E[x²] + Var[x]: x
    takes the values 0 and 2 with equal probability, exactly.
    """
    x = np.array([0.0, 2.0])
    given = exact.average(lambda x: x, x, p)
    np.testing.assert_allclose(given.mean, x, rtol=1e-15)
    np.testing.assert_allclose(given.variance, p / (1 - p) * x**2, rtol=1e-14)
    np.testing.assert_allclose(exact.linear_variance(x, np.eye(2), p), p / (1 - p) * x**2, rtol=1e-14)
    total = given.variance.mean() + given.mean.var()
    assert total == pytest.approx(2 / (1 - p) - 1, rel=1e-14)


@pytest.mark.parametrize("p", RATES)
def test_variance_of_drawn_masks(p):
    """The same with thinned's own masks on normal x, as a statistic."""
    n = 1 << 20
    x = 1 + np.random.default_rng(4).standard_normal(n)
    y = thinned.dropout(x, p, key=thinned.Key(4).fold("variance"), training=True)
    expected = 2 / (1 - p) - 1
    squares = (y - 1) ** 2
    z = (squares.mean() - expected) / (squares.std() / math.sqrt(n))
    assert abs(z) < 5, f"z = {z:.2f}"


@pytest.mark.parametrize("mode", ["inverted", "classic"])
def test_variance_of_a_linear_layer(layer, mode):
    x, weight, bias = layer
    p = np.linspace(0, 0.9, 10)
    result = exact.average_linear(lambda s: s, x, weight, p, bias=bias, mode=mode)
    np.testing.assert_allclose(
        result.variance, exact.linear_variance(x, weight, p, mode=mode), rtol=1e-12, atol=1e-14
    )
    np.testing.assert_allclose(result.mean, result.weight_scaling, rtol=0, atol=1e-12)  # it is linear


@pytest.fixture(scope="module")
def averages():
    """Of 64-7-7-10 on 97 digits, over all 2^14 masks of both hidden layers, and of the second alone.

    In double, trained on the other digits with dropout of p 0.5 behind both ReLUs.
    """
    images, labels = load_digits(return_X_y=True)
    images, labels = torch.from_numpy(images / 16), torch.from_numpy(labels).long()
    with torch.random.fork_rng(devices=[]), digits.one_thread():
        torch.manual_seed(5)
        one, two, three = (torch.nn.Linear(*sizes).double() for sizes in ((64, 7), (7, 7), (7, 10)))

        def scores(x, first, second):
            return three(torch.relu(two(torch.relu(one(x)) * first)) * second)

        optimizer = torch.optim.Adam([*one.parameters(), *two.parameters(), *three.parameters()], lr=0.02)
        for step in range(300):
            key = thinned.Key(5).fold("training").fold(step)
            masks = [2.0 * thinned.keep_mask((1700, 7), 0.5, key=key.fold(site)) for site in range(2)]
            outputs = scores(images[:1700], *map(torch.from_numpy, masks))
            loss = torch.nn.functional.cross_entropy(outputs, labels[:1700])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    unseen = images[1700:]
    with torch.no_grad(), digits.one_thread():
        return [
            exact.average_sites(
                lambda first, second: torch.softmax(scores(unseen, first[:, None], second[:, None]), -1),
                (7, 7),
                p,
                geometric="categorical",
                like=unseen,
                chunk=1 << 10,
            )
            for p in (0.5, (0.0, 0.5))
        ]


def test_two_hidden_layers_are_only_approximated(averages):
    """Behind two ReLU layers weight scaling is neither mean, and some digits are read otherwise.

    By far more than rounding, which the next test shows to be below 1e-13; how many digits is no law, and
    81 % were read alike when this was written.
    """
    both, _ = averages
    assert both.mean.shape == (97, 10)
    agree = (both.mean.argmax(1) == both.weight_scaling.argmax(1)).double().mean()
    assert 0.5 < agree < 1
    for mean in (both.mean, both.geometric):
        assert (mean - both.weight_scaling).abs().max() > 1e-2


def test_the_last_hidden_layer_alone_is_not(averages):
    """Within the same network: what lies before the only dropout does not matter."""
    _, second = averages
    assert (second.geometric - second.weight_scaling).abs().max() < 1e-13
    assert (second.mean - second.weight_scaling).abs().max() > 1e-2


# Against masks that are drawn.


@pytest.mark.parametrize("p", RATES)
def test_monte_carlo_converges_to_it(layer, p):
    x, weight, bias = layer
    draws = 200_000
    result = exact.average(lambda x: softmax(x @ weight + bias), x, p)
    key = thinned.Key(6).fold("monte carlo")
    drawn = softmax(
        thinned.dropout(np.broadcast_to(x, (draws, 10)), p, key=key, training=True) @ weight + bias
    )
    z = (drawn.mean(axis=0) - result.mean) / np.sqrt(result.variance / draws)
    assert abs(z).max() < 5, f"z = {z}"
    squares = (drawn - result.mean) ** 2
    z = (squares.mean(axis=0) - result.variance) / (squares.std(axis=0) / math.sqrt(draws))
    assert abs(z).max() < 5, f"z = {z}"
    # The same draws tell weight scaling from the mean: the test could have failed.
    far = (drawn.mean(axis=0) - result.weight_scaling) / np.sqrt(result.variance / draws)
    assert abs(far).max() > 5


# Torch, NumPy, and wrong arguments.


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-6)])
def test_torch_and_numpy_agree(layer, dtype, tolerance):
    x, weight, bias = layer
    module = torch.nn.Sequential(torch.nn.Linear(10, 4), torch.nn.Softmax(-1)).to(dtype)
    with torch.no_grad():
        module[0].weight.copy_(torch.from_numpy(weight.T))
        module[0].bias.copy_(torch.from_numpy(bias))
        given = torch.from_numpy(x).to(dtype)
        found = [
            exact.average(module, given, 0.3, geometric="categorical"),
            exact.average_linear(
                module[1], given, module[0].weight.T, 0.3, bias=module[0].bias, geometric="categorical"
            ),
            exact.average_sites(lambda m: module(m * given), (10,), 0.3, geometric="categorical", like=given),
        ]
    expected = exact.average(lambda x: softmax(x @ weight + bias), x, 0.3, geometric="categorical")
    for result in found:
        for name in ("mean", "variance", "weight_scaling", "geometric", "second_moment"):
            tensor = getattr(result, name)
            assert tensor.dtype == torch.float64
            np.testing.assert_allclose(tensor, getattr(expected, name), rtol=0, atol=tolerance)


def test_it_needs_numpy_alone():
    code = "import sys; from thinned import exact; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert not {"torch", "jax", "tensorflow", "keras", "sklearn"} & set(done.stdout.split())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: exact.average(len, np.ones(3), 1.5), ValueError, r"p must be in \[0, 1\], got 1.5"),
        (lambda: exact.average(len, np.ones(3), "0.5"), TypeError, "p must be a real number, got '0.5'"),
        (lambda: exact.average(len, np.ones(3), True), TypeError, "p must be a real number, got True"),
        (
            lambda: exact.average(len, np.ones(3), [0.5, 0.5]),
            ValueError,
            r"each of 3 units, got shape \(2,\)",
        ),
        (lambda: exact.average(len, 1.0, 0.5), ValueError, r"at least one dimension.* got shape \(\)"),
        (lambda: exact.average(len, np.ones(3) * 1j, 0.5), TypeError, "x must hold real numbers"),
        (
            lambda: exact.average(len, torch.ones(3).int(), 0.5),
            TypeError,
            r"got torch.int32: pass x.double\(\)",
        ),
        (
            lambda: exact.average(len, np.ones(3), 0.5, mode="scaled"),
            ValueError,
            'mode must be "inverted" or',
        ),
        (lambda: exact.average(len, np.ones(3), 0.5, chunk=0), ValueError, "chunk must be at least 1, got 0"),
        (lambda: exact.average(np.sum, np.ones(3), 0.5), ValueError, r"each of the 1 masks, got shape \(\)"),
        (
            lambda: exact.average(lambda x: x, np.ones(3), 0.5, geometric="yes"),
            ValueError,
            'geometric must be None, "categorical" or "bernoulli", got \'yes\'',
        ),
        (
            lambda: exact.average(lambda x: -x, np.ones(3), 0.5, geometric="bernoulli"),
            ValueError,
            r"got outputs outside \[0, 1\]: end the function in a softmax or a sigmoid",
        ),
        (
            lambda: exact.average(lambda x: 0 * x, np.ones(3), 0.5, geometric="categorical"),
            ValueError,
            "needs outputs that sum to 1 along the last axis",
        ),
        (
            lambda: exact.average_sites(len, (2, 3), [0.5]),
            ValueError,
            r"one entry for each of 2 sites, got \[0.5\]",
        ),
        (
            lambda: exact.average_sites(len, (2, 3), 0.5, like="torch"),
            TypeError,
            "like must be a torch tensor",
        ),
        (
            lambda: exact.average_linear(len, np.ones(3), np.ones((2, 3)), 0.5),
            ValueError,
            r"weight must have shape \(3, outputs\) for x of shape \(3,\), got \(2, 3\)",
        ),
        (
            lambda: exact.ridge_penalty(np.ones(3), 0.5),
            ValueError,
            r"x must have shape \(rows, n\), got \(3,\)",
        ),
        (
            lambda: exact.ridge_solution(np.ones((4, 2)), np.ones(3), 0.5),
            ValueError,
            r"y must have shape \(4,\) or \(4, outputs\), got \(3,\)",
        ),
        (
            lambda: exact.expected_squared_error(np.ones((4, 2)), np.ones(4), np.ones(3), 0.5),
            ValueError,
            r"w must have shape \(2,\), got \(3,\)",
        ),
        (
            lambda: exact.linear_variance(np.ones(3), np.ones(2), 0.5),
            ValueError,
            r"w must have shape \(3,\) or",
        ),
    ],
)
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
