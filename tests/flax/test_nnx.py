"""nnx.Dropout: NumPy's bits for the key that nnx hands out, and nnx's conventions."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from jax_masks import as_key, equal, numpys

import thinned
from thinned import Key
from thinned.flax.nnx import Dropout

DTYPES = {"float32": np.float32, "float64": np.float64, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def handed_out(seed=7):
    """The stream that a layer of `rngs=nnx.Rngs(seed)` has."""
    return nnx.Rngs(seed)["dropout"].fork()


@pytest.mark.parametrize("rate", [0.1, 0.5, 1e-3])
def test_outputs_are_numpys_for_the_key_handed_out(dtype_name, rate):
    values = np.random.default_rng(0).normal(size=(40, 33)).astype(DTYPES[dtype_name])
    with jax.enable_x64(True):
        x = jnp.asarray(values)
        layer, stream = Dropout(rate, rngs=nnx.Rngs(7)), handed_out()
        for _ in range(3):
            y = layer(x)
            assert y.dtype == x.dtype
            assert equal(y, numpys(values, rate, stream()))


@pytest.mark.parametrize(
    ("dims", "noise"),
    [((0,), (1, None, None)), ((-1,), (None, None, 1)), ((0, 2), (1, None, 1)), ([1, -1], (None, 1, 1))],
)
def test_broadcast_dims_share_decisions(dims, noise):
    x = jnp.linspace(1, 2, 4 * 5 * 6).reshape(4, 5, 6)
    layer = Dropout(0.5, broadcast_dims=tuple(dims), rngs=nnx.Rngs(7))
    assert equal(layer(x), numpys(x, 0.5, handed_out()(), noise))


@pytest.mark.parametrize("dims", [(3,), (-4,), (0, 5)])
def test_broadcast_dims_that_do_not_fit(dims):
    layer = Dropout(0.5, broadcast_dims=dims, rngs=nnx.Rngs(7))
    with pytest.raises(ValueError, match=r"broadcast_dims \(.*\) does not fit inputs of shape \(4, 5, 6\)"):
        layer(jnp.ones((4, 5, 6)))


def test_rngs_of_the_call_go_before_the_layers():
    x = jnp.ones((8, 8))
    layer = Dropout(0.5, rngs=nnx.Rngs(0))
    expected = numpys(x, 0.5, nnx.Rngs(3).dropout())
    assert equal(layer(x, rngs=nnx.Rngs(3)), expected)
    assert equal(layer(x, rngs=nnx.Rngs(3).dropout), expected)
    assert equal(layer(x, rngs=nnx.Rngs(3).dropout()), expected)
    assert layer.rngs.count[...] == 0


def test_rng_collection_names_the_stream():
    rngs = nnx.Rngs(0, noise=5)
    layer = Dropout(0.5, rng_collection="noise")
    x = jnp.ones(64)
    assert equal(layer(x, rngs=rngs), numpys(x, 0.5, nnx.Rngs(noise=5).noise()))
    assert rngs.default.count[...] == 0
    assert rngs.noise.count[...] == 1


def test_an_exact_key_draws_nothing():
    x = jnp.linspace(1, 2, 60).reshape(6, 10)
    layer = Dropout(0.3, rngs=nnx.Rngs(0))
    key = Key(42, 2**63 + 5)
    expected = thinned.dropout(np.asarray(x), 0.3, key=key, training=True)
    words = np.array([42, 0, 5, 2**31], np.uint32)
    for same in (key, words, jnp.asarray(words)):
        assert equal(layer(x, key=same), expected)
    assert equal(layer(x, key=jax.random.key(9)), numpys(x, 0.3, jax.random.key(9)))
    assert layer.rngs.count[...] == 0


def test_keys_of_four_words_are_a_seed_and_a_stream():
    key = jax.random.key(3, impl="rbg")
    assert as_key(key).stream
    x = jnp.ones((9, 9))
    assert equal(Dropout(0.4)(x, rngs=key), numpys(x, 0.4, key))


def test_errors_name_the_remedy():
    x = jnp.ones(3)
    with pytest.raises(
        ValueError, match=r"no `rngs` argument was provided to Dropout: pass rngs=nnx.Rngs\(dropout=seed\)"
    ):
        Dropout(0.5)(x)
    with pytest.raises(
        ValueError, match="No `deterministic` argument was provided to Dropout: pass deterministic="
    ):
        Dropout(0.5, deterministic=None, rngs=nnx.Rngs(0))(x)
    with pytest.raises(TypeError, match="pass rngs or key, not both"):
        Dropout(0.5)(x, rngs=nnx.Rngs(0), key=Key(0))
    with pytest.raises(TypeError, match=r"rngs must be an nnx\.Rngs, an nnx\.RngStream or a PRNG key, got 5"):
        Dropout(0.5)(x, rngs=5)
    with pytest.raises(TypeError, match="rngs must be"):
        Dropout(0.5, rngs=5)


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan"), float("inf")])
def test_rates_out_of_range(rate):
    with pytest.raises(ValueError, match=r"rate must be in \[0, 1\], got"):
        Dropout(rate)
    layer = Dropout(0.5, rngs=nnx.Rngs(0))
    layer.rate = rate
    for deterministic in (True, False):
        with pytest.raises(ValueError, match=r"rate must be in \[0, 1\], got"):
            layer(jnp.ones(3), deterministic=deterministic)


@pytest.mark.parametrize("rate", [True, "0.5", None])
def test_rates_that_are_no_numbers(rate):
    with pytest.raises(TypeError, match="rate must be a real number, got"):
        Dropout(rate)


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.bool_, jnp.complex64])
@pytest.mark.parametrize("deterministic", [True, False])
def test_other_dtypes(dtype, deterministic):
    with pytest.raises(TypeError, match=jnp.dtype(dtype).name):
        Dropout(0.5, rngs=nnx.Rngs(0))(jnp.ones(3, dtype), deterministic=deterministic)


def test_train_eval_set_attributes_and_view():
    class Block(nnx.Module):
        def __init__(self):
            self.drop = Dropout(0.5, rngs=nnx.Rngs(7))

    block, x = Block(), jnp.ones((10, 10))
    assert isinstance(block.drop, nnx.Dropout)
    block.eval()
    assert block.drop(x) is x
    block.train()
    assert (block.drop(x) == 0).any()
    block.set_attributes(nnx.Dropout, deterministic=True)
    assert block.drop(x) is x
    view = nnx.view(block, only=nnx.Dropout, deterministic=False)
    assert (view.drop(x) == 0).any()
    assert block.drop(x) is x
    assert (block.drop(x, deterministic=False) == 0).any()
    assert view.drop(x, deterministic=True) is x


@pytest.mark.parametrize("rate", [0, 1, 0.0, 1.0])
def test_the_ends_need_no_key_and_draw_none(rate):
    x = jnp.array([jnp.nan, jnp.inf, -1.0])
    y = Dropout(rate)(x)
    assert (y is x) if rate == 0 else equal(y, np.zeros(3, np.float32))
    layer = Dropout(rate, rngs=nnx.Rngs(0))
    layer(x)
    assert layer.rngs.count[...] == 0
    gradient = jax.grad(lambda x: jnp.nansum(layer(x)))(jnp.ones(3))
    assert gradient.tolist() == [1.0 - rate] * 3


def test_a_rate_in_an_array_compiles_once():
    traced = []

    @nnx.jit
    def step(layer, x):
        traced.append(None)
        return layer(x)

    x, stream = jnp.ones((20, 20)), handed_out()
    layer = Dropout(jnp.float32(0.1), rngs=nnx.Rngs(7))
    for rate in np.linspace(0, 1, 10, dtype=np.float32):
        layer.rate = jnp.asarray(rate)
        assert equal(step(layer, x), numpys(x, rate, stream()))
    assert len(traced) == 1


def test_nothing_of_flaxs_own_random_code_runs(monkeypatch):
    def refused(*_, **__):
        raise AssertionError("flax's mask")

    monkeypatch.setattr(jax.random, "bernoulli", refused)
    with pytest.raises(AssertionError, match="flax's mask"):
        nnx.Dropout(0.5, rngs=nnx.Rngs(0))(jnp.ones(3))
    Dropout(0.5, rngs=nnx.Rngs(0))(jnp.ones(3))
