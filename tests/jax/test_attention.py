"""Attention tile by tile: the mask that NumPy gives, recovered from outputs and gradients; and the values."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as Spec

import thinned
from thinned import Key
from thinned.jax import _attention, _primitive, _tiles, dot_product_attention

KEY = Key(3, 9)


@pytest.fixture
def small(monkeypatch):
    """Tiles so small that a few rows are several."""
    monkeypatch.setattr(_tiles, "ROWS", 8)
    monkeypatch.setattr(_tiles, "COLUMNS", 8)


def normal(*shape, dtype=jnp.float32, seed=0):
    return jnp.asarray(np.random.default_rng([seed, *shape]).normal(size=shape), dtype)


def inputs(batch, length, size, heads, groups, depth=6, dtype=jnp.float32):
    key_heads = heads // groups
    return (
        normal(batch, length, heads, depth, dtype=dtype),
        normal(batch, size, key_heads, depth, dtype=dtype, seed=1),
        normal(batch, size, key_heads, depth, dtype=dtype, seed=2),
    )


def seeing(batch, size, heads):
    """Values of which a query's output says which probabilities were kept: as deep as there are keys."""
    return jnp.broadcast_to(jnp.eye(size)[:, None], (batch, size, heads, size))


attend = functools.partial(dot_product_attention, dropout_key=KEY, training=True)


def visible(length, size, causal, window):
    row, column = np.arange(length)[:, None], np.arange(size)
    seen = np.ones((length, size), bool)
    if causal:
        seen &= column <= row
    if window is not None:
        seen &= (row <= column + window[0]) & (row >= column - window[1])
    return seen


# batch, T, S, heads, groups, causal, window, start in a larger mask
CASES = [
    (2, 5, 7, 4, 2, False, None, None),
    (1, 20, 13, 2, 1, True, None, (1, 2, 30, 2)),
    (1, 9, 30, 3, 3, False, (2, 3), None),
    (2, 1, 16, 1, 1, False, None, (0, 3, 0, 7)),
    (1, 24, 1, 2, 1, True, None, None),
    (1, 17, 17, 2, 2, True, (4, 0), (2, 0, 5, 1)),
]


# What the others have singly, the third and the last have together: groups, causal, a window, a start, tiles.
QUICK = [pytest.param(case, marks=() if n in (2, 5) else pytest.mark.full) for n, case in enumerate(CASES)]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("case", QUICK, ids=str)
def test_the_mask_is_numpys_forward_and_backward(case):
    batch, length, size, heads, groups, causal, window, start = case
    shape = (batch, heads, length, size)
    whole = None if start is None else tuple(s + f + 3 for s, f in zip(shape, start, strict=True))
    place = {} if start is None else {"global_shape": whole, "start": start}
    kept = thinned.keep_mask(shape, 0.4, key=KEY, **place) & visible(length, size, causal, window)
    query, key, _ = inputs(batch, length, size, heads, groups, size)
    value = seeing(batch, size, heads // groups)
    run = functools.partial(
        attend, query, key, dropout_p=0.4, is_causal=causal, local_window_size=window, **place
    )
    # Of value j, feature 0, the gradient is the sum of the kept probabilities of j; of one query, one.
    row = length - 1
    upstream = np.zeros((batch, length, heads, size), np.float32)
    upstream[:, row, :, 0] = 1

    @jax.jit  # one program is compiled in a fourth of the time that its operators take one by one
    def both(value):
        output, pull = jax.vjp(run, value)
        return output, pull(jnp.asarray(upstream))[0]

    output, gradient = both(value)
    assert ((np.moveaxis(np.asarray(output), 2, 1) != 0) == kept).all()
    got = np.asarray(gradient)[..., 0] != 0  # (B, S, K)
    each = kept[:, :, row].reshape(batch, heads // groups, groups, size).any(2)
    assert (np.moveaxis(got, 1, 2) == each).all()


def plain(query, key, value, bias, mask, p, causal):
    """The definition, at once."""
    groups = query.shape[2] // key.shape[2]
    key, value = (jnp.repeat(each, groups, 2) for each in (key, value))
    scores = jnp.einsum("bthd,bshd->bhts", query, key) / np.sqrt(query.shape[-1]) + bias
    seen = mask & visible(*scores.shape[2:], causal, None)
    nowhere = ~seen.any(-1, keepdims=True)
    weights = jax.nn.softmax(jnp.where(seen | nowhere, scores, -np.inf), -1)
    factor = thinned.dropout(np.ones(scores.shape), p, key=KEY, training=True)
    return jnp.einsum("bhts,bshd->bthd", jnp.where(nowhere, 0, weights * factor), value)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("order", [1, pytest.param(2, marks=pytest.mark.full)])  # JAX derives it
def test_values_and_derivatives_are_the_plain_formulas(order):
    """In float64, to 1e-13 of the plain formula; float32 to 2e-6 of it. First and second derivatives."""
    with jax.enable_x64(True):
        query, key, value = inputs(2, 10, 13, 4, 2, dtype=np.float64)
        bias = normal(1, 4, 10, 1, dtype=np.float64)
        mask = jnp.asarray(np.random.default_rng(5).random((2, 1, 10, 13)) > 0.3).at[0, 0, 3].set(False)
        tangents = tuple(normal(*each.shape, dtype=np.float64, seed=9) for each in (query, key, value, bias))

        def tiled(query, key, value, bias):
            return attend(query, key, value, bias, mask, dropout_p=0.3, is_causal=True)

        def whole(query, key, value, bias):
            return plain(query, key, value, bias, mask, 0.3, True)

        def all_of(run):
            def loss(*operands):
                return jnp.square(run(*operands)).sum()

            gradient = jax.grad(loss, (0, 1, 2, 3))
            operands = (query, key, value, bias)
            output, along = jax.jvp(run, operands, tangents)
            if order == 1:
                return output, along, gradient(*operands)
            second = jax.jvp(gradient, operands, tangents)[1]
            reverse = jax.grad(lambda *xs: sum((g * t).sum() for g, t in zip(gradient(*xs), tangents)))  # noqa: B905
            return output, along, gradient(*operands), second, reverse(*operands)

        got, expected = (jax.tree.leaves(jax.jit(lambda run=run: all_of(run))()) for run in (tiled, whole))
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-12)
        assert not np.asarray(got[0])[0, 3].any()  # may look nowhere
    narrow = [each.astype(np.float32) for each in (query, key, value, bias)]
    np.testing.assert_allclose(tiled(*narrow), expected[0], rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.full)])
def test_low_precision_is_computed_in_float32_and_rounded_once(dtype):
    """Also where scores are large."""
    query, key, value = (20 * each.astype(dtype) for each in inputs(1, 9, 11, 2, 1))
    run = jax.jit(functools.partial(attend, dropout_p=0.3))
    output = run(query, key, value)
    wide = run(*(each.astype(np.float32) for each in (query, key, value)))
    assert output.dtype == dtype
    assert (output == wide.astype(dtype)).all()
    gradient = jax.jit(jax.grad(lambda key: attend(query, key, value, dropout_p=0.3).sum()))(key)
    assert gradient.dtype == dtype
    assert np.isfinite(gradient.astype(np.float32)).all()


def test_the_mask_is_torchs():
    torch = pytest.importorskip("torch", reason="torch's mask is compared where torch is installed")
    from thinned.torch import functional

    query, key, _ = inputs(2, 6, 9, 4, 1, 9)
    value = seeing(2, 9, 4)
    ours = np.asarray(attend(query, key, value, dropout_p=0.4))
    heads = (torch.tensor(np.moveaxis(np.asarray(each), 2, 1)) for each in (query, key, value))
    theirs = functional.scaled_dot_product_attention(*heads, None, 0.4, training=True, dropout_key=KEY)
    assert ((np.moveaxis(ours, 2, 1) != 0) == (theirs.numpy() != 0)).all()
    np.testing.assert_allclose(np.moveaxis(ours, 2, 1), theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("small")
def test_nothing_of_t_by_s_is_kept():
    """No array of a program for 4096 × 4096, forward and backward, has as many elements: 8 tiles at most."""
    monkeyed = jax.ShapeDtypeStruct((1, 4096, 2, 64), jnp.float32)
    size = 512

    def loss(query, key, value, tile):
        _tiles.ROWS = _tiles.COLUMNS = tile
        return attend(query, key, value, dropout_p=0.1, is_causal=True).sum()

    compiled = (
        jax.jit(jax.grad(functools.partial(loss, tile=size), (0, 1, 2))).lower(*[monkeyed] * 3).compile()
    )
    state = 4 * 4096 * 2 * 64
    assert compiled.memory_analysis().temp_size_in_bytes < 12 * state + 8 * 4 * 2 * size * size
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * 2 * 4096 * 4096 / 2


def test_probabilities_to_drop_that_differ():
    query, key, _ = inputs(2, 6, 9, 4, 2, 9)
    value, each = seeing(2, 9, 2), np.float32([0.0, 0.2, 0.5, 1.0])
    expected = np.stack(
        [thinned.keep_mask((2, 4, 6, 9), float(p), key=KEY)[:, n] for n, p in enumerate(each)], 1
    )

    def run(p, words):
        return attend(query, key, value, dropout_p=p, dropout_key=words)

    for call in (run, jax.jit(run)):
        got = call(jnp.asarray(each)[None, :, None, None], jnp.uint32([3, 0, 9, 0]))
        assert ((np.moveaxis(np.asarray(got), 2, 1) != 0) == expected).all()
    traced = jax.jit(run)
    drawn = traced(jnp.float32(0.2), jax.random.key(5))
    kept = thinned.keep_mask((2, 4, 6, 9), float(each[1]), key=Key(5))
    assert ((np.moveaxis(np.asarray(drawn), 2, 1) != 0) == kept).all()
    assert np.isnan(traced(jnp.float32(1.5), jax.random.key(5))).all()


def test_without_dropout_it_is_jaxs_and_nowhere_is_zero():
    query, key, value = inputs(2, 6, 9, 4, 2)
    mask = jnp.ones((1, 1, 6, 9), bool).at[0, 0, 2].set(False)
    options = {"is_causal": True, "return_residual": True}
    theirs = jax.nn.dot_product_attention(query, key, value, mask=mask, **options)
    for more in ({"training": False, "dropout_p": 0.5}, {"dropout_p": 0.0}):
        output, residual = attend(query, key, value, mask=mask, **options, **more)
        np.testing.assert_array_equal(output, theirs[0].at[:, 2].set(0))
        np.testing.assert_array_equal(residual, theirs[1].at[:, 2].set(-np.inf))
    output, residual = attend(query, key, value, mask=mask, **options, dropout_p=0.5)
    assert not output[:, 2].any()
    np.testing.assert_allclose(residual, theirs[1].at[:, 2].set(-np.inf), rtol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_what_is_beyond_the_lengths_is_zero(training):
    query, key, value = inputs(2, 6, 9, 4, 2)
    run = jax.jit(functools.partial(attend, dropout_p=0.5, training=training))
    for lengths in (np.int32([0, 0]), np.int32([5, 3])):
        output = run(query, key, value, query_seq_lengths=np.int32([0, 4]), key_value_seq_lengths=lengths)
        assert not output[0].any()
        assert not output[1, 4:].any()
        assert output[1, :4].any() == bool(lengths[1])


def test_p_of_one_is_zero_whatever_there_was():
    query, key, value = (each * jnp.nan for each in inputs(1, 3, 4, 2, 1))
    for p in (1.0, np.ones((1, 2, 1, 1), np.float32)):
        output, pull = jax.vjp(functools.partial(attend, dropout_p=p), query, key, value)
        assert not output.any()
        assert not any(gradient.any() for gradient in pull(output + 1))


@pytest.mark.parametrize("shape", [(0, 3, 4, 2), (2, 0, 4, 2), (2, 3, 0, 2)], ids=str)
def test_empty(shape):
    query, key, value = inputs(*shape, 1)
    output, pull = jax.vjp(functools.partial(attend, dropout_p=0.5), query, key, value)
    assert output.shape == query.shape
    assert not output.any()
    assert not any(gradient.any() for gradient in pull(output))


def test_both_ways_of_making_a_mask(monkeypatch):
    """The kernel, and `jax.numpy`, which other platforms have."""
    query, key, value = inputs(1, 9, 12, 2, 1)
    run = jax.jit(functools.partial(attend, dropout_p=0.4))
    by_kernel = run(query, key, value)

    class Plain:
        bind = staticmethod(_primitive.keep_plain)

    monkeypatch.setattr(_tiles, "keep_p", Plain)
    monkeypatch.setattr(_attention, "attend_p", _untraced())
    np.testing.assert_array_equal(
        jax.jit(functools.partial(attend, dropout_p=0.4))(query, key, value), by_kernel
    )


def _untraced():
    """The pass itself instead of its primitive, whose compiled code may be kept."""
    from thinned.jax import _attend

    class Inline:
        bind = staticmethod(_attend.forward)

    return Inline


def test_many_keys_in_one_call():
    query, key, value = inputs(1, 9, 12, 2, 1)
    keys = jax.random.split(jax.random.key(1), 3)

    def run(query, word):
        return attend(query, key, value, dropout_p=0.4, dropout_key=word)

    @jax.jit
    def many(query):
        loss = jax.value_and_grad(lambda query: (jax.vmap(run, (None, 0))(query, keys) ** 2).sum())
        return jax.vmap(run, (None, 0))(query, keys), loss(query)[1]

    @jax.jit
    def one(query, word):
        return run(query, word), jax.grad(lambda query: (run(query, word) ** 2).sum())(query)

    together, gradient = many(query)
    apart, gradients = zip(*(one(query, word) for word in keys), strict=True)
    np.testing.assert_allclose(together, jnp.stack(apart), rtol=1e-5, atol=1e-6)
    assert (together[0] != together[1]).any()
    expected = sum(gradients)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)


needs_devices = pytest.mark.skipif(jax.device_count() < 4, reason=f"{jax.device_count()} devices")


def loss(query, key, value, **place):
    return jnp.square(attend(query, key, value, dropout_p=0.4, **place)).sum()


@needs_devices
@pytest.mark.parametrize(
    "spec",
    [Spec("a", None, "b"), pytest.param(Spec("a", "b"), marks=pytest.mark.full)],
    ids=["heads", "queries"],
)
def test_a_mesh_divides_it(spec):
    operands = inputs(2, 12, 10, 4, 2)
    expected = jax.grad(loss, (0, 1, 2))(*operands)
    mesh = Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("a", "b"))
    of_keys = spec if "b" in spec[2:] else Spec("a")
    shardings = [NamedSharding(mesh, each) for each in (spec, of_keys, of_keys)]
    run = jax.jit(jax.grad(loss, (0, 1, 2)), in_shardings=shardings)
    for one, other in zip(run(*operands), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    if "b" in spec[2:]:  # heads and batch stand apart: no device asks another
        assert "all-" not in run.lower(*operands).compile().as_text()


@pytest.mark.full  # strides and starts are what the masks' own tests of meshes hold, and CASES above
@needs_devices
def test_shards_say_where_they_stand():
    operands = inputs(2, 6, 10, 4, 2)
    mesh = Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("a", "b"))
    spec = Spec("a", None, "b")

    def part(query, key, value):
        place = (jax.lax.axis_index("a") * query.shape[0], jax.lax.axis_index("b") * query.shape[2], 0, 0)
        return attend(query, key, value, dropout_p=0.4, global_shape=(2, 4, 6, 10), start=place)

    parts = jax.shard_map(part, mesh=mesh, in_specs=(spec,) * 3, out_specs=spec)
    got = jax.jit(jax.grad(lambda *xs: jnp.square(parts(*xs)).sum(), (0, 1, 2)))(*operands)
    for one, other in zip(got, jax.grad(loss, (0, 1, 2))(*operands), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.full  # the seams export it with sizes; a name is one tile
def test_export_with_names_for_sizes():
    b, t, s = jax.export.symbolic_shape("b, t, s")
    like = [jax.ShapeDtypeStruct((b, size, 2, 6), jnp.float32) for size in (t, s, s)]
    run = functools.partial(attend, dropout_p=0.4, is_causal=True)
    exported = jax.export.export(jax.jit(run), platforms=["cpu", "cuda"])(*like)
    operands = inputs(2, 6, 9, 2, 1)
    got = jax.export.deserialize(exported.serialize()).call(*operands)
    np.testing.assert_allclose(got, run(*operands), rtol=1e-5, atol=1e-6)


Q, K, V = inputs(2, 5, 7, 4, 2)
REFUSED = [
    ({"training": None}, TypeError, "training must be True to drop or False"),
    ({"dropout_p": 1.5}, ValueError, r"p must be in \[0, 1\], got 1.5"),
    ({"dropout_p": np.float32([[0.5, 1.5]])}, ValueError, r"p must be in \[0, 1\], got 1.5"),
    ({"dropout_p": np.zeros((1,) * 5)}, TypeError, "dropout_p must be a number, or a floating array"),
    ({"dropout_p": np.full((3, 1, 1), 0.5)}, ValueError, r"dropout_p of shape \(3, 1, 1\) does not fit"),
    ({"dropout_key": None}, TypeError, "dropout_key is missing"),
    ({"dropout_key": 3}, TypeError, "dropout_key must be a key, got 3"),
    ({"mask": jnp.ones((5, 7))}, ValueError, "mask dtype should be bool"),
    ({"mask": jnp.ones((3, 1, 5, 7), bool)}, TypeError, "incompatible shapes"),
    ({"key": K[:, :, :1].repeat(3, 2), "value": V[:, :, :1].repeat(3, 2)}, ValueError, "multiple of"),
    (
        {"query": Q.astype(int), "key": K.astype(int), "value": V.astype(int)},
        TypeError,
        "query must be float32",
    ),
    ({"start": (0, 0, 0, 0)}, ValueError, "needs global_shape"),
]


@pytest.mark.parametrize(("wrong", "kind", "message"), REFUSED, ids=[row[2] for row in REFUSED])
def test_what_is_refused(wrong, kind, message):
    good = {"query": Q, "key": K, "value": V, "dropout_p": 0.5}
    with pytest.raises(kind, match=message):
        attend(**{**good, **wrong})
