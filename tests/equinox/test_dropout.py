"""Equinox's Dropout: NumPy's bits for the key given, and Equinox's conventions."""

import equinox as eqx
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax_masks import equal, numpys
from sklearn.datasets import load_digits

import thinned
from thinned import Key
from thinned.equinox import Dropout, nn

DTYPES = {"float32": np.float32, "float64": np.float64, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
X = jnp.linspace(1, 2, 16 * 24).reshape(16, 24)
KEY = jax.random.key(7)


def test_where_it_is():
    assert nn.Dropout is Dropout
    assert issubclass(Dropout, eqx.nn.Dropout)
    assert repr(Dropout()) == repr(eqx.nn.Dropout())


@pytest.mark.parametrize("p", [0.1, 0.5, 1e-3])
def test_outputs_are_numpys(dtype_name, p):
    values = np.random.default_rng(0).normal(size=(40, 33)).astype(DTYPES[dtype_name])
    with jax.enable_x64(True):
        x = jnp.asarray(values)
        for run in (Dropout(p), eqx.filter_jit(Dropout(p))):
            y = run(x, key=KEY)
            assert y.dtype == x.dtype
            assert equal(y, numpys(values, p, KEY))


def test_exact_keys():
    key = Key(42, 2**63 + 5)
    expected = thinned.dropout(np.asarray(X), 0.3, key=key, training=True)
    words = np.array([42, 0, 5, 2**31], np.uint32)
    for same in (key, words, jnp.asarray(words)):
        assert equal(Dropout(0.3)(X, key=same), expected)
    assert equal(Dropout(0.3)(X, key=jax.random.PRNGKey(7)), numpys(X, 0.3, KEY))


def test_inference_mode_and_the_argument_before_it():
    layer = Dropout(0.5)
    evaluates = eqx.nn.inference_mode(layer)
    assert evaluates(X) is X
    assert layer(X, inference=True) is X
    assert equal(evaluates(X, key=KEY, inference=False), numpys(X, 0.5, KEY))
    assert equal(eqx.nn.inference_mode(evaluates, value=False)(X, key=KEY), numpys(X, 0.5, KEY))
    assert Dropout(0.5, inference=True)(X) is X
    assert Dropout(0.5, True)(X) is X
    again = eqx.tree_at(lambda layer: layer.inference, evaluates, replace=False)
    assert equal(again(X, key=KEY), numpys(X, 0.5, KEY))


def test_the_earlier_name_of_inference():
    """Deprecated, with Equinox's warnings."""
    for made in (Dropout, eqx.nn.Dropout):
        with pytest.warns(UserWarning, match=r"Dropout\(deterministic=\.\.\.\) is deprecated"):
            layer = made(0.5, deterministic=True)
        assert layer.inference
        assert layer.deterministic
        with pytest.warns(UserWarning, match=r"Dropout\(\)\(deterministic=\.\.\.\) is deprecated"):
            assert made(0.5)(X, deterministic=True) is X
        with pytest.warns(UserWarning, match="deprecated"):
            assert (layer(X, key=KEY, deterministic=False) == 0).any()


def test_errors():
    with pytest.raises(RuntimeError, match=r"Dropout has no key: pass key=jax.random.key\(seed\)"):
        Dropout(0.5)(X)
    for p in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"p must be in \[0, 1\], got"):
            Dropout(p)
        with pytest.raises(ValueError, match=r"p must be in \[0, 1\], got"):
            eqx.tree_at(lambda layer: layer.p, Dropout(0.5), p)(X, inference=True)
    for p in (True, "0.5", None):
        with pytest.raises(TypeError, match="p must be a real number, got"):
            Dropout(p)
    for inference in (True, False):
        with pytest.raises(TypeError, match="int32"):
            Dropout(0.5)(jnp.arange(3), key=KEY, inference=inference)


def test_the_ends():
    x = jnp.array([jnp.nan, jnp.inf, -1.0])
    assert Dropout(0)(x) is x
    assert Dropout(0.0)(x) is x
    assert equal(Dropout(1.0)(x, key=KEY), np.zeros(3, np.float32))
    assert jax.grad(lambda x: Dropout(1.0)(x, key=KEY).sum())(x).tolist() == [0, 0, 0]


def test_p_as_a_leaf_compiles_once_and_has_a_zero_gradient():
    traced = []

    @eqx.filter_jit
    def step(layer, x, key):
        traced.append(None)
        return layer(x, key=key)

    for p in np.linspace(0, 1, 10, dtype=np.float32):
        assert equal(step(Dropout(jnp.asarray(p)), X, KEY), numpys(X, p, KEY))
    assert len(traced) == 1
    gradient = eqx.filter_grad(lambda layer: layer(X, key=KEY).sum())(Dropout(jnp.float32(0.5)))
    assert gradient.p == 0


def test_an_ensemble_over_p():
    rates = jnp.array([0.1, 0.5, 0.9], jnp.float32)
    layers = eqx.filter_vmap(Dropout)(rates)
    keys = jax.random.split(KEY, 3)
    y = eqx.filter_vmap(lambda layer, key: layer(X, key=key))(layers, keys)
    assert equal(y, np.stack([numpys(X, p, key) for p, key in zip(np.asarray(rates), keys, strict=True)]))


def test_vmap_with_split_keys():
    keys = jax.random.split(KEY, 16)
    y = jax.vmap(lambda x, key: Dropout(0.5)(x, key=key))(X, keys)
    assert equal(y, np.stack([numpys(x, 0.5, key) for x, key in zip(X, keys, strict=True)]))


def test_gradients_have_the_forwards_mask_under_checkpointing_too():
    layer = Dropout(0.5)
    for run in (layer, eqx.filter_checkpoint(layer)):
        gradient = jax.jit(jax.grad(lambda x, run=run: run(x, key=KEY).sum()))(X)
        assert equal(gradient, numpys(np.ones_like(X), 0.5, KEY))


def test_scan():
    keys = jax.random.split(KEY, 16)
    _, y = jax.lax.scan(lambda carry, step: (carry, Dropout(0.5)(step[0], key=step[1])), None, (X, keys))
    assert equal(y, np.stack([numpys(x, 0.5, key) for x, key in zip(X, keys, strict=True)]))


def test_on_a_mesh():
    if len(jax.devices()) < 8:
        pytest.skip("needs XLA_FLAGS=--xla_force_host_platform_device_count=8")
    mesh = Mesh(np.array(jax.devices()[:8]).reshape(2, 4), ("rows", "columns"))
    x = jax.device_put(X, NamedSharding(mesh, PartitionSpec("rows", "columns")))
    y = eqx.filter_jit(Dropout(0.3))(x, key=KEY)
    assert equal(y, numpys(X, 0.3, KEY))
    assert y.sharding.is_equivalent_to(x.sharding, 2)


def test_under_strict_promotion_of_types_and_ranks():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        assert equal(Dropout(0.3)(X, key=KEY), numpys(X, 0.3, KEY))
        assert equal(eqx.filter_jit(Dropout(jnp.float32(0.3)))(X, key=KEY), numpys(X, np.float32(0.3), KEY))


def test_in_equinoxs_attention():
    """Put in the place of its own, each head has the mask of its own key."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 8)), jnp.float32)
    layer = eqx.nn.MultiheadAttention(2, 8, dropout_p=0.5, key=jax.random.key(0))
    whole = layer(x, x, x, inference=True)
    layer = eqx.tree_at(lambda layer: layer.dropout, layer, Dropout(1.0))
    assert not layer(x, x, x, key=KEY).any()
    layer = eqx.tree_at(lambda layer: layer.dropout, layer, Dropout(0.5))
    assert equal(eqx.nn.inference_mode(layer)(x, x, x), whole)
    assert not equal(layer(x, x, x, key=KEY), whole)
    assert equal(layer(x, x, x, key=KEY), layer(x, x, x, key=KEY))


def test_nothing_of_equinoxs_own_random_code_runs(monkeypatch):
    def refused(*_, **__):
        raise AssertionError("equinox's mask")

    monkeypatch.setattr(jax.random, "bernoulli", refused)
    with pytest.raises(AssertionError, match="equinox's mask"):
        eqx.nn.Dropout(0.5)(X, key=KEY)
    Dropout(0.5)(X, key=KEY)


@pytest.mark.full  # the gradient's mask is held above, and other layers learn in the quick tier
def test_training_on_the_digits():
    digits = load_digits()
    x, y = jnp.asarray(digits.data / 16, jnp.float32), jnp.asarray(digits.target)
    first, second = jax.random.split(jax.random.key(0))
    layers = [eqx.nn.Linear(64, 64, key=first), Dropout(0.3), eqx.nn.Linear(64, 10, key=second)]
    model = eqx.nn.Sequential([layers[0], eqx.nn.Lambda(jax.nn.relu), *layers[1:]])

    @eqx.filter_jit
    def step(model, key):
        def loss(model):
            logits = jax.vmap(lambda x, key: model(x, key=key))(x[:1400], jax.random.split(key, 1400))
            return -jax.nn.log_softmax(logits)[jnp.arange(1400), y[:1400]].mean()

        value, gradient = eqx.filter_value_and_grad(loss)(model)
        return eqx.apply_updates(model, jax.tree.map(lambda slope: -slope, gradient)), value

    losses = []
    for key in jax.random.split(KEY, 80):
        model, value = step(model, key)
        losses.append(float(value))
    assert losses[-1] < 0.2 * losses[0]
    logits = jax.vmap(eqx.nn.inference_mode(model))(x[1400:])
    assert (logits.argmax(-1) == y[1400:]).mean() > 0.85
