"""Cells and their plain loops: what `DropoutWrapper` of torch is held against."""

import numpy as np
import pytest
import torch
import torch._dynamo.testing

import thinned

T, B, F, H = 4, 3, 5, 6
CELLS = {"LSTM": torch.nn.LSTMCell, "GRU": torch.nn.GRUCell, "RNN": torch.nn.RNNCell}
KEEPS = {"input_keep_prob": 0.75, "output_keep_prob": 0.5, "state_keep_prob": 0.625}


def masked(x, keep_prob, key, shared):
    """Inverted dropout by NumPy's mask, one for the whole batch if shared, written out."""
    p = 1 - keep_prob
    shape = (1, *x.shape[1:]) if shared else tuple(x.shape)
    keep = torch.from_numpy(np.broadcast_to(thinned.keep_mask(shape, p, key=key), x.shape).copy())
    return torch.where(keep, x * torch.tensor(thinned.scale(p), dtype=torch.float32), 0.0)


def flat(state):
    return [state] if isinstance(state, torch.Tensor) else list(state)


def same(a, b):
    return all(map(torch.equal, flat(a), flat(b)))


def a_state(kind):
    return tuple(torch.randn(2, B, H).unbind()) if kind == "LSTM" else torch.randn(B, H)


each_kind = pytest.mark.parametrize("kind", CELLS)
both_ways = pytest.mark.parametrize("variational", [False, True])
