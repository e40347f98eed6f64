"""Monte Carlo prediction of JAX functions: the rule's keys, chunks, and Flax's and Equinox's modules."""

import itertools

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import thinned
import thinned.equinox
import thinned.flax.linen
import thinned.flax.nnx
from thinned import Key
from thinned.jax import dropout, fold, keep_mask
from thinned.mc import _keys
from thinned.mc._collect import SilentError
from thinned.mc.jax import predict, random_key

KEY = Key(2**63 + 5, 9)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 8)).astype("float32")
FIRST, SECOND = (RNG.normal(size=size).astype("float32") / 3 for size in ((8, 16), (16, 4)))
RATES = (0.2, 0.5)


def mlp(x, key, first=FIRST, second=SECOND):
    h = dropout(x, RATES[0], key=fold(key, 0), training=True) @ first
    return dropout(jax.nn.relu(h), RATES[1], key=fold(key, 1), training=True) @ second


def by_numpy(samples, shared=False, inputs=20):
    def one(k, i):
        key = KEY.fold(k) if shared else KEY.fold(k).fold(i)
        h = thinned.dropout(X[i : i + 1], RATES[0], key=key.fold(0), training=True) @ FIRST
        return (thinned.dropout(np.maximum(h, 0), RATES[1], key=key.fold(1), training=True) @ SECOND)[0]

    return np.stack([[one(k, i) for i in range(inputs)] for k in range(samples)])


def draws(apply, x=X, **options):
    options = {"samples": 12, "key": KEY, "keep": True, **options}
    return predict(apply, x, **options).draws


def test_streams_are_those_of_fold():
    found = _keys.of_examples(KEY, range(3, 5), range(7, 10), False)
    assert found.tolist() == [[KEY.fold(k).fold(i).stream for i in (7, 8, 9)] for k in (3, 4)]
    shared = _keys.of_examples(KEY, range(3, 5), range(7, 10), True)
    assert shared.tolist() == [[KEY.fold(k).stream] for k in (3, 4)]
    big = 2**59 + 2**33 + 7
    assert int(_keys.fold(KEY.seed, KEY.stream, big)) == KEY.fold(big).stream
    words = _keys.words(KEY.seed, found)
    assert (
        keep_mask(100, 0.5, key=words[1, 2]) == thinned.keep_mask(100, 0.5, key=KEY.fold(4).fold(9))
    ).all()


@pytest.mark.parametrize("shared", [False, True])
def test_masks_are_numpys(shared):
    ones = np.ones((5, 3, 7), "float32")

    def masks(x, key):
        return jnp.stack([dropout(x, p, key=fold(key, n), training=True) for n, p in enumerate(RATES)], 1)

    found = draws(masks, ones, samples=4, shared=shared)
    for k, i, n in itertools.product(range(4), range(5), range(2)):
        key = (KEY.fold(k) if shared else KEY.fold(k).fold(i)).fold(n)
        assert ((found[k, i, n] != 0) == thinned.keep_mask((1, 3, 7), RATES[n], key=key)[0]).all()
    np.testing.assert_allclose(draws(mlp, shared=shared), by_numpy(12, shared), atol=1e-5)


@pytest.mark.parametrize("shared", [False, True])
def test_batches_and_chunks_change_nothing(shared):
    whole = predict(mlp, X, samples=25, key=KEY, keep=True, outputs="logits", shared=shared)
    assert whole.draws.shape == (25, 20, 4)
    for options in (
        {"batch_size": 1},
        {"batch_size": 7},
        {"batch_size": 64},
        {"memory": 5_000},
        {"memory": 20_000, "batch_size": 7},
    ):
        options = {"samples": 25, "key": KEY, "keep": True, "outputs": "logits", "shared": shared, **options}
        other = predict(mlp, X, **options)
        np.testing.assert_allclose(other.draws, whole.draws, atol=1e-6, err_msg=str(options))
        np.testing.assert_allclose(other.mutual_information, whole.mutual_information, atol=1e-6)
    few = predict(mlp, X[:3], samples=10, key=KEY, keep=True, outputs="logits", shared=shared)
    np.testing.assert_allclose(few.draws, whole.draws[:10, :3], atol=1e-6)


@pytest.mark.parametrize("shared", [False, True])
def test_parts_of_a_whole_have_its_samples(shared):
    whole = draws(mlp, shared=shared)
    parts = [draws(mlp, X[first : first + 7], first=first, shared=shared) for first in (0, 7, 14)]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=1e-6)
    with pytest.raises(ValueError, match=r"first must be in \[0, 2\^60\), got -1"):
        draws(mlp, first=-1)


WIDE = np.ones((8, 300), "float32"), np.ones((300, 4), "float32")


def compiled_for(monkeypatch, **options):
    """The bytes of the function that is run, and how many samples and inputs it takes at once."""
    from thinned.mc.jax import _predict

    seen = []
    of = _predict._compiled

    def noting(*args):
        run, size = of(*args)
        code = next(cell for cell in run.__defaults__ if hasattr(cell, "memory_analysis"))
        seen.append((_predict._taken(code), size))
        return run, size

    monkeypatch.setattr(_predict, "_compiled", noting)
    predict(lambda x, key: mlp(x, key, *WIDE), X, key=KEY, samples=50, **options)
    return seen[0]


def test_memory_is_what_xla_counts(monkeypatch):
    free, whole = compiled_for(monkeypatch)
    assert (whole.samples, whole.rows) == (50, 20)
    for memory in (free - 1, free // 200):
        used, size = compiled_for(monkeypatch, memory=memory)
        assert used <= memory
        assert size.samples * size.rows < 1000
        assert used * 4 > memory, "the chunk is needlessly small"


def test_what_no_key_reaches_has_no_axis_of_samples():
    """Seen in the compiled code's shapes: the first product is of inputs, the second of samples too."""
    from thinned.mc.jax import _predict

    def late(x, key):
        h = jnp.tanh(x @ FIRST)
        return dropout(h, 0.5, key=fold(key, 0), training=True) @ SECOND

    jaxpr = str(jax.make_jaxpr(_predict._mapped(late, False))(X[:5], np.zeros((30, 5, 4), np.uint32)))
    tanh = [line for line in jaxpr.splitlines() if " tanh " in line]
    assert len(tanh) == 1
    assert "f32[5,1,16]" in tanh[0]
    assert "f32[30,5,1,16]" in jaxpr or "f32[5,1,30,16]" in jaxpr


def test_closed_over_parameters_are_those_of_the_call():
    parameters = {"first": FIRST, "second": SECOND}

    def apply(x, key):
        return mlp(x, key, **parameters)

    first = draws(apply)
    parameters["second"] = 2 * SECOND
    np.testing.assert_allclose(draws(apply), 2 * first, rtol=1e-6)


def test_parameters_are_arguments_of_what_is_compiled(monkeypatch):
    """As constants they would be in the code twice, and computed with while it is compiled."""
    large = jnp.ones((8, 30_000))

    def lowered(x, key):
        return dropout(x @ large, 0.5, key=fold(key, 0), training=True).sum(-1)

    from thinned.mc.jax import _predict

    closed = jax.make_jaxpr(_predict._mapped(lowered, False))(X[:2], np.zeros((3, 2, 4), np.uint32))
    assert [const.shape for const in closed.consts if np.size(const) > 100] == [(8, 30_000)]
    assert predict(lowered, X, samples=3).std.all()


def test_inputs_may_be_a_tree():
    x = {"a": X, "b": (jnp.asarray(X[:, :3]), np.arange(20))}

    def apply(x, key):
        assert x["a"].shape == (1, 8)
        assert x["b"][0].shape == (1, 3)
        assert x["b"][1].shape == (1,)
        whole = jnp.concatenate([x["a"], x["b"][0], x["b"][1][:, None]], axis=1)
        return dropout(whole, 0.5, key=fold(key, 0), training=True)

    found = draws(apply, x, batch_size=7)
    whole = np.concatenate([X, X[:, :3], np.arange(20, dtype="float32")[:, None]], axis=1)
    for k, i in itertools.product(range(12), range(20)):
        key = KEY.fold(k).fold(i).fold(0)
        assert (found[k, i] == thinned.dropout(whole[i : i + 1], 0.5, key=key, training=True)[0]).all()


def test_tolerance_stops_each_input_by_itself():
    whole = predict(mlp, X, samples=200, key=KEY, keep=True)
    found = predict(mlp, X, samples=200, key=KEY, keep=True, tolerance=0.12, batch_size=7)
    assert 10 <= found.samples.min() < found.samples.max() <= 200
    assert (found.standard_error.mean[found.samples < 200] <= 0.12).all()
    for i, count in enumerate(found.samples):
        np.testing.assert_allclose(found.draws[:count, i], whole.draws[:count, i], atol=1e-6)


def test_a_jax_key_is_the_key_that_it_is_elsewhere():
    assert (draws(mlp, key=jax.random.key(7)) == draws(mlp, key=Key(7))).all()
    assert (draws(mlp, key=None) != draws(mlp, key=None)).any()


class Linen(nn.Module):
    """An MLP as Flax users write it."""

    @nn.compact
    def __call__(self, x, deterministic=True):
        x = thinned.flax.linen.Dropout(RATES[0])(x, deterministic=deterministic)
        x = nn.BatchNorm(use_running_average=True)(nn.Dense(16, use_bias=False, name="first")(x))
        x = thinned.flax.linen.Dropout(RATES[1])(nn.relu(x), deterministic=deterministic)
        return nn.Dense(4, use_bias=False, name="second")(x)


def linen():
    model = Linen()
    variables = model.init(jax.random.key(0), X[:1])
    parameters = {**variables["params"], "first": {"kernel": FIRST}, "second": {"kernel": SECOND}}
    statistics = jax.tree.map(lambda a: a, variables["batch_stats"])
    scale = parameters["BatchNorm_0"]["scale"] * np.sqrt(1 + 1e-5)  # takes back what is added to the variance
    parameters["BatchNorm_0"] = {**parameters["BatchNorm_0"], "scale": scale}
    return model, {"params": parameters, "batch_stats": statistics}


def test_linen_with_keys_of_sites():
    """The recipe of docs/mc/jax.md: an interceptor numbers the calls, whatever the model passes on."""
    model, variables = linen()

    def apply(x, key):
        sites = itertools.count()

        def keyed(call, args, kwargs, context):
            if isinstance(context.module, thinned.flax.linen.Dropout) and context.module.rate:
                return call(*args, **{**kwargs, "deterministic": False, "rng": fold(key, next(sites))})
            return call(*args, **kwargs)

        with nn.intercept_methods(keyed):
            return model.apply(variables, x)

    np.testing.assert_allclose(draws(apply), by_numpy(12), atol=1e-5)


def test_linen_with_keys_that_flax_folds():
    model, variables = linen()

    def apply(x, key):
        return model.apply(variables, x, deterministic=False, rngs={"dropout": random_key(key)})

    found = draws(apply)
    assert found.std(axis=0).all()
    assert not np.allclose(found, by_numpy(12))
    np.testing.assert_allclose(draws(apply, batch_size=7, memory=3_000), found, atol=1e-6)


class Nnx(nnx.Module):
    """An MLP with its keys handed on."""

    def __init__(self, rngs):
        self.first = nnx.Linear(8, 16, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(16, epsilon=0.0, rngs=rngs)
        self.second = nnx.Linear(16, 4, use_bias=False, rngs=rngs)
        self.drops = nnx.List([thinned.flax.nnx.Dropout(p, rngs=rngs) for p in RATES])
        self.first.kernel[...], self.second.kernel[...] = jnp.asarray(FIRST), jnp.asarray(SECOND)

    def __call__(self, x, keys=(None, None)):
        x = self.norm(self.first(self.drops[0](x, key=keys[0])))
        return self.second(self.drops[1](nnx.relu(x), key=keys[1]))


def test_nnx():
    """Its layers take an exact key, or draw from Rngs, which are made anew for every sample."""
    model = Nnx(nnx.Rngs(0))
    model.eval()
    definition, state = nnx.split(model)

    def training_dropout():
        copy = nnx.merge(definition, state)
        copy.set_attributes(thinned.flax.nnx.Dropout, deterministic=False)
        return copy

    def keyed(x, key):
        return training_dropout()(x, (fold(key, 0), fold(key, 1)))

    def folded(x, key):
        copy = training_dropout()
        for layer in copy.drops:
            layer.rngs = None
        rngs = nnx.Rngs(dropout=random_key(key))
        for layer in copy.drops:
            layer.rngs = rngs.dropout.fork()
        return copy(x)

    kept = nnx.Any(nnx.Param, nnx.BatchStat)
    before = jax.tree.map(np.asarray, nnx.state(model, kept))
    np.testing.assert_allclose(draws(keyed), by_numpy(12), atol=1e-5)
    found = draws(folded)
    assert found.std(axis=0).all()
    np.testing.assert_allclose(draws(folded, batch_size=7, memory=3_000), found, atol=1e-6)
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), before, nnx.state(model, kept)))


class Equinox(eqx.Module):
    """An MLP of one example, as Equinox has it."""

    first: jax.Array
    second: jax.Array
    drops: list

    def __call__(self, x, keys):
        x = self.drops[0](x, key=keys[0]) @ self.first
        return self.drops[1](jax.nn.relu(x), key=keys[1]) @ self.second


def test_equinox():
    model = Equinox(jnp.asarray(FIRST), jnp.asarray(SECOND), [thinned.equinox.nn.Dropout(p) for p in RATES])

    def keyed(x, key):
        return model(x[0], (fold(key, 0), fold(key, 1)))[None]

    def split(x, key):
        return model(x[0], jax.random.split(random_key(key)))[None]

    np.testing.assert_allclose(draws(keyed), by_numpy(12), atol=1e-5)
    assert draws(split).std(axis=0).all()


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
