"""Digests of masks and outputs on the active backend. See `test_backends.py`."""

import hashlib

import keras
import numpy as np

import thinned
from thinned import Key
from thinned.keras import GRU, AlphaDropout, Dropout, GaussianDropout, SpatialDropout1D, dropout, keep_mask


def digest(x):
    x = np.ascontiguousarray(x)
    return hashlib.sha256((x.astype(np.uint8) if x.dtype == bool else x).tobytes()).hexdigest()


def cases(count):
    """Of shape, rate, key and noise shape; the front end's and NumPy's outputs are compared."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        shape = tuple(int(size) for size in rng.integers(1, 9, rng.integers(1, 5)))
        noise = [
            None if share < 0.4 else 1 if share < 0.7 else size
            for share, size in zip(rng.random(len(shape)), shape, strict=True)
        ]
        key = Key(int(rng.integers(2**63)), int(rng.integers(2**63)))
        x = rng.normal(size=shape).astype("float32")
        yield x, float(rng.random()), key, tuple(noise) if rng.random() < 0.7 else None


def find(quick):
    """40 random cases, as many as the quick tier has of other front ends, or 200."""
    out = keras.ops.convert_to_numpy
    found = {"golden": digest(out(keep_mask((1000,), 0.1, key=Key(42, 7)))), "cases": hashlib.sha256()}
    for x, rate, key, noise in cases(40 if quick else 200):
        got = out(dropout(x, rate, key=key, training=True, noise_shape=noise))
        assert got.tobytes() == thinned.dropout(x, rate, key=key, training=True, noise_shape=noise).tobytes()
        found["cases"].update(got.tobytes())
    found["cases"] = found["cases"].hexdigest()
    x = np.random.default_rng(1).normal(size=(4, 6, 8)).astype("float32")
    layers = [Dropout(0.1, seed=1), AlphaDropout(0.1, seed=1), GaussianDropout(0.1, seed=1)]
    model = keras.Sequential([*layers, SpatialDropout1D(0.2, seed=1)])
    found["model"] = [digest(out(model(x, training=True))) for _ in range(3)]
    cell = GRU(8, dropout=0.5, recurrent_dropout=0.5, seed=1).cell
    step = keras.ops.convert_to_tensor(x[:, 0])
    masks = [*cell.get_dropout_mask(step), *cell.get_recurrent_dropout_mask(step)]
    found["recurrent"] = digest(np.stack([out(step * mask) for mask in masks]))
    return found
