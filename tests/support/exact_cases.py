"""A small layer whose averages over all masks are examined."""

import numpy as np

RATES = [0.2, 0.5, 0.8]
_RNG = np.random.default_rng(1)
# Ten units, four outputs: x, weight, bias.
LAYER = _RNG.standard_normal(10), _RNG.standard_normal((10, 4)), _RNG.standard_normal(4)


def softmax(scores):
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
