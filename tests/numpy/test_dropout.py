"""The NumPy front end: values, gradients, shapes, shards."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import thinned
from thinned import Key, contract, scale, threshold
from thinned._numpy import thinned_dots


def reference(x, p, key, *, positions=None, factor=None):
    """What CONTRACT.md says, by the plain reference."""
    if positions is None:
        positions = np.arange(x.size, dtype=np.uint64).reshape(x.shape)
    kept = contract.keep(key, positions, threshold(p))
    return contract.apply_mask(x, np.broadcast_to(kept, x.shape), scale(p) if factor is None else factor)


def dtype_of(name):
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


@given(
    data=st.data(),
    p=st.floats(0, 1),
    seed=st.integers(0, 2**64 - 1),
    name=st.sampled_from(["float32", "float64", "float16", "bfloat16"]),
)
def test_equals_the_reference_to_the_bit(data, p, seed, name):
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9))
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype_of(name))
    got = thinned.dropout(x, p, key=Key(seed), training=True)
    assert got.dtype == x.dtype
    assert got.shape == x.shape
    assert got.tobytes() == reference(x, p, Key(seed)).tobytes()


@pytest.mark.parametrize("shape", [(7, 6), (3, 4, 5), (2, 3, 4, 5)])
def test_the_mask_is_that_of_the_logical_index(path, shape):
    """Transposed, strided, reversed, broadcast inputs: same mask as their contiguous copies."""
    rng = np.random.default_rng(0)
    base = rng.standard_normal(shape).astype(np.float32)
    doubled = rng.standard_normal(tuple(2 * n for n in shape)).astype(np.float32)
    views = [
        base.T,
        np.asfortranarray(base),
        doubled[tuple(slice(None, None, 2) for _ in shape)],
        base[::-1],
        np.broadcast_to(base[:1], shape),
        np.moveaxis(base, 1, -1),
        doubled[tuple(slice(1, n + 1) for n in shape)],
    ]
    for x in views:
        got = thinned.dropout(x, 0.4, key=Key(8), training=True)
        assert np.array_equal(got, reference(np.ascontiguousarray(x), 0.4, Key(8)))


def test_the_layout_is_kept():
    x = np.asfortranarray(np.ones((30, 40), np.float32))
    assert thinned.dropout(x, 0.5, key=Key(0), training=True).flags.f_contiguous


@pytest.mark.parametrize(
    ("noise", "strides"),
    [
        ((1, 6), (0, 1)),
        ((5, 1), (1, 0)),
        ((None, 1), (1, 0)),
        ((5, None), (6, 1)),
        ((1, 1), (0, 0)),
        ([1, None], (0, 1)),
    ],
)
def test_noise_shape(path, noise, strides):
    x = np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32)
    positions = np.arange(5)[:, None] * strides[0] + np.arange(6)[None] * strides[1]
    got = thinned.dropout(x, 0.5, key=Key(2), training=True, noise_shape=noise)
    assert np.array_equal(got, reference(x, 0.5, Key(2), positions=positions))


@given(data=st.data())
def test_noise_shape_is_a_mask_of_that_shape_broadcast(data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, max_side=8))
    noise = tuple(data.draw(st.sampled_from([1, n, None])) for n in shape)
    order = data.draw(st.permutations(range(len(shape))))
    x = np.random.default_rng(1).standard_normal([shape[k] for k in order]).astype(np.float32)
    x = x.transpose(np.argsort(order))
    assert x.shape == shape
    mask_shape = tuple(s if n is None else n for n, s in zip(noise, shape, strict=True))
    mask = thinned.keep_mask(mask_shape, 0.5, key=Key(3))
    got = thinned.dropout(x, 0.5, key=Key(3), training=True, noise_shape=noise)
    assert np.array_equal(got, np.where(mask, x * np.float32(2), np.float32(0)))


@pytest.mark.parametrize("shards", [1, 2, 4, 8])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_shards_are_slices(path, shards, axis):
    """Even and uneven splits along any dimension: mask(global)[slice] == mask(local, offset)."""
    shape = (11, 9, 13)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    whole = thinned.dropout(x, 0.3, key=Key(4), training=True)
    mask = thinned.keep_mask(shape, 0.3, key=Key(4))
    first = 0
    for part in np.array_split(np.arange(shape[axis]), shards):
        index = [slice(None)] * 3
        index[axis] = slice(first, first + len(part))
        start = [0, 0, 0]
        start[axis] = first
        local = x[tuple(index)]
        got = thinned.dropout(local, 0.3, key=Key(4), training=True, global_shape=shape, start=start)
        assert np.array_equal(got, whole[tuple(index)])
        some = thinned.keep_mask(local.shape, 0.3, key=Key(4), global_shape=shape, start=start)
        assert np.array_equal(some, mask[tuple(index)])
        first += len(part)


@given(data=st.data())
def test_any_box_of_any_array(data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, max_side=9))
    start = tuple(data.draw(st.integers(0, n)) for n in shape)
    size = tuple(data.draw(st.integers(0, n - s)) for n, s in zip(shape, start, strict=True))
    box = tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))
    noise = tuple(data.draw(st.sampled_from([1, None])) for _ in shape)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    whole = thinned.dropout(x, 0.5, key=Key(6), training=True, noise_shape=noise)
    part = thinned.dropout(
        x[box], 0.5, key=Key(6), training=True, noise_shape=noise, global_shape=shape, start=start
    )
    assert np.array_equal(part, whole[box])


@pytest.mark.parametrize("mode", ["inverted", "classic"])
def test_training_and_evaluation(dtype_name, mode):
    x = np.random.default_rng(0).standard_normal((40, 30)).astype(dtype_of(dtype_name))
    trained = thinned.dropout(x, 0.3, key=Key(5), training=True, mode=mode)
    evaluated = thinned.dropout(x, 0.3, key=Key(5), training=False, mode=mode)
    if mode == "inverted":
        assert evaluated is x
        assert trained.tobytes() == reference(x, 0.3, Key(5)).tobytes()
    else:
        assert trained.tobytes() == reference(x, 0.3, Key(5), factor=1.0).tobytes()
        q = 1 - threshold(0.3) / 2**32
        assert evaluated.tobytes() == contract.multiply(x, q).tobytes()


def test_the_gradient_is_the_same_call():
    """Against central finite differences, to their error: f is linear, so they are exact but for rounding."""
    rng = np.random.default_rng(0)
    x, upstream = rng.standard_normal((2, 40))
    for mode in ("inverted", "classic"):

        def loss(v, mode=mode):
            return float(thinned.dropout(v, 0.4, key=Key(9), training=True, mode=mode) @ upstream)

        gradient = thinned.dropout(upstream, 0.4, key=Key(9), training=True, mode=mode)
        step = 1e-4
        numeric = [(loss(x + step * e) - loss(x - step * e)) / (2 * step) for e in np.eye(40)]
        np.testing.assert_allclose(gradient, numeric, rtol=1e-9, atol=1e-9)
        assert (gradient == 0).any()


def test_rate_and_keep_prob_are_the_same_thing():
    x = np.ones(1000, np.float32)
    one = thinned.dropout(x, 0.25, key=Key(1), training=True)
    assert np.array_equal(one, thinned.dropout(x, rate=0.25, key=Key(1), training=True))
    assert np.array_equal(one, thinned.dropout(x, keep_prob=0.75, key=Key(1), training=True))


def test_out_and_in_place():
    x = np.random.default_rng(0).standard_normal((64, 65)).astype(np.float32)
    expected = thinned.dropout(x, 0.5, key=Key(1), training=True)
    out = np.empty_like(x)
    assert thinned.dropout(x, 0.5, key=Key(1), training=True, out=out) is out
    assert np.array_equal(out, expected)
    transposed = np.empty((65, 64), np.float32).T
    thinned.dropout(x, 0.5, key=Key(1), training=True, out=transposed)
    assert np.array_equal(transposed, expected)
    assert thinned.dropout(x, 0.5, key=Key(1), training=True, out=x) is x
    assert np.array_equal(x, expected)
    assert thinned.dropout(x, 0.5, key=Key(1), training=False, out=out) is out
    assert np.array_equal(out, x)


def test_same_key_same_mask():
    x = np.ones(10_000, np.float32)
    one = thinned.dropout(x, 0.5, key=Key(1, 2), training=True)
    assert np.array_equal(one, thinned.dropout(x, 0.5, key=Key(1, 2), training=True))
    assert not np.array_equal(one, thinned.dropout(x, 0.5, key=Key(1, 3), training=True))


@pytest.mark.parametrize("n", [1, 100, 4096, 50_001])
def test_thinned_dots_are_the_dots_of_thinned_vectors(path, threads, n):
    """To rounding of the sum; and the same bits for every number of threads."""
    x, w = np.random.default_rng(0).standard_normal((2, n)).astype(np.float32)
    for p in (0.0, 0.3, 1.0):
        got = thinned_dots(x, w, p, key=Key(6), draws=3, first=5)
        masks = thinned.keep_mask((3, n), p, key=Key(6), global_shape=(8, n), start=(5, 0))
        expected = (masks * x.astype(np.float64)) @ w.astype(np.float64)
        # Sums of 4,096 float32 products of standard normals: rounding of about 2^-24 · √4096 each.
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5 * np.sqrt(n))
        if path != "reference":
            thinned.set_num_threads(1)
            assert np.array_equal(got, thinned_dots(x, w, p, key=Key(6), draws=3, first=5))


def test_thinned_dots_refuse_what_does_not_fit():
    x = np.ones(4, np.float32)
    for w in (np.ones(4), np.ones(5, np.float32), np.ones((2, 2), np.float32), np.ones(8, np.float32)[::2]):
        with pytest.raises(ValueError, match="contiguous float32 vectors of one length"):
            thinned_dots(x, w, 0.5, key=Key(0), draws=1)


def test_large_transposed_arrays(path):
    """Wide enough for several tiles in both directions."""
    for shape in ((300, 211), (5, 130, 150)):
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        for axes in ((1, 0), (2, 0, 1), (2, 1, 0), (1, 0, 2)):
            if len(axes) != x.ndim:
                continue
            y = np.transpose(x, axes)
            got = thinned.dropout(y, 0.4, key=Key(8), training=True)
            assert np.array_equal(got, reference(np.ascontiguousarray(y), 0.4, Key(8)))


def test_one_mask_in_every_dtype():
    kept = {
        name: thinned.dropout(np.ones(5000, dtype_of(name)), 0.3, key=Key(3), training=True) != 0
        for name in ("float32", "float64", "float16", "bfloat16")
    }
    for mask in kept.values():
        assert np.array_equal(mask, thinned.keep_mask(5000, 0.3, key=Key(3)))
