"""Recurrent layers, their inputs, and torch's own with NumPy's masks."""

import torch
import torch._dynamo.testing
from torch.nn.utils.rnn import PackedSequence

T, B, F, H = 5, 4, 6, 8
RATES = {"weight_p": 0.5, "input_p": 0.3, "output_p": 0.4}


def flat(result):
    """Every tensor of output and state."""
    if isinstance(result, PackedSequence):
        assert all(t is None or not t.is_floating_point() for t in result[1:])
        return [result.data]
    return [result] if isinstance(result, torch.Tensor) else [t for part in result for t in flat(part)]


def gradients(result, x, module):
    sum((t * torch.linspace(1, 2, t.numel()).view(t.shape)).sum() for t in flat(result)).backward()
    found = [x.grad.clone(), *(w.grad.clone() for w in module.parameters())]
    x.grad = None
    module.zero_grad()
    return found


def same(a, b):
    return all(torch.equal(s, t) for s, t in zip(a, b, strict=True))
