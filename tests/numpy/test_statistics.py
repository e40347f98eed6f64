"""Rates, correlations, independence, each with its z-score: |z| < 5 fails by chance once in 1.7 million."""

import math

import numpy as np
import pytest

import thinned
from thinned import Key, threshold

DRAWS = 2**24
LIMIT = 5


def z_of_count(count, n, q):
    return (count - n * q) / math.sqrt(n * q * (1 - q))


def z_of_agreement(a, b, q):
    """Correlation of two independent masks of keep probability q, in standard errors.

    The sum of (a − q) (b − q), by how often each is kept and how often both are.
    """
    both, one, other = (np.count_nonzero(mask) for mask in (a & b, a, b))
    return (both - q * (one + other) + q * q * a.size) / (math.sqrt(a.size) * q * (1 - q))


@pytest.mark.parametrize("p", [1e-4, 1e-3, 0.1, 0.25, 0.5, 0.9, 0.999])
def test_rate(p):
    """The same positions are dropped in every dtype (see test_dropout), so one type stands for four."""
    kept = thinned.keep_mask(DRAWS, p, key=Key(2026, 11))
    q = 1 - threshold(p) / 2**32
    z = z_of_count(int(kept.sum()), DRAWS, q)
    assert abs(z) < LIMIT, f"z = {z:.2f}"
    # The realised rate is p to one part in 2^33, not to the eight bits of other libraries.
    assert abs(q - (1 - p)) <= 2.0**-33


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("lag", [1, 2, 3, 4, 7, 8, 16, 64, 128, 1024, 4096])
def test_neighbours_are_independent(p, lag):
    mask = thinned.keep_mask(2**22, p, key=Key(3))
    z = z_of_agreement(mask[:-lag], mask[lag:], 1 - threshold(p) / 2**32)
    assert abs(z) < LIMIT, f"z = {z:.2f}"


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rows_and_channels_are_independent(axis):
    mask = np.moveaxis(thinned.keep_mask((16, 256, 1024), 0.5, key=Key(4)), axis, 0)
    z = z_of_agreement(mask[:-1].ravel(), mask[1:].ravel(), 0.5)
    assert abs(z) < LIMIT, f"z = {z:.2f}"
    sums = mask.reshape(mask.shape[0], -1).sum(axis=1)
    worst = max(abs(z_of_count(int(s), mask[0].size, 0.5)) for s in sums)
    assert worst < LIMIT, f"z = {worst:.2f}"


@pytest.mark.parametrize(
    "other",
    [
        Key(5, 1),
        Key(5, 2**32),
        Key(6, 0),
        Key(5 + 2**32, 0),
        Key(5).fold(0),
        Key(5).fold("layer"),
        Key(5).fold(0).fold(1),
    ],
    ids=str,
)
def test_streams_are_independent(other):
    one, two = (thinned.keep_mask(2**22, 0.5, key=key) for key in (Key(5), other))
    z = z_of_agreement(one, two, 0.5)
    assert abs(z) < LIMIT, f"z = {z:.2f}"


def test_a_thousand_folded_keys_give_a_thousand_masks():
    masks = {thinned.keep_mask(256, 0.5, key=Key(7).fold(step)).tobytes() for step in range(1000)}
    assert len(masks) == 1000


def test_mean_and_variance_of_the_output():
    """E = mean, and Var[dropout(x)] = (σ² + μ²)/(1−p) − μ²: 2/(1−p) − 1 for mean 1 and variance 1."""
    x = np.random.default_rng(0).standard_normal(DRAWS) + 1
    for p, variance in ((0.2, 1.5), (0.5, 3.0)):
        y = thinned.dropout(x, p, key=Key(8), training=True)
        z_mean = (y.mean() - 1) / math.sqrt(variance / DRAWS)
        fourth = float(np.square(np.square(y - y.mean())).mean())
        z_variance = (y.var() - variance) / math.sqrt((fourth - variance**2) / DRAWS)
        assert abs(z_mean) < LIMIT, f"z = {z_mean:.2f}"
        assert abs(z_variance) < LIMIT, f"z = {z_variance:.2f}"
