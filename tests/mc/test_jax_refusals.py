"""Monte Carlo prediction of JAX functions: what is refused, and what it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mc_jax_mlp import FIRST, KEY, X, mlp

from thinned import Key
from thinned.jax import dropout, fold
from thinned.mc._collect import SilentError
from thinned.mc.jax import predict, random_key


def test_random_key_differs_from_sample_to_sample():
    keys = {tuple(jax.random.key_data(random_key(KEY.fold(k))).tolist()) for k in range(50)}
    assert len(keys) == 50
    assert (jax.random.key_data(random_key(Key(3, 2**40 + 7))) == np.array([2**8, 7])).all()


def test_silence_names_what_was_silent():
    with pytest.raises(SilentError, match="apply reached no dropout of this library"):
        predict(lambda x, key: x @ FIRST, X, samples=3)

    @jax.jit
    def forgets(x):
        return dropout(x, 0.25, key=Key(0), training=True)

    with pytest.raises(
        SilentError, match=r"0: p = 0.25, not reached by apply's key\): derive each site's key"
    ):
        predict(lambda x, key: forgets(x), X, samples=3)
    found = (
        r"2 dropouts \(0: p = computed in apply, not reached by apply's key, 1: p = 0.5, keyed by .* key\): "
        "the outputs do not depend on what they drop"
    )
    with pytest.raises(SilentError, match=found):
        predict(two, X, samples=3)


def two(x, key):
    inner = jax.jit(lambda x, key: dropout(x, 0.5, key=fold(key, 3), training=True))
    outer = dropout(x, jnp.float32(0.3) * x[0, 0] ** 0, key=Key(1), training=True)
    return 0 * inner(x, key).sum(-1) + outer.sum(-1)


def test_arguments_are_checked():
    for options, error, message in (
        ({"samples": 1}, ValueError, "samples must be at least 2, got 1"),
        ({"key": 3}, TypeError, "key must be a key, got 3"),
        ({"outputs": "odds"}, ValueError, "outputs must be"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"memory": 0}, ValueError, "memory must be at least 1, got 0"),
        ({"memory": 9}, ValueError, "memory=9 bytes are too few: one sample of one input takes"),
    ):
        with pytest.raises(error, match=message):
            predict(mlp, X, **options)
    with pytest.raises(ValueError, match="x has no inputs"):
        predict(mlp, X[:0])
    with pytest.raises(ValueError, match="differ in their first axis"):
        predict(mlp, [X, X[:3]])
    with pytest.raises(TypeError, match="apply must return one array"):
        predict(lambda x, key: (mlp(x, key), x), X)
    with pytest.raises(ValueError, match=r"first axis is the batch's, of size 1, got \(4,\)"):
        predict(lambda x, key: mlp(x, key)[0], X)


def test_progress(capsys):
    predict(mlp, X, samples=5, progress=True)
    assert "predict" in capsys.readouterr().err


class Frame:
    """As a data frame: an array of its columns, of objects where their types differ."""

    def __init__(self, columns):
        self._columns = columns
        self.shape = columns.shape

    def __array__(self, dtype=None, copy=None):
        return self._columns


def test_what_is_no_input_and_no_output_is_named():
    x = np.ones((3, 4), np.float32)

    def apply(x, key):
        return dropout(x, 0.5, key=fold(key, 0), training=True)

    settings = {"samples": 4, "key": Key(0)}
    with pytest.raises(ValueError, match=r"first=\d+ leaves numbers for 1 inputs below 2\^60, got 3"):
        predict(apply, x, first=2**60 - 1, **settings)
    assert predict(apply, x, first=2**60 - 3, **settings).mean.shape == (3, 4)
    with pytest.raises(TypeError, match="must return real numbers, got complex64"):
        predict(lambda x, key: apply(x, key) * 1j, x, **settings)
    for given in (5, [[1.0, 2.0], [3.0, 4.0]], []):
        with pytest.raises(ValueError, match="x must be an array, or a structure of arrays"):
            predict(apply, given, **settings)
    for given in (np.array(["a", "b"]), x.astype(object), Frame(x.astype(object))):
        with pytest.raises(TypeError, match=r"x must hold numbers, got .*to_numpy"):
            predict(apply, given, **settings)
    np.testing.assert_array_equal(
        predict(apply, Frame(x), **settings).mean, predict(apply, x, **settings).mean
    )
    with pytest.raises(TypeError, match="apply must be a function of one input and a key, got 3"):
        predict(3, x, **settings)
