"""Locked dropout: one mask over time, in both layouts, packed and not."""

import math

import pytest
import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence

import thinned
from thinned import Key
from thinned.torch import nn
from thinned.torch.functional import locked_dropout

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
LENGTHS = [3, 7, 1, 7, 4]


def sample(dtype=torch.float32):
    return torch.randn(5, 7, 11, generator=torch.Generator().manual_seed(0)).to(dtype)


def reference(x, p, key):
    """For (B, T, F): a mask of (B, F) by NumPy, the same for each t."""
    mask = torch.from_numpy(thinned.keep_mask((x.shape[0], x.shape[2]), p, key=key))
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    out = torch.zeros_like(x)
    for t in range(x.shape[1]):
        value = (x[:, t].to(wide) * torch.tensor(thinned.scale(p), dtype=wide)).to(x.dtype)
        out[:, t][mask] = value[mask]
    return out


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_outputs_equal_the_reference_in_every_layout(dtype):
    x = sample(dtype)
    expected = reference(x, 0.3, Key(5))
    assert torch.equal(locked_dropout(x, 0.3, True, batch_first=True, key=Key(5)), expected)
    turned = locked_dropout(x.transpose(0, 1), 0.3, True, batch_first=False, key=Key(5))
    assert torch.equal(turned, expected.transpose(0, 1))
    for batch_first in (True, False):
        one = locked_dropout(x[0], 0.3, True, batch_first=batch_first, key=Key(5))
        assert torch.equal(one, expected[0])


def packings(x):
    """The same sequences packed in the order given, in that of their lengths, and by hand."""
    lengths = torch.tensor(LENGTHS)
    order = torch.argsort(lengths, descending=True, stable=True)
    yield pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False), x
    yield pack_sequence([x[i, :n] for i, n in enumerate(LENGTHS)], enforce_sorted=False), x
    yield pack_padded_sequence(x[order], lengths[order], batch_first=True), x[order]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("batch_first", [True, False])
def test_packed_sequences_have_the_mask_of_padded_ones(batch_first, dtype):
    for packed, padded in packings(sample(dtype)):
        got = locked_dropout(packed, 0.3, True, batch_first=batch_first, key=Key(5))
        assert isinstance(got, PackedSequence)
        unpacked, lengths = pad_packed_sequence(got, batch_first=True)
        expected = reference(padded, 0.3, Key(5))
        for i, n in enumerate(lengths.tolist()):
            assert torch.equal(unpacked[i, :n], expected[i, :n])
        assert got.data.shape == packed.data.shape
        assert torch.equal(got.batch_sizes, packed.batch_sizes)
        for name in ("sorted_indices", "unsorted_indices"):
            assert getattr(got, name) is getattr(packed, name)


def test_packed_sequences_go_through_an_lstm_and_back():
    x = sample().requires_grad_()
    packed = pack_padded_sequence(x, torch.tensor(LENGTHS), batch_first=True, enforce_sorted=False)
    lstm = torch.nn.LSTM(11, 3)
    out, _ = lstm(locked_dropout(packed, 0.5, True, batch_first=True, key=Key(1)))
    out.data.sum().backward()
    mask = torch.from_numpy(thinned.keep_mask((5, 11), 0.5, key=Key(1)))
    inside = torch.arange(7) < torch.tensor(LENGTHS)[:, None]
    assert torch.equal(x.grad != 0, mask[:, None, :] & inside[:, :, None])


def test_a_packed_sequence_that_nothing_happens_to_is_itself():
    packed, _ = next(packings(sample()))
    assert locked_dropout(packed, 0.0, True, batch_first=True) is packed
    assert locked_dropout(packed, 0.5, False, batch_first=True) is packed
    gone = locked_dropout(packed, 1.0, True, batch_first=True)
    assert not gone.data.view(torch.int32).any()


def test_what_is_saved_for_backward_does_not_grow_with_a_packed_input():
    sizes = []
    for features in (1, 1000):
        total = 0

        def pack(tensor):
            nonlocal total
            total += tensor.nbytes
            return tensor

        x = torch.ones(5, 7, features, requires_grad=True)
        packed = pack_padded_sequence(x, torch.tensor(LENGTHS), batch_first=True, enforce_sorted=False)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            locked_dropout(packed, 0.5, True, batch_first=True)
        sizes.append(total)
    assert sizes[0] == sizes[1] < 500


def test_the_gradient_has_the_mask_of_the_forward_pass():
    x = torch.ones(5, 7, 11, requires_grad=True)
    for batch_first in (True, False):
        y = locked_dropout(x, 0.5, True, batch_first=batch_first)
        (grad,) = torch.autograd.grad(y, x, torch.ones_like(y).masked_fill_(y.detach() == 0, math.nan))
        assert torch.equal(grad, y.detach())
        over = 1 if batch_first else 0
        assert torch.equal(grad, grad.narrow(over, 0, 1).expand_as(grad))
        assert len(grad.select(over, 0).unique(dim=0)) > 1


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("shape", [(), (4,)], ids=str)
def test_other_ranks_are_refused(shape, batch_first, training):
    layout = r"\(B, T, F\)" if batch_first else r"\(T, B, F\)"
    with pytest.raises(ValueError, match=rf"locked_dropout takes {layout}, .*use Dropout\(noise_shape=…\)"):
        locked_dropout(torch.ones(shape), 0.5, training, batch_first=batch_first)


@pytest.mark.parametrize("batch_first", [True, False])
def test_features_may_have_dimensions_of_their_own(batch_first):
    """As fastai's RNNDropout takes them."""
    x = torch.randn(2, 3, 4, 5, 6)
    y = locked_dropout(x, 0.5, True, batch_first=batch_first, key=Key(3))
    flat = locked_dropout(x.flatten(2), 0.5, True, batch_first=batch_first, key=Key(3))
    assert torch.equal(y.flatten(2), flat)


@pytest.mark.parametrize(
    "make", [lambda **given: locked_dropout(sample(), 0.5, True, **given), nn.LockedDropout]
)
def test_where_the_batch_stands_has_to_be_said(make):
    with pytest.raises(TypeError, match="batch_first"):
        make()
    with pytest.raises(TypeError, match="batch_first must be True or False, got 1: True for"):
        make(batch_first=1)
