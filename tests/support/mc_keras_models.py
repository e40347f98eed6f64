"""On the active backend: models, inputs, and the samples that prediction draws of them."""

import keras
import numpy as np

from thinned import Key
from thinned.mc.keras._sampler import Sampler

KEY = Key(2**63 + 5, 9)
RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype("float32")


def array(x):
    return np.asarray(keras.ops.convert_to_numpy(x))


def model_of(layer, shape):
    return keras.Sequential([keras.Input(shape), layer])


def tight(model, x):
    """The memory of one sample of one input."""
    return sum(Sampler(model, x[:1], False)._bytes)
