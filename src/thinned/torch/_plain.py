"""The contract is written here in torch's own operators, for devices without a kernel.

A 32-bit word travels in an int64.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from thinned import _philox, contract

_CHUNK = 1 << 22  # positions at a time: bounds the memory of the intermediate words


def dropout(
    input: Tensor, key: tuple[Any, Any], drop: Any, factor: Any, base: int, strides: tuple[int, ...]
) -> Tensor:
    """A new tensor: kept → input · factor, dropped → +0.0.

    Key words, drop threshold and factor are numbers, or tensors that broadcast against
    the input. Strides are in positions, of the input's last dimensions (0 where shared).
    """
    shape = tuple(input.shape)
    kept = keep_mask(shape, key, drop, base, strides, input.device)
    wide = torch.promote_types(input.dtype, torch.float32)
    value = (input.to(wide) * factor).to(input.dtype)
    out = torch.empty_like(input)
    return out.copy_(torch.where(kept, value, torch.zeros((), dtype=input.dtype, device=input.device)))


def keep_mask(
    shape: tuple[int, ...],
    key: tuple[Any, Any],
    drop: Any,
    base: int,
    strides: tuple[int, ...],
    device: torch.device,
) -> Tensor:
    """True where kept."""
    if 0 in shape or (isinstance(drop, int) and drop in (0, contract.WORD + 1)):
        return torch.full(shape, isinstance(drop, int) and drop == 0, dtype=torch.bool, device=device)
    position = positions(shape, base, strides, device)
    return _in_parts(lambda part: keeps(part, key, drop), position, *key, drop).expand(shape)


def normal(
    shape: tuple[int, ...], key: tuple[Any, Any], base: int, strides: tuple[int, ...], device: torch.device
) -> Tensor:
    """Normal deviates in float32, of a shape that broadcasts to this one."""
    position = positions(shape, base, strides, device)
    return _in_parts(lambda part: _normal(part, key), position, *key)


def positions(shape: tuple[int, ...], base: int, strides: tuple[int, ...], device: torch.device) -> Tensor:
    """Positions of the elements, of one size where the stride is 0."""
    position = torch.full((1,) * len(shape), base, dtype=torch.int64, device=device)
    sizes = shape[len(shape) - len(strides) :]
    for axis, (size, stride) in enumerate(zip(sizes, strides, strict=True)):
        steps = torch.arange(size if stride else 1, dtype=torch.int64, device=device) * stride
        position = position + steps.reshape((-1,) + (1,) * (len(sizes) - axis - 1))
    return position


def _in_parts(of: Callable[[Tensor], Tensor], position: Tensor, *arguments: Any) -> Tensor:
    """Apply a function to the positions; where it takes one argument for all of them, part by part."""
    if any(isinstance(one, Tensor) and one.numel() > 1 for one in arguments):
        return of(position)
    parts = [of(part).reshape(-1) for part in position.reshape(-1).split(_CHUNK)]
    return torch.cat(parts).reshape(position.shape)


def _normal(position: Tensor, key: tuple[Any, Any]) -> Tensor:
    high, low = (
        _halfword(position, key, t) for t in (contract.PURPOSE_NOISE_HIGH, contract.PURPOSE_NOISE_LOW)
    )
    z: Tensor = torch.special.ndtri((double(high << 16 | low) + 0.5) / 2.0**32)
    return z.float().to(position.device)


def keeps(position: Any, key: tuple[Any, Any], drop: Any, where: Callable[..., Any] = torch.where) -> Any:
    """True where a position is kept, whatever shape the positions have."""
    return word(position, key, where) >= drop


def word(position: Any, key: tuple[Any, Any], where: Callable[..., Any] = torch.where) -> Any:
    """The 32-bit number u of a position, of which the mask is made."""
    high, low = (_halfword(position, key, t, where) for t in (contract.PURPOSE_HIGH, contract.PURPOSE_LOW))
    return high << 16 | low


def run(base: int, n: int, key: tuple[Tensor, Tensor], device: torch.device) -> Tensor:
    """The numbers u of n neighbouring positions: one call of the generator for eight, both halves at once.

    Seeds and streams are of one shape, that of many keys, which is the result's in front of n.
    """
    skipped, (seed, stream) = base & 7, (word.unsqueeze(-1) for word in key)
    block = torch.arange((n + skipped + 7) // 8, dtype=torch.int64, device=device) + (base >> 3)
    # Made on the device: a copy from the CPU's memory is none that a CUDA graph can capture.
    purposes = torch.arange(contract.PURPOSE_HIGH, contract.PURPOSE_LOW + 1, device=device) << 28
    high = (block >> 32) + purposes.reshape(-1, *(1,) * seed.dim())
    counter = (block & contract.WORD, high, *_words(stream))
    words = _philox.rounds(
        counter, _words(seed), contract.MULTIPLIERS, contract.KEY_INCREMENTS, _product, _low
    )
    halves = torch.stack([half for word in words for half in (word & 0xFFFF, word >> 16)], -1)
    first, second = halves.flatten(-2)[..., skipped : skipped + n]
    number: Tensor = first << 16 | second
    return number


def _halfword(
    position: Any, key: tuple[Any, Any], purpose: int, where: Callable[..., Any] = torch.where
) -> Any:
    block = position >> 3
    seed, stream = key
    counter = (block & contract.WORD, (block >> 32) + (purpose << 28), *_words(stream))
    words = _philox.rounds(
        counter, _words(seed), contract.MULTIPLIERS, contract.KEY_INCREMENTS, _product, _low
    )
    return _philox.halfword(words, position, where, operator.rshift)


def _words(number: Any) -> tuple[Any, Any]:
    """Low and high word of a 64-bit number, or of a tensor of them as two's complement."""
    return number & contract.WORD, (number >> 32) & contract.WORD


def _product(a: Any, b: int) -> tuple[Any, Any]:
    """High and low word. By b − 2^32 no product leaves 63 bits, which in C++ has no meaning."""
    product = a * (b - 2**32)
    return (product >> 32) + a, product & contract.WORD


def _low(number: Any) -> Any:
    return number & contract.WORD


_WITH_FLOAT64 = ("cpu", "cuda", "meta")


def double(small: Tensor) -> Tensor:
    """A tensor in float64: on the CPU where its own device may not know that type, as MPS and XPU do not."""
    return (small if small.device.type in _WITH_FLOAT64 else small.cpu()).double()
