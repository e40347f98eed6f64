"""Averages over all masks: against masks that thinned draws, of torch and of NumPy; wrong arguments."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from exact_cases import LAYER, RATES, softmax

import thinned
from thinned import exact


@pytest.mark.parametrize("p", RATES)
def test_monte_carlo_converges_to_it(p):
    x, weight, bias = LAYER
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


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-6)])
def test_torch_and_numpy_agree(dtype, tolerance):
    x, weight, bias = LAYER
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
