"""A key becomes an int64 tensor here: seed and stream in two's complement."""

from __future__ import annotations

import torch
from torch import Tensor

from thinned._arguments import signed
from thinned.contract import Key
from thinned.torch import _capture

_WORD = 2**64 - 1


def key_to_tensor(key: Key) -> Tensor:
    """An int64 tensor of two elements, on the CPU whatever device a context asks for."""
    return torch.tensor([signed(key.seed), signed(key.stream)], dtype=torch.int64, device="cpu")


def words_of(key: Tensor) -> tuple[int, int]:
    """Seed and stream of such a tensor."""
    _capture.check(key, "key", key, "pass a key on the input's device, which its kernel reads")
    seed, stream = key.tolist()
    return seed & _WORD, stream & _WORD
