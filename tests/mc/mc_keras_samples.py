"""On the active backend, what an MLP and its masks are in all samples. Run by `mc/test_keras.py`."""

import hashlib

import keras
import numpy as np
from keras import layers

import thinned.keras as ours
from thinned import Key
from thinned.mc.keras import predict

RATES = (0.2, 0.5)
KEY = Key(2**63 + 5, 9)
SAMPLES, INPUTS = 6, 5


def numbers():
    """Inputs and two kernels."""
    rng = np.random.default_rng(0)
    return tuple(rng.normal(size=size).astype("float32") / 3 for size in ((INPUTS, 8), (8, 16), (16, 4)))


def mlp(family):
    _, first, second = numbers()
    model = keras.Sequential(
        [
            keras.Input((8,)),
            family.Dropout(RATES[0]),
            layers.Dense(16, activation="relu", use_bias=False),
            family.Dropout(RATES[1]),
            layers.Dense(4, use_bias=False),
        ]
    )
    for layer, kernel in ((1, first), (3, second)):
        model.layers[layer].kernel.assign(kernel)
    return model


def masks(family):
    """Both sites of the model on ones, so that what comes out are the masks."""
    inputs = keras.Input((3, 7))
    both = [family.Dropout(p)(inputs) for p in RATES]
    return keras.Model(inputs, layers.Concatenate()(both))


def find(quick):
    """All pairs of whose layers and whether samples are shared; each of both once in the quick tier."""
    found = {}
    options = {"samples": SAMPLES, "key": KEY, "keep": True}
    pairs = [("keras", True), ("thinned", False)] + [("keras", False), ("thinned", True)] * (not quick)
    for name, shared in pairs:
        family = {"keras": layers, "thinned": ours}[name]
        ones = np.ones((INPUTS, 3, 7), "float32")
        drawn = predict(masks(family), ones, shared=shared, **options).draws
        found[f"{name} masks {shared}"] = hashlib.sha256((drawn != 0).tobytes()).hexdigest()
        outputs = predict(mlp(family), numbers()[0], shared=shared, **options).draws
        found[f"{name} outputs {shared}"] = outputs.tolist()
    return found
