"""Whole channels: every rank that is documented, and no other."""

import math

import numpy as np
import pytest
import torch

import thinned
from thinned import Key
from thinned.torch import keyed, nn
from thinned.torch.functional import dropout1d, dropout2d, dropout3d

VERBS = {1: dropout1d, 2: dropout2d, 3: dropout3d}
LAYERS = {1: nn.Dropout1d, 2: nn.Dropout2d, 3: nn.Dropout3d}
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
CASES = [(1, False), (1, True), (2, True), (3, False), (3, True)]


def shape_of(axes, batched):
    return ((4,) if batched else ()) + (6,) + (5, 3, 2)[:axes]


def sample(axes, batched, dtype=torch.float32):
    generator = torch.Generator().manual_seed(axes)
    return torch.randn(shape_of(axes, batched), generator=generator).to(dtype)


def reference(x, axes, p, key):
    """The mask of the leading dimensions by NumPy, then one multiplication."""
    lead = tuple(x.shape[: x.dim() - axes])
    mask = torch.from_numpy(thinned.keep_mask(lead, p, key=key)).reshape(*lead, *(1,) * axes)
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    value = (x.to(wide) * torch.tensor(thinned.scale(p), dtype=wide)).to(x.dtype)
    return torch.where(mask, value, torch.zeros((), dtype=x.dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("axes", "batched"), CASES)
def test_outputs_equal_the_reference(axes, batched, dtype):
    x = sample(axes, batched, dtype)
    for p in (0.1, 0.5):
        expected = reference(x, axes, p, Key(7, 1))
        assert torch.equal(VERBS[axes](x, p, True, key=Key(7, 1)), expected)
        layer = keyed(LAYERS[axes](p), Key(7, 1))
        assert torch.equal(layer(x), reference(x, axes, p, layer.key.fold(0)))
        assert torch.equal(VERBS[axes](x.clone(), p, True, True, key=Key(7, 1)), expected)


@pytest.mark.parametrize(("axes", "batched"), CASES)
def test_a_channel_lives_or_dies_as_a_whole_and_so_does_its_gradient(axes, batched):
    x = torch.ones((8, 40, 5, 3, 2)[not batched : 2 + axes]).requires_grad_()
    y = VERBS[axes](x, 0.4, True)
    y.backward(torch.full_like(y, math.nan).masked_fill_(y.detach() != 0, 1.0))
    channels = y.detach().flatten(-axes)
    assert torch.equal(channels, channels[..., :1].expand_as(channels))
    assert set(channels.unique().tolist()) == {0.0, float(np.float32(thinned.scale(0.4)))}
    assert torch.equal(x.grad, y.detach())


def test_an_unbatched_input_is_a_batch_of_one():
    for axes in (1, 3):
        x = sample(axes, False)
        batch = VERBS[axes](x.unsqueeze(0), 0.5, True, key=Key(2))
        assert torch.equal(VERBS[axes](x, 0.5, True, key=Key(2)), batch[0])


def test_channels_last_is_kept():
    x = sample(2, True).to(memory_format=torch.channels_last)
    y = dropout2d(x, 0.5, True, key=Key(1))
    assert y.stride() == x.stride()
    assert torch.equal(y, dropout2d(x.contiguous(), 0.5, True, key=Key(1)))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("rank", range(7))
@pytest.mark.parametrize("axes", VERBS)
def test_other_ranks_are_refused(axes, rank, training):
    x = torch.ones((2,) * rank)
    if rank in (axes + 1, axes + 2) and (axes, rank) != (2, 3):
        assert VERBS[axes](x, 0.5, training).shape == x.shape
        return
    message = rf"dropout{axes}d takes .*\(N, C, .*\), got shape \({', '.join('2' * rank)},?\): use "
    with pytest.raises(ValueError, match=message):
        VERBS[axes](x, 0.5, training)
    with pytest.raises(ValueError, match=message):
        LAYERS[axes]().train(training)(x)


def test_the_error_names_the_layers_that_fit():
    with pytest.raises(ValueError, match=r"use Dropout \(elements\) or Dropout1d \(C, L\)$"):
        dropout2d(torch.ones(2, 3), 0.5, True)
    with pytest.raises(ValueError, match=r"or Dropout2d \(N, C, H, W\) or Dropout3d \(C, D, H, W\)$"):
        dropout1d(torch.ones(2, 3, 4, 5), 0.5, True)
    with pytest.raises(ValueError, match=r"or Dropout1d \(N, C, L\) or Dropout2d of input.unsqueeze\(0\)"):
        dropout3d(torch.ones(2, 3, 4), 0.5, True)
    with pytest.raises(ValueError, match=r"or Dropout1d \(N, C, L\) or Dropout2d of input.unsqueeze\(0\)"):
        dropout2d(torch.ones(2, 3, 4), 0.5, True)
    with pytest.raises(ValueError, match=r"use Dropout \(elements\)$"):
        dropout3d(torch.ones(2), 0.5, True)
