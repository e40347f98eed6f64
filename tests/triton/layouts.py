"""Layouts, shared decisions, shards and many keys: a mask is that of the logical index."""

import numpy as np
import pytest
import torch
from arrays import DTYPES, array, launch, numbers, reference
from equal_bits import assert_equal_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from known_answers import NUMBERS

from thinned import Key
from thinned.torch import _key
from thinned.torch._triton import _dropout, _launch, _turned
from thinned.torch._triton._layout import layout

KEY = Key(3, 2**63)


def check(x, p=0.4, **where):
    assert_equal_bits(np.ascontiguousarray(array(launch(x, p, KEY, **where))), reference(x, p, KEY, **where))


# Where an element stands does not depend on its type: masks.py has every type.
@pytest.mark.parametrize(
    "dtype", [d if d.itemsize == 4 else pytest.param(d, marks=pytest.mark.full) for d in DTYPES], ids=str
)
def test_layouts(dtype):
    x = numbers((4, 3, 72), dtype)
    for one in (
        x.transpose(0, 1),
        x.transpose(1, 2),
        x.permute(2, 1, 0),
        x[:, ::2],
        x[:, :, 1::3],
        x[::2, 1:, 3:70],
        x[:1].expand(4, 3, 72),
        numbers((2, 3, 4, 5), dtype).contiguous(memory_format=torch.channels_last),
        x[0, 0, 0],
        x[:0],
        x[:, :0],
    ):
        check(one)


def test_the_output_keeps_the_layout():
    x = numbers((6, 10)).t()
    assert launch(x, 0.5, KEY).stride() == x.stride()


@pytest.mark.parametrize(
    "noise", [(1, 5, 16), (4, 1, 16), (4, 5, 1), (4, 1, 1), (1, 1, 16), (1, 1, 1), (4, None, 16)]
)
def test_shared_decisions(noise):
    check(numbers((4, 5, 16)), noise_shape=noise)
    check(numbers((4, 16, 5)).transpose(1, 2), noise_shape=noise)


@pytest.mark.covering(strength=1)  # tests/numpy has the product of the same places
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize("noise", [None, (1, 1, 1)])
def test_shards_are_slices(axis, parts, noise):
    whole = numbers((7, 5, 150))
    if noise is not None:
        noise = tuple(1 if d == 1 else size for d, size in enumerate(whole.shape))
    expected = reference(whole, 0.4, KEY, noise_shape=noise)
    begin = 0
    for part in whole.tensor_split(parts, axis):
        start = tuple(begin if d == axis else 0 for d in range(3))
        size = (
            None
            if noise is None
            else tuple(1 if n == 1 else s for n, s in zip(noise, part.shape, strict=True))
        )
        y = launch(part, 0.4, KEY, noise_shape=size, global_shape=(7, 5, 150), start=start)
        index = tuple(slice(b, b + s) for b, s in zip(start, part.shape, strict=True))
        assert_equal_bits(np.ascontiguousarray(array(y)), np.ascontiguousarray(expected[index]))
        begin += part.shape[axis]


def keys_of(*shape):
    many = torch.arange(int(np.prod(shape)))
    return torch.stack([torch.full_like(many, 5), many * 977], -1).reshape(*shape, 2)


@pytest.mark.parametrize("shape", [(3, 100), (3, 4, 8), (3, 2, 33), (3, 1)])
def test_many_keys(shape):
    x, keys = numbers(shape), keys_of(3)
    y = launch(x, 0.4, keys)
    for one, row, key in zip(y, x, keys, strict=True):
        assert_equal_bits(array(one), reference(row, 0.4, Key(*_key.words_of(key))))


def test_many_keys_in_two_dimensions_shared_along_one_of_them():
    x = numbers((3, 4, 130))
    keys = keys_of(3)[:, None].expand(3, 4, 2)
    y = launch(x, 0.4, keys)
    for i, j in np.ndindex(3, 4):
        assert_equal_bits(array(y[i, j]), reference(x[i, j], 0.4, Key(*_key.words_of(keys[i, j]))))


def test_many_keys_with_a_shared_decision_in_a_shard():
    x, keys = numbers((2, 3, 70)), keys_of(2)
    where = {"noise_shape": (1, 70), "global_shape": (9, 200), "start": (4, 33)}
    y = launch(x, 0.4, keys, **where)
    for one, row, key in zip(y, x, keys, strict=True):
        assert_equal_bits(array(one), reference(row, 0.4, Key(*_key.words_of(key)), **where))


def test_a_key_that_is_no_row_of_memory():
    keys = torch.tensor([[7, 0], [9, 0]]).t()[:1].t()  # two words, two apart
    words = keys.t()[0]
    assert words.stride() == (2,)
    x = numbers(50)
    assert_equal_bits(array(launch(x, 0.4, words)), reference(x, 0.4, Key(7, 9)))


@st.composite
def places(draw):
    """A part of a permuted, sliced tensor; perhaps with shared decisions; perhaps a shard of a whole."""
    shape = draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    x = numbers([n * 2 for n in shape]).permute(draw(st.permutations(range(len(shape)))))
    for axis in range(x.dim()):
        begin, step = draw(st.integers(0, x.shape[axis] - 1)), draw(st.sampled_from([1, 1, 2]))
        x = x.narrow(axis, begin, x.shape[axis] - begin)
        x = x[(slice(None),) * axis + (slice(None, None, step),)]
    where = {}
    if draw(st.booleans()):
        where["noise_shape"] = tuple(draw(st.sampled_from([1, n])) for n in x.shape)
    if draw(st.booleans()):
        where["start"] = tuple(draw(st.integers(0, 9)) for _ in x.shape)
        where["global_shape"] = tuple(
            b + n + draw(st.integers(0, 9)) for b, n in zip(where["start"], x.shape, strict=True)
        )
    return x, where


@settings(max_examples=25)  # a launch takes 0.1 s
@given(places(), st.sampled_from([0.1, 0.5, 0.9]))
def test_any_place(place, p):
    x, where = place
    check(x, p, **where)


# Which kernel.


@pytest.mark.parametrize("shape", [(3, 1), (1, 70), (3, 70)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_p_for_each_row_column_or_element(shape, dtype, launched):
    x = numbers((3, 70))
    p = torch.rand(shape, dtype=dtype, generator=torch.Generator().manual_seed(1))
    p.view(-1)[:3] = torch.tensor([0.0, 1.0, 2.0**-20])
    for mode in ("inverted", "classic"):
        y = array(launch(x, p, KEY, mode=mode))
        for at in np.ndindex(3, 70):
            own = float(p.expand(3, 70)[at])
            one = reference(x[at].reshape(1, 1), own, KEY, mode=mode, global_shape=(3, 70), start=at)
            assert_equal_bits(y[at].reshape(1, 1), one)
    assert launched == ["rows" if shape == (3, 1) else "strided"] * 2


def test_ties_have_their_own_p():
    """Positions at whose own number a p stands, and just above it, in one launch."""
    for position, own in NUMBERS.items():
        first = position - position % 8
        where = {"global_shape": (2**36,), "start": (first,)}
        p = torch.tensor([own / 2**32, (own + 1) / 2**32], dtype=torch.float64)
        for column in range(2):
            rates = torch.full((8,), 0.5, dtype=torch.float64)
            rates[position % 8] = p[column]
            assert (launch(torch.ones(8), rates, Key(5, 5), **where)[position % 8] != 0) == (not column)


@pytest.fixture
def launched(monkeypatch):
    """Names of the kernels launched."""
    names = []
    for module, name in ((_dropout, "rows"), (_dropout, "strided"), (_turned, "turned")):
        monkeypatch.setattr(module, name, Counted(getattr(module, name), name, names))
    return names


class Counted:
    def __init__(self, kernel, name, names):
        self.kernel, self.name, self.names = kernel, name, names

    def __getitem__(self, grid):
        self.names.append(self.name)
        return self.kernel[grid]


def test_rows_go_by_eights(launched):
    whole = numbers((8, 256))
    launch(whole, 0.5, KEY)
    launch(whole[:, :128], 0.5, KEY, global_shape=(8, 256), start=(0, 0))
    launch(whole, 0.5, keys_of(8))
    launch(whole.t().contiguous().t(), 0.5, KEY)
    launch(whole, 0.5, KEY, noise_shape=(8, 1))
    assert launched == ["rows", "rows", "rows", "strided", "rows"]
    assert _launch._SHORTEST_ROW == 64


def test_dimensions_merge_where_nothing_tells_them_apart():
    dense = [(4, 15, 15, 15, 0, 0), (3, 5, 5, 5, 0, 0), (5, 1, 1, 1, 0, 0)]
    assert layout(dense, 64).width == 60
    assert layout(dense, 64).columns() == ((1,), (0,), (0,), (0,), (0,), (0,))
    turned = layout([(3, 1, 1, 4, 0, 0), (4, 3, 3, 1, 0, 0)], 64)
    assert turned.width == 0
    assert turned.columns() == ((3, 4), (1, 3), (1, 3), (4, 1), (0, 0), (0, 0))
    assert layout([], 64).width == 1
    assert layout([(1, 7, 7, 7, 0, 0)], 64).width == 1


@pytest.mark.parametrize(
    ("dtype", "p", "where"),
    [
        (torch.float32, 0.1, {}),
        pytest.param(torch.bfloat16, 0.5, {}, marks=pytest.mark.full),
        pytest.param(torch.float32, 1.0, {}, marks=pytest.mark.full),
        (torch.float32, 0.1, {"global_shape": (90, 1003), "start": (3, 5)}),  # no row begins with a block
        (torch.float32, 0.1, {"global_shape": (90, 1003), "start": (3, 7)}),  # the first one alone does
    ],
)
def test_memory_across_the_mask_goes_by_tiles(launched, dtype, p, where):
    check(numbers((40, 70), dtype).t(), p, **where)
    assert launched == ["turned"]


@pytest.mark.full
def test_tiles_of_several_dimensions_keys_and_rates(launched):
    check(numbers((2, 40, 36)).transpose(1, 2))
    x, keys = numbers((2, 40, 36)).transpose(1, 2), keys_of(2)
    for one, row, key in zip(launch(x, 0.4, keys), x, keys, strict=True):
        assert_equal_bits(np.ascontiguousarray(array(one)), reference(row, 0.4, Key(*_key.words_of(key))))
    x = numbers((40, 36)).t()
    out = torch.empty(36, 40)
    assert_equal_bits(array(launch(x, 0.4, KEY, out=out)), reference(x, 0.4, KEY))
    assert launched == ["turned"] * 3


@pytest.mark.full
@pytest.mark.parametrize("more", [0, 1])
def test_ties_in_tiles(launched, more):
    """A position is kept at its own number, and dropped just above it."""
    for position, own in NUMBERS.items():
        x = torch.ones(40, 32).t()
        where = {"global_shape": (40, 2**37), "start": (0, position)}
        assert (launch(x, (own + more) / 2**32, Key(5, 5), **where)[0, 0] != 0) == (not more)
    assert set(launched) == {"turned"}
