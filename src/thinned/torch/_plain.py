"""The contract in torch's own operators: the same bits on any device that has no kernel here.

A 32-bit word travels in an int64; the product of two of them wraps as the contract's 64-bit product does.
"""

from __future__ import annotations

import torch
from torch import Tensor

from thinned import contract
from thinned._position import row_major
from thinned.contract import Key
from thinned.torch._native import Pass

_CHUNK = 1 << 22  # positions at a time: bounds the memory of the intermediate words


def dropout(input: Tensor, what: Pass) -> Tensor:
    """A new tensor: kept → input · factor, dropped → +0.0."""
    seed, stream, drop, factor, base, strides = what
    shape = tuple(input.shape)
    kept = keep_mask(shape, Key(seed, stream), drop, base, strides or row_major(shape), input.device)
    if input.dtype == torch.float64:
        value = input * factor
    else:
        wide = torch.tensor(factor, dtype=torch.float32, device=input.device)
        value = (input.float() * wide).to(input.dtype)
    out = torch.empty_like(input)
    return out.copy_(torch.where(kept, value, torch.zeros((), dtype=input.dtype, device=input.device)))


def keep_mask(
    shape: tuple[int, ...], key: Key, drop: int, base: int, strides: tuple[int, ...], device: torch.device
) -> Tensor:
    """True where kept, for any strides in positions (0 where shared)."""
    if drop in (0, 2**32) or 0 in shape:
        return torch.full(shape, drop == 0, dtype=torch.bool, device=device)
    position = torch.full((1,) * len(shape), base, dtype=torch.int64, device=device)
    for axis, (size, stride) in enumerate(zip(shape, strides, strict=True)):
        steps = torch.arange(size if stride else 1, dtype=torch.int64, device=device) * stride
        position = position + steps.reshape((-1,) + (1,) * (len(shape) - axis - 1))
    kept = [_keep(part, key, drop) for part in position.reshape(-1).split(_CHUNK)]
    return torch.cat(kept).reshape(position.shape).expand(shape)


def _keep(position: Tensor, key: Key, drop: int) -> Tensor:
    high, low = (_halfword(position, key, t) for t in (contract.PURPOSE_HIGH, contract.PURPOSE_LOW))
    return (high << 16 | low) >= drop


def _halfword(position: Tensor, key: Key, purpose: int) -> Tensor:
    block = position >> 3
    words = torch.stack(
        _philox(
            block & contract.WORD,
            (block >> 32) + (purpose << 28),
            torch.full_like(block, key.stream & contract.WORD),
            torch.full_like(block, key.stream >> 32),
            (key.seed & contract.WORD, key.seed >> 32),
        )
    )
    word = words.gather(0, ((position & 7) >> 1).unsqueeze(0)).squeeze(0)
    return (word >> (16 * (position & 1))) & 0xFFFF


def _philox(c0: Tensor, c1: Tensor, c2: Tensor, c3: Tensor, key: tuple[int, int]) -> list[Tensor]:
    k0, k1 = key
    m0, m1 = contract.MULTIPLIERS
    for _ in range(contract.ROUNDS):
        product0, product1 = c0 * m0, c2 * m1
        c0, c1, c2, c3 = (
            (product1 >> 32 & contract.WORD) ^ c1 ^ k0,
            product1 & contract.WORD,
            (product0 >> 32 & contract.WORD) ^ c3 ^ k1,
            product0 & contract.WORD,
        )
        k0 = (k0 + contract.KEY_INCREMENTS[0]) & contract.WORD
        k1 = (k1 + contract.KEY_INCREMENTS[1]) & contract.WORD
    return [c0, c1, c2, c3]
