"""Attention by tiles: which probabilities are dropped, forward and backward, on every code path."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import thinned
from thinned import Key, _kernel
from thinned.torch.functional import dropout
from thinned.torch.functional import scaled_dot_product_attention as attend

KEY = Key(2**63 + 5, 2**40 + 1)


def dropped(heads, keys_of, length, keys, p, causal=False, mask=None, key=KEY, **place):
    """Keep masks (heads, length, keys) that the result and the gradient of value show, by identities."""
    generator = torch.Generator().manual_seed(length)
    q, k = (torch.randn(n, m, 8, generator=generator) / 4 for n, m in ((heads, length), (keys_of, keys)))
    more = {
        "is_causal": causal,
        "enable_gqa": heads != keys_of,
        "training": True,
        "dropout_key": key,
        **place,
    }
    shown = attend(q, k, torch.eye(keys).expand(keys_of, keys, keys), mask, p, **more) != 0
    groups = heads // keys_of
    back = []
    for one in range(groups):  # one query head of each group at a time, as a group's gradients are added
        value = torch.zeros(keys_of, keys, length, requires_grad=True)
        upstream = torch.zeros(heads, length, length)
        upstream[one::groups] = torch.eye(length)
        attend(q, k, value, mask, p, **more).backward(upstream)
        back.append(value.grad.mT != 0)
    return shown, torch.stack(back, 1).flatten(0, 1)


def reference(heads, length, keys, p, causal=False, mask=None, key=KEY, **place):
    kept = torch.from_numpy(thinned.keep_mask((heads, length, keys), p, key=key, **place))
    seen = torch.ones(length, keys, dtype=torch.bool).tril() if causal else torch.ones((), dtype=torch.bool)
    return kept & seen & (True if mask is None else mask)


# Around one tile of 64 queries by 256 keys, and the 512 queries of a task.
CASES = [
    ((1, 1), 0.5, "all", (1, 1)),
    ((5, 7), 0.1, "mask", (4, 2)),
    ((64, 256), 0.5, "causal", (2, 2)),
    ((65, 257), 0.1, "all", (2, 1)),
    ((130, 300), 0.1, "causal", (4, 2)),
    ((520, 40), 0.5, "mask", (1, 1)),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_mask_is_the_contracts(path, case):
    sizes, p, seen, heads = case
    mask = torch.rand(sizes, generator=torch.Generator().manual_seed(1)) < 0.7 if seen == "mask" else None
    expected = reference(heads[0], *sizes, p, seen == "causal", mask)
    for found in dropped(*heads, *sizes, p, seen == "causal", mask):
        assert torch.equal(found, expected)


PLACES = [
    {"global_shape": (7, 90, 300), "start": (3, 5, 9)},
    {"global_shape": (8, 400, 300), "start": (1, 2, 0), "step": (2, 3, 1)},
    {"global_shape": (4, 2**20, 2**24 + 3), "start": (1, 1000, 2**23)},
    {"global_shape": (2, 70, 600), "start": (0, 0, 1), "step": (1, 1, 2)},
]


@pytest.mark.parametrize("place", PLACES, ids=range(len(PLACES)))
def test_a_part_has_its_part_of_the_mask(path, place):
    heads, length, keys = 2, 66, 259
    step = place.get("step", (1, 1, 1))
    ends = [s + (n - 1) * d for s, n, d in zip(place["start"], (heads, length, keys), step, strict=True)]
    assert all(end < n for end, n in zip(ends, place["global_shape"], strict=True))
    indices = [
        s + d * np.arange(n) for s, n, d in zip(place["start"], (heads, length, keys), step, strict=True)
    ]
    whole = place["global_shape"]
    at = (indices[0][:, None, None] * whole[1] + indices[1][:, None]) * whole[2] + indices[2]
    rows = np.stack(
        [
            thinned.keep_mask((1, keys * step[2]), 0.4, key=KEY, global_shape=(1, 2**62), start=(0, row[0]))[
                0, :: step[2]
            ]
            for row in at.reshape(-1, keys).tolist()
        ]
    )
    for found in dropped(heads, heads, length, keys, 0.4, **place):
        assert np.array_equal(found.numpy(), rows.reshape(heads, length, keys))


@settings(max_examples=10, deadline=None)
@given(st.data())
def test_any_shape(data):
    length, keys = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 300))
    served, groups = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    p, causal = data.draw(st.floats(0.01, 0.9)), data.draw(st.booleans())
    key = Key(data.draw(st.integers(0, 2**64 - 1)), data.draw(st.integers(0, 2**64 - 1)))
    expected = reference(served * groups, length, keys, p, causal, key=key)
    for found in dropped(served * groups, served, length, keys, p, causal, key=key):
        assert torch.equal(found, expected)


# The reference takes ten seconds of NumPy for what torch's operators do.
SOON = [p if p != _kernel.REFERENCE else pytest.param(p, marks=pytest.mark.full) for p in _kernel.paths()]


@pytest.mark.parametrize("path", SOON, indirect=True)
def test_p_that_varies_along_queries_and_keys(path):
    """Not the kernel's: by blocks of queries."""
    q = k = torch.zeros(2, 50, 4)
    for p in (torch.rand(1, 50, 1), torch.rand(2, 1, 50), torch.rand(2, 50, 50)):
        shown = attend(q, k, torch.eye(50).expand(2, 50, 50), None, p, training=True, dropout_key=KEY) != 0
        expected = thinned.torch.functional.dropout(torch.ones(2, 50, 50), p, True, key=KEY) != 0
        assert torch.equal(shown, expected)


def test_many_keys_in_one_call(path):
    q, k, v = torch.zeros(3, 2, 5, 4), torch.zeros(3, 2, 9, 4), torch.eye(9).expand(3, 2, 9, 9)

    def one(q, k, v):
        return attend(q, k, v, None, 0.5, training=True, dropout_key=KEY)

    shown = torch.vmap(one, randomness="different")(q, k, v) != 0
    for n in range(3):
        kept = torch.from_numpy(thinned.keep_mask((2, 5, 9), 0.5, key=KEY.fold(n)))
        assert torch.equal(shown[n], kept)


def test_p_fits_what_mask_and_value_add_to_the_batch():
    query, key, values = torch.zeros(1, 3, 4), torch.zeros(1, 5, 4), torch.eye(5)[None]
    p = torch.tensor([0.0, 1.0, 0.5]).reshape(3, 1, 1)
    expected = dropout(torch.full((3, 3, 5), 0.2), p, True, key=KEY)
    for mask, value in ((torch.ones(3, 3, 5, dtype=torch.bool), values), (None, values.expand(3, 5, 5))):
        y = attend(query, key, value, mask, p, training=True, dropout_key=KEY)
        torch.testing.assert_close(y, expected)
