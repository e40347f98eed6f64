"""linen's Dropout: NumPy's bits for the key that linen hands out, and linen's conventions."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax.errors import InvalidRngError
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax_masks import equal, numpys

import thinned
from thinned import Key
from thinned.flax.linen import Dropout
from thinned.jax import _native

DTYPES = {"float32": np.float32, "float64": np.float64, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
X = jnp.linspace(1, 2, 16 * 24).reshape(16, 24)
RNGS = {"dropout": jax.random.key(7)}


class Handed(nn.Module):
    """Gives away the key that a layer in its place would have."""

    collection: str = "dropout"

    @nn.compact
    def __call__(self, x):
        return self.make_rng(self.collection)


class Net(nn.Module):
    """A layer below a layer, called twice."""

    make: type[nn.Module] = Dropout
    remat: bool = False

    @nn.compact
    def __call__(self, x):
        make = nn.remat(Dropout) if self.remat else self.make
        layer = make(name="inner") if make is Handed else make(0.5, deterministic=False, name="inner")
        return layer(x), layer(x)


def key_of_a_layer(rngs=RNGS):
    return Handed().apply({}, X, rngs=rngs)


@pytest.mark.parametrize("rate", [0.1, 0.5, 1e-3])
def test_outputs_are_numpys_for_the_key_handed_out(dtype_name, rate):
    values = np.random.default_rng(0).normal(size=(40, 33)).astype(DTYPES[dtype_name])
    with jax.enable_x64(True):
        x = jnp.asarray(values)
        y = Dropout(rate).apply({}, x, deterministic=False, rngs=RNGS)
        assert y.dtype == x.dtype
        assert equal(y, numpys(values, rate, key_of_a_layer()))


@pytest.mark.parametrize("remat", [False, True])
def test_linens_own_folding_by_path_and_count(remat):
    keys = Net(Handed).apply({}, X, rngs=RNGS)
    net = Net(remat=remat)
    for run in (net.apply, jax.jit(net.apply)):
        masked = run({}, X, rngs=RNGS)
        assert [equal(y, numpys(X, 0.5, key)) for y, key in zip(masked, keys, strict=True)] == [True, True]
    assert not equal(*masked)


@pytest.mark.parametrize(
    ("dims", "noise"),
    [((0,), (1, None, None)), ((-1,), (None, None, 1)), ((0, 2), (1, None, 1)), ([1, -1], (None, 1, 1))],
)
def test_broadcast_dims_share_decisions(dims, noise):
    x = jnp.linspace(1, 2, 4 * 5 * 6).reshape(4, 5, 6)
    layer = Dropout(0.5, broadcast_dims=dims, deterministic=False)
    assert equal(layer.apply({}, x, rngs=RNGS), numpys(x, 0.5, key_of_a_layer(), noise))


def test_broadcast_dims_that_do_not_fit():
    layer = Dropout(0.5, broadcast_dims=(3,), deterministic=False)
    with pytest.raises(ValueError, match=r"broadcast_dims \(3,\) does not fit inputs of shape \(16, 24\)"):
        layer.apply({}, X, rngs=RNGS)


def test_an_exact_key_draws_nothing():
    layer = Dropout(0.3, deterministic=False)
    key = Key(42, 2**63 + 5)
    expected = thinned.dropout(np.asarray(X), 0.3, key=key, training=True)
    words = np.array([42, 0, 5, 2**31], np.uint32)
    for same in (key, words, jnp.asarray(words)):
        assert equal(layer.apply({}, X, rng=same), expected)
    assert equal(layer.apply({}, X, rng=jax.random.key(9)), numpys(X, 0.3, jax.random.key(9)))


def test_collections_and_the_fallback_to_params():
    other = {"noise": jax.random.key(1)}
    layer = Dropout(0.5, deterministic=False, rng_collection="noise")
    assert equal(layer.apply({}, X, rngs=other), numpys(X, 0.5, Handed("noise").apply({}, X, rngs=other)))
    y, variables = Dropout(0.5, deterministic=False).init_with_output(jax.random.key(3), X)
    assert variables == {}
    assert equal(y, numpys(X, 0.5, Handed().init_with_output(jax.random.key(3), X)[0]))


def test_errors_name_the_remedy():
    with pytest.raises(InvalidRngError, match=r'Dropout has no key: pass rngs={"dropout": jax.random.key'):
        Dropout(0.5, deterministic=False).apply({}, X)
    with pytest.raises(ValueError, match="deterministic"):
        Dropout(0.5).apply({}, X, rngs=RNGS)
    with pytest.raises(ValueError, match="deterministic"):
        Dropout(0.5, deterministic=True).apply({}, X, deterministic=True)


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan"), float("inf")])
def test_rates_out_of_range(rate):
    with pytest.raises(ValueError, match=r"rate must be in \[0, 1\], got"):
        Dropout(rate)


@pytest.mark.parametrize("rate", [True, "0.5", None])
def test_rates_that_are_no_numbers(rate):
    with pytest.raises(TypeError, match="rate must be a real number, got"):
        Dropout(rate)


@pytest.mark.parametrize("deterministic", [True, False])
def test_other_dtypes(deterministic):
    with pytest.raises(TypeError, match="int32"):
        Dropout(0.5, deterministic=deterministic).apply({}, jnp.ones(3, jnp.int32), rngs=RNGS)


def test_evaluation_is_the_identity_and_needs_no_key():
    assert Dropout(0.5, deterministic=True).apply({}, X) is X
    assert Dropout(0.5).apply({}, X, deterministic=True) is X
    assert isinstance(Dropout(0.5), nn.Dropout)


@pytest.mark.parametrize("rate", [0, 1, 0.0, 1.0])
def test_the_ends_need_no_key(rate):
    x = jnp.array([jnp.nan, jnp.inf, -1.0])
    layer = Dropout(rate, deterministic=False)
    y = layer.apply({}, x)
    assert (y is x) if rate == 0 else equal(y, np.zeros(3, np.float32))
    assert jax.grad(lambda x: layer.apply({}, x).sum())(jnp.ones(3)).tolist() == [1.0 - rate] * 3


def test_a_traced_rate_compiles_once():
    traced = []

    @jax.jit
    def step(rate, x, key):
        traced.append(None)
        return Dropout(rate, deterministic=False).apply({}, x, rngs={"dropout": key})

    for rate in np.linspace(0, 1, 10, dtype=np.float32):
        assert equal(step(rate, X, RNGS["dropout"]), numpys(X, rate, key_of_a_layer()))
    assert len(traced) == 1


def test_gradients_have_the_forwards_mask():
    layer = Dropout(0.5, deterministic=False)
    gradient = jax.jit(jax.grad(lambda x: layer.apply({}, x, rngs=RNGS).sum()))(X)
    assert equal(gradient, numpys(np.ones_like(X), 0.5, key_of_a_layer()))


def test_vmap_of_apply():
    keys = jax.random.split(jax.random.key(1), 16)
    y = jax.vmap(lambda x, key: Dropout(0.5, deterministic=False).apply({}, x, rngs={"dropout": key}))(
        X, keys
    )
    expected = [numpys(x, 0.5, key_of_a_layer({"dropout": key})) for x, key in zip(X, keys, strict=True)]
    assert equal(y, np.stack(expected))


@pytest.mark.parametrize("lifted", ["scan", "vmap"])
def test_lifted_transforms_split_keys(lifted):
    """Each step, and each example, has its own key: the one that linen would give any layer there."""

    def run(make):
        if lifted == "vmap":
            each = nn.vmap(make, variable_axes={}, split_rngs={"dropout": True}, in_axes=0)
            layer = each() if make is Handed else each(0.5, deterministic=False)
            return layer.apply({}, X, rngs=RNGS)

        class Step(nn.Module):
            @nn.compact
            def __call__(self, carry, x):
                layer = make(name="l") if make is Handed else make(0.5, deterministic=False, name="l")
                return carry, layer(x)

        steps = nn.scan(Step, variable_broadcast="params", split_rngs={"dropout": True})
        return steps().apply({}, None, X, rngs=RNGS)[1]

    expected = [numpys(x, 0.5, key) for x, key in zip(X, run(Handed), strict=True)]
    assert equal(run(Dropout), np.stack(expected))


@pytest.mark.parametrize(("rows", "columns"), [(8, 1), (2, 4)])
def test_a_sharded_step_has_the_whole_arrays_mask_and_no_collective(rows, columns):
    if len(jax.devices()) < 8:
        pytest.skip("needs XLA_FLAGS=--xla_force_host_platform_device_count=8")
    mesh = Mesh(np.array(jax.devices()[:8]).reshape(rows, columns), ("rows", "columns"))
    x = jax.device_put(X, NamedSharding(mesh, PartitionSpec("rows", "columns")))
    step = jax.jit(lambda x, key: Dropout(0.3, deterministic=False).apply({}, x, rngs={"dropout": key}))
    assert equal(step(x, RNGS["dropout"]), numpys(X, 0.3, key_of_a_layer()))
    program = step.lower(x, RNGS["dropout"]).compile().as_text()
    assert ("thinned_dropout" in program) == _native.register()
    assert not re.search(r"all-(gather|reduce|to-all)|collective-permute", program)


def test_nothing_of_flaxs_own_random_code_runs(monkeypatch):
    def refused(*_, **__):
        raise AssertionError("flax's mask")

    monkeypatch.setattr(jax.random, "bernoulli", refused)
    with pytest.raises(AssertionError, match="flax's mask"):
        nn.Dropout(0.5, deterministic=False).apply({}, X, rngs=RNGS)
    Dropout(0.5, deterministic=False).apply({}, X, rngs=RNGS)
