"""Monte Carlo prediction of JAX functions: the rule's keys, chunks and memory."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mc_jax_mlp import FIRST, KEY, RATES, SECOND, X, by_numpy, draws, mlp

import thinned
import thinned.equinox
import thinned.flax.linen
import thinned.flax.nnx
from thinned import Key
from thinned.jax import dropout, fold, keep_mask
from thinned.mc import _chunks, _keys
from thinned.mc.jax import predict


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


# Chunks are cut by one code, whether the samples of a chunk share their keys or not.
SHARED = [False, pytest.param(True, marks=pytest.mark.full)]


CHUNKS = (
    {"batch_size": 7},
    {"memory": 5_000},
    {"batch_size": 1},
    {"batch_size": 64},
    {"memory": 20_000, "batch_size": 7},
)


@pytest.mark.parametrize("shared", SHARED)
def test_batches_and_chunks_change_nothing(shared):
    whole = predict(mlp, X, samples=25, key=KEY, keep=True, outputs="logits", shared=shared)
    assert whole.draws.shape == (25, 20, 4)
    # A program for each: the quick tier has one of rows that leave a rest, and one of samples in chunks.
    for options in CHUNKS[: 5 if shared else 2]:
        options = {"samples": 25, "key": KEY, "keep": True, "outputs": "logits", "shared": shared, **options}
        other = predict(mlp, X, **options)
        np.testing.assert_allclose(other.draws, whole.draws, atol=1e-6, err_msg=str(options))
        np.testing.assert_allclose(other.mutual_information, whole.mutual_information, atol=1e-6)
    few = predict(mlp, X[:3], samples=10, key=KEY, keep=True, outputs="logits", shared=shared)
    np.testing.assert_allclose(few.draws, whole.draws[:10, :3], atol=1e-6)


@pytest.mark.parametrize("shared", SHARED)
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


def test_a_chunk_begins_where_the_one_before_ends():
    block = _chunks.Block(2, 5, _chunks.Size(3, 2), KEY, False, lambda streams: streams)
    np.testing.assert_array_equal(block.draw(4, 11), _keys.of_examples(KEY, range(4, 11), range(5, 7), False))
