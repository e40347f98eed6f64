"""Attention with dropout: the contract's mask to the bit, everything else to the rounding of its dtype."""

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from arrays import numbers
from attention_formula import (
    MASKS,
    SEEN,
    backward,
    check,
    close,
    dropping,
    forward,
    operands,
    plain,
    weights_of,
    whole,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from triton.runtime import interpreter

from thinned import Key, contract
from thinned.torch import _key, functional
from thinned.torch._triton import _attention_parts, _bits, _launch_attention, _tile, _tiles

KEY = Key(11, 2**40 + 3)
# Roundings of the largest number of a result, of which 16 bits of weights are most.
TOLERANCE = {torch.float32: 3e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
SMALL = _tiles.Tile(16, 32, 4, 4, 1)


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch):
    """Several of them in a problem that is soon computed."""
    monkeypatch.setattr(_launch_attention, "tile", lambda *_: SMALL)


@pytest.fixture(autouse=True)
def _drawn_by_numpy(request, monkeypatch):
    """In the quick tier: interpreted, the generator is most of a kernel's time, and has tests of its own."""
    if not any(request.node.iter_markers("full")) and "drawn_by_the_kernel" not in request.fixturenames:
        for module in (_bits, _tile):
            monkeypatch.setattr(module, "words", numpy_words)
        monkeypatch.setattr(_attention_parts, "keep_bits", numpy_bits)


@pytest.fixture
def drawn_by_the_kernel():
    """As it is."""


def numpy_words(block, seed, stream, purpose):
    key = Key(number(seed) % 2**64, number(stream) % 2**64)
    drawn = contract.block_words(key, block.handle.data.astype(np.uint64), purpose)
    return tuple(tensor(np.broadcast_to(word, block.handle.data.shape)) for word in drawn)


def numpy_bits(position, step, seed, stream, drop, HOW, CALLS):
    """What keep_bits has to give, and to be asked for."""
    first, step, each = position.handle.data, number(step), np.arange(8 * CALLS)
    assert HOW == _tile.APART or step == 1
    assert HOW != _tile.ALIGNED or first.flat[0] % 8 == 0  # rows beyond the last may lie anywhere
    key = Key(number(seed) % 2**64, number(stream) % 2**64)
    kept = contract.keep(key, first[..., None] + step * each, number(drop))
    return tensor((kept << each).sum(-1))


def number(one):
    return int(one.handle.data.item()) if hasattr(one, "handle") else int(one)


def tensor(words):
    words = words.astype(np.uint32)
    return tl.tensor(interpreter.TensorHandle(words, tl.uint32), tl.block_type(tl.uint32, list(words.shape)))


# The words of bits by themselves.


@triton.jit
def words_at(
    out,
    start: tl.int64,
    step: tl.int64,
    seed: tl.int64,
    stream: tl.int64,
    drop: tl.int64,
    HOW: tl.constexpr,
    CALLS: tl.constexpr,
):
    SPAN: tl.constexpr = 8 * CALLS
    position = start.to(tl.int64) + tl.arange(0, 64 // SPAN) * SPAN * step.to(tl.int64)
    key = (seed.to(tl.int64), stream.to(tl.int64))
    bits = _tile.keep_bits(position[None, :], step, key[0], key[1], drop.to(tl.int64), HOW, CALLS)
    tl.store(out + tl.arange(0, 64)[None, :], _tile.spread(bits, 1, CALLS).to(tl.int8))


def kept_from(start, p, key, how, step=1):
    """As words of two calls and of four have it."""
    found = []
    for calls in (2, 4):
        out = torch.empty(64, dtype=torch.int8)
        what = (start, step, *_key.key_to_tensor(key).tolist(), contract.threshold(p))
        words_at[(1,)](out, *what, HOW=how.value, CALLS=calls)
        found.append(out.numpy() != 0)
    assert np.array_equal(*found)
    return found[0]


def contract_from(start, p, key, step=1):
    return contract.keep(key, start + step * np.arange(64, dtype=np.int64), contract.threshold(p))


@pytest.mark.covering(strength=1)
@pytest.mark.parametrize("start", [0, 8, 2**31 - 16, 2**34 - 8, 2**35 - 32, 2**62 + 8])
@pytest.mark.parametrize("shift", [0, 1, 3, 7])
def test_words_of_bits_wherever_they_begin(start, shift):
    how = _tile.CONSECUTIVE if shift else _tile.ALIGNED
    for p in (0.3, 0.8):
        expected = contract_from(start + shift, p, KEY)
        assert np.array_equal(kept_from(start + shift, p, KEY, how), expected)
    assert np.array_equal(kept_from(start, p, KEY, _tile.CONSECUTIVE), contract_from(start, p, KEY))


@pytest.mark.parametrize("step", [2, 5, 2**33])
def test_positions_that_are_apart(step):
    assert np.array_equal(
        kept_from(2**32 - 3, 0.4, KEY, _tile.APART, step), contract_from(2**32 - 3, 0.4, KEY, step)
    )


TIES = [174685, 206461]  # the second is kept
OTHERS = [pytest.param(one, marks=pytest.mark.full) for one in (28166, 43346, 166986, 245668, 614574)]


@pytest.mark.covering(strength=1)
@pytest.mark.parametrize("position", [*TIES, *OTHERS])
@pytest.mark.parametrize("before", [0, pytest.param(5, marks=pytest.mark.full), 11])
def test_a_tie_is_decided_by_the_low_halfword(position, before):
    """In each place of a word; and every halfword at its own number and one above."""
    aligned = position // 8 * 8
    for start, how in ((aligned, _tile.ALIGNED), (position - before, _tile.CONSECUTIVE)):
        assert np.array_equal(kept_from(start, 0.1, Key(5, 5), how), contract_from(start, 0.1, Key(5, 5)))
    at = np.array([position])
    own = int(contract.halfword(Key(5, 5), at, 0)[0]) << 16 | int(contract.halfword(Key(5, 5), at, 1)[0])
    for drop, kept in ((own, True), (own + 1, False)):
        for how in (_tile.CONSECUTIVE, _tile.APART):
            assert kept_from(position, drop / 2**32, Key(5, 5), how)[0] == kept


@pytest.mark.covering(strength=1)  # a way gives the halfwords, whatever they are compared with then
@pytest.mark.parametrize("how", [_tile.ALIGNED, _tile.CONSECUTIVE, _tile.APART])
@pytest.mark.parametrize(
    "p", [0.0, 2.0**-33, 2.0**-32, 2.0**-16, 0.49999, 0.5, 0.50001, 0.9999999, 1 - 2.0**-32, 1.0]
)
def test_extreme_probabilities(p, how):
    assert np.array_equal(kept_from(8, p, KEY, how), contract_from(8, p, KEY))


# Attention.


@pytest.mark.usefixtures("drawn_by_the_kernel")
@pytest.mark.parametrize("S", [40, 37])
def test_drawn_by_the_kernel(S):
    check(*operands((1, 1), S=S), causal=True)


@pytest.mark.covering(strength=1)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("mask", "causal"), [("none", True), *((mask, False) for mask in MASKS)])
def test_result_and_gradients(mask, causal, dtype):
    found = whole(MASKS[mask])
    heads = 1 if found is None else found.shape[1]  # interpreted, two heads take twice the time
    check(*operands((1, heads), dtype=dtype), found, causal)


@pytest.mark.covering(strength=1)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize(
    ("L", "S", "E", "EV"),
    [(1, 1, 1, 1), (1, 9, 3, 5), (7, 5, 80, 2), (33, 3, 8, 96), (5, 33, 16, 16), (17, 40, 1, 3)],
)
def test_shapes(L, S, E, EV, heads, causal):
    check(*operands((1, 4), heads, L, S, E, EV), causal=causal)


def mask_found(q, k, drop, mask=None, causal=False):
    """Which probabilities are kept, by the identity for V, and by the gradient of V."""
    L, S = q.shape[-2], k.shape[-2]
    v = torch.eye(S).expand(*k.shape[:-2], S, S)
    out, sums = forward(q, k, v, mask, causal, None, drop)
    k, each = (t.repeat_interleave(q.shape[-3] // k.shape[-3], -3) for t in (k, v))
    v = torch.zeros(*each.shape[:-1], L)  # a head of its own for each query: gradients are not added up
    identity = torch.eye(L).expand(*q.shape[:-2], L, L)
    found = backward(identity, q, k, v, mask, causal, None, drop, identity * 0, sums)
    return out != 0, found[2].mT != 0


@settings(max_examples=4, deadline=None, derandomize=True)
@given(data=st.data())
def test_masks_equal_the_contracts(data):
    masks_of(data)


@pytest.mark.full  # more of the same
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_many_masks_equal_the_contracts(data):
    masks_of(data)


def masks_of(data):
    sizes = st.integers(1, 40)
    L, S = data.draw(sizes), data.draw(sizes)
    groups, each = data.draw(st.sampled_from([(1, 1), (1, 2), (2, 1), (2, 2)]))
    shape = (1, groups * each, L, S)
    place = {}
    if data.draw(st.booleans()):
        step = tuple(data.draw(st.sampled_from(options)) for options in ([1], [1, 2], [1, 3], [1, 1, 5]))
        start = tuple(data.draw(st.integers(0, top)) for top in (2**20, 3, 2**12, 2**9))
        whole_shape = (2**21, 3 + 2 * shape[1], 2**12 + 3 * L, 2**9 + 8 * S)
        place = {"global_shape": whole_shape, "start": start, "step": step}
    q, k = torch.zeros(1, groups * each, L, 4), torch.zeros(1, groups, S, 4)
    p = data.draw(st.sampled_from([0.1, 0.5, 0.9]))
    causal = data.draw(st.booleans())
    mask = None
    seen = torch.ones(L, S, dtype=torch.bool)
    if causal:
        seen = seen.tril()
    elif data.draw(st.booleans()):
        seen = torch.rand(L, S, generator=torch.Generator().manual_seed(L)) < 0.7
        mask = seen[None, None]
    expected = (weights_of(shape, p, **place) != 0) & seen
    for found in mask_found(q, k, dropping(p, **place), mask, causal):
        assert torch.equal(found, expected)


def test_positions_beyond_31_bits():
    """A part of 2^9 keys in 2^60 positions: rows, heads and samples are each beyond 32 bits."""
    place = {"global_shape": (2**5, 2**12, 2**20, 2**23 + 3), "start": (30, 4000, 2**20 - 30, 2**22 + 5)}
    q, k = torch.zeros(2, 3, 20, 4), torch.zeros(2, 3, 40, 4)
    expected = weights_of((2, 3, 20, 40), 0.4, **place) != 0
    for found in mask_found(q, k, dropping(0.4, **place)):
        assert torch.equal(found, expected)


def test_each_head_its_p():
    p = torch.tensor([0.1, 1.0, 0.0, 0.7], dtype=torch.float64).reshape(1, 4, 1, 1)
    shape = (2, 4, 20, 40)
    weights = torch.stack([weights_of(shape, float(one))[:, i] for i, one in enumerate(p.flatten())], 1)
    check(*operands((2, 4), 2), causal=True, drop=dropping(p), weights=weights)


def test_each_sample_its_key():
    keys = [KEY.fold(i) for i in range(2)]
    weights = torch.stack([weights_of((2, 20, 40), 0.3, key) for key in keys])
    bits = torch.stack([_key.key_to_tensor(key) for key in keys])
    check(*operands((2, 2)), drop=dropping(0.3, bits), weights=weights)


def test_any_strides():
    """Heads behind rows, as projections leave them; keys, values and masks that are one for all."""
    q, k, v = (numbers((2, n, 2, 8), seed=n).transpose(1, 2) for n in (20, 40, 41))
    check(q, k, v[:, :, :40], SEEN.T.contiguous().T[None, None])
    check(q, numbers((1, 1, 40, 8)).expand(2, 2, 40, 8), v[:, :1, :40].expand(2, 2, 40, 8), causal=True)
    check(q.mT.contiguous().mT, k.flip(-1), v[:, :, :40, ::2], SEEN[:1, :1, None, None].expand(2, 2, 1, 1))


def test_an_empty_batch_and_no_query():
    for batch, L in (((0, 2), 20), ((2, 0), 20), ((2, 2), 0)):
        q, k, v = (torch.zeros(*batch, n, 8, requires_grad=True) for n in (L, 40, 40))
        out = functional.scaled_dot_product_attention(q, k, v, None, 0.3, training=True, dropout_key=KEY)
        out.sum().backward()
        assert (out.shape, q.grad.shape) == ((*batch, L, 8), q.shape)
        assert not k.grad.any()


@pytest.mark.parametrize("scale", [0.0, -0.5, 30.0])
def test_scales_and_great_scores(scale):
    check(*operands((1, 1)), scale=scale)


LOWEST = torch.finfo(torch.float32).min


@pytest.mark.parametrize(
    ("hidden", "dtype", "wide"),
    [
        (-1e9, torch.float32, torch.float32),  # in float64, scores are not lost beside it
        (1e9, torch.float32, torch.float32),
        (LOWEST, torch.float32, torch.float64),
        (torch.finfo(torch.bfloat16).min, torch.bfloat16, torch.float64),
    ],
)
def test_a_row_biased_by_a_large_number_has_the_result_and_gradients_of_its_average(hidden, dtype, wide):
    """As where padding is all of a row, and its number is not -inf; beside what is seen, and what is not."""
    mask = torch.zeros(1, 1, 5, 40, dtype=dtype)
    mask[..., 1, :] = hidden
    mask[..., 2, :35] = hidden
    mask[..., 3, :] = torch.where(torch.arange(40) < 33, -torch.inf, hidden)
    mask[..., 4, :] = -torch.inf
    check(*operands((1, 1), L=5, dtype=dtype), mask, wide=wide)


def test_large_scores_have_gradients_as_right_as_the_result():
    """They are whole numbers, each twice: in each row two probabilities are 1 / 2 and the others are 0."""
    q, k, v = ((300 * each).round() for each in operands((1, 1), L=20, E=64, EV=6))
    k[..., 20:, :] = k[..., :20, :]
    drop, weights = dropping(0.3), weights_of((1, 1, 20, 40), 0.3)
    out, sums = forward(q, k, v, None, False, 4.0, drop)
    _, _, gradient = backward(torch.ones_like(out), q, k, v, None, False, 4.0, drop, out, sums)
    scores = q.double() @ k.double().mT
    weights *= (scores == scores.amax(-1, keepdim=True)) / 2
    assert close(out, weights @ v.double(), torch.float32)
    assert close(gradient, weights.mT @ torch.ones(20, 6).double(), torch.float32)


@pytest.mark.parametrize("p", [2.0**-32, 1e-6, 1 - 2.0**-32])
def test_probabilities_next_to_none_and_all(p):
    q, k, v = operands((1, 1))
    out, _ = forward(q, k, v, None, False, None, dropping(p))
    expected = plain(*(each.double() for each in (q, k, v)), None, False, None, weights_of((1, 1, 20, 40), p))
    assert close(out, expected, torch.float32)


# The operator.


@pytest.fixture
def launches(monkeypatch):
    counts = {"forward": 0, "backward": 0}
    for name in counts:
        launch = getattr(_launch_attention, name)

        def counted(*arguments, name=name, launch=launch):
            counts[name] += 1
            return launch(*arguments)

        monkeypatch.setattr(_launch_attention, name, counted)
    return counts


@pytest.mark.usefixtures("kernels_serve_the_cpu")
def test_the_operator_calls_the_kernels_and_what_they_do_not_serve_goes_another_way(launches):
    def same(dtype=torch.float32, p=0.3, E=8):
        tensors = [each.requires_grad_() for each in operands((2, 2), 1, 5, 9, E, dtype=dtype)]
        found = functional.scaled_dot_product_attention(
            *tensors, None, p, True, enable_gqa=True, training=True, dropout_key=KEY
        )
        rates = p if isinstance(p, torch.Tensor) else torch.tensor(p)
        shape = (2, 2, 5, 9)
        weights = torch.zeros(shape, dtype=torch.float64)
        for one in rates.unique().tolist():
            weights = torch.where(rates == one, weights_of(shape, one), weights)
        wide = [each.detach().double().requires_grad_() for each in tensors]
        expected = plain(*wide, None, True, None, weights)
        grads = torch.autograd.grad(found, tensors, torch.ones_like(found))
        for ours, theirs in zip(
            (found, *grads), (expected, *torch.autograd.grad(expected.sum(), wide)), strict=True
        ):
            assert close(ours.detach(), theirs, torch.float32)

    same()
    same(p=torch.tensor([0.1, 0.6], dtype=torch.float64).reshape(1, 2, 1, 1))
    assert launches == {"forward": 2, "backward": 2}
    same(torch.float64)
    same(E=300)
    same(p=torch.tensor([0.1, 0.6, 0.2, 0.3, 0.4], dtype=torch.float64).reshape(1, 1, 5, 1))
    assert launches == {"forward": 2, "backward": 2}
