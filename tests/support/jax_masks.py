"""What NumPy's front end makes of a jax PRNG key: what the layers for Flax and Equinox are held against."""

import jax
import numpy as np

import thinned
from thinned import Key


def as_key(key):
    """The `Key` of a PRNG key of two or four words."""
    words = [int(word) for word in jax.random.key_data(key)]
    return Key(*(high << 32 | low for high, low in zip(words[::2], words[1::2], strict=True)))


def numpys(x, p, key, noise_shape=None, mode="inverted"):
    """The dropped x, by NumPy."""
    return thinned.dropout(
        np.asarray(x), p, key=as_key(key), training=True, noise_shape=noise_shape, mode=mode
    )


def equal(got, expected):
    """Equal to the bit."""
    got, expected = np.asarray(got), np.asarray(expected)
    return (got.dtype, got.shape, got.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())
