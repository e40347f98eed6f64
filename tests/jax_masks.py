"""What NumPy's front end makes of a jax PRNG key: what the layers for Flax and Equinox are held against."""

import jax
import numpy as np

import thinned
from thinned import Key


def as_key(key):
    """The `Key` of a PRNG key: two words are a seed, high word first; four are seed and stream, low first."""
    words = [int(word) for word in jax.random.key_data(key)]
    if len(words) == 2:
        return Key(words[0] << 32 | words[1])
    return Key(words[1] << 32 | words[0], words[3] << 32 | words[2])


def numpys(x, p, key, noise_shape=None, mode="inverted"):
    """The dropped x, by NumPy."""
    return thinned.dropout(
        np.asarray(x), p, key=as_key(key), training=True, noise_shape=noise_shape, mode=mode
    )


def equal(got, expected):
    """Equal to the bit."""
    got, expected = np.asarray(got), np.asarray(expected)
    return (got.dtype, got.shape, got.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())
