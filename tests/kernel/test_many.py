"""Rows with a key each, on every code path, against a mask for each by the contract."""

import numpy as np
import pytest
from equal_bits import assert_equal_bits

import thinned
from thinned import Key, _kernel


def keys_of(*shape):
    return np.random.default_rng(1).integers(0, 2**64, (*shape, 2), np.uint64)


def rows(x, keys, p, noise=None):
    """What one call makes of them; x of the rows' shape, or with dimensions of size 1 in front."""
    outer, inner = keys.shape[:-1]
    shape = x.shape[2:]
    out = np.full((outer, inner, *shape), -7.0, x.dtype)
    item = x.itemsize
    between = [0 if x.shape[axis] == 1 else x.strides[axis] // item for axis in range(2)]
    steps = np.array([int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))])
    _kernel.many(
        *(_kernel.FLOAT32, _kernel.address(x), _kernel.address(out), outer, inner, *between, shape),
        *((steps * np.array(noise or 1)).tolist(), 5, _kernel.address(keys)),
        *(thinned.threshold(p), thinned.scale(p) if p < 1 else 0.0, 0, 2),
    )
    return out


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("front", [(3, 4), (1, 4), (1, 1)])
def test_each_row_has_the_mask_of_its_key(path, p, front):
    x = np.random.default_rng(2).standard_normal((*front, 9, 7)).astype(np.float32)
    keys = keys_of(3, 4)
    got = rows(x, keys, p)
    for (i, j), row in zip(np.ndindex(3, 4), got.reshape(12, 9, 7), strict=True):
        source = np.broadcast_to(x, (3, 4, 9, 7))[i, j].reshape(-1)
        key = Key(*map(int, keys[i, j]))
        want = thinned.dropout(source, p, key=key, training=True, global_shape=2**40, start=5)
        assert_equal_bits(row.reshape(-1), want)


def test_a_shared_decision_is_shared_within_a_row_and_not_between_rows(path):
    got = rows(np.ones((1, 1, 16, 8), np.float32), keys_of(4, 4), 0.5, noise=(1, 0))
    assert (got == got[..., :1]).all()
    assert len(np.unique(got[..., 0].reshape(16, 16), axis=0)) == 16


def test_folds_of_many_keys_are_those_of_each(path):
    keys, data = keys_of(6).reshape(6, 2), np.arange(6, dtype=np.uint64) * np.uint64(2**57)
    out = np.zeros_like(keys)
    _kernel.fold_many(*(_kernel.address(array) for array in (keys, data, out)), 6)
    for key, number, folded in zip(keys.tolist(), data.tolist(), out.tolist(), strict=True):
        want = Key(*key).fold(number)
        assert folded == [want.seed, want.stream]
