"""A key is a tensor here; the operators `thinned::draw_key` and `thinned::fold` make them.

A key travels through graphs as an int64 tensor (seed, stream), so that no graph depends on its value.
Dimensions in front of that one hold many keys.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import torch
from torch import Tensor

from thinned import _kernel
from thinned._arguments import check_key
from thinned.contract import Key, fold_number
from thinned.torch import _compat, _cuda, _inductor, _operands
from thinned.torch._key_tensor import key_to_tensor as key_to_tensor
from thinned.torch._key_tensor import words_of as words_of
from thinned.torch._placement import traced_by_jit

_library = torch.library.Library("thinned", "FRAGMENT")

# `distinct` is an empty tensor, made for the call. AOTAutograd takes two calls with equal arguments for one
# expression and merges them, whatever their tags say: two layers would share a mask. It never merges two
# `empty`. The tag makes it replay the draw where a checkpoint recomputes; an operator that writes to its
# argument would lose it.
_library.define(
    "draw_key(Tensor distinct, Generator? generator=None) -> Tensor",
    tags=(torch.Tag.nondeterministic_seeded,),
)
_library.define("fold(Tensor key, Tensor data) -> Tensor")


def check(key: Any, name: str = "key") -> Key | Tensor:
    """A key, or the tensor of one."""
    if not isinstance(key, Tensor):
        return check_key(key, name)
    if key.dtype != torch.int64 or key.shape != (2,):
        raise TypeError(
            f"{name} as a tensor must be int64 of shape (2,), its seed and stream, got {key.dtype} of shape "
            f"{tuple(key.shape)}"
        )
    return key


def check_source(key: Any, generator: torch.Generator | None, name: str = "key") -> Key | Tensor | None:
    """The key if there is one, and then no generator to draw from."""
    if key is None:
        return None
    checked = check(key, name)
    if generator is not None:
        raise TypeError(f"pass {name} or generator, not both")
    return checked


def as_tensor(key: Key | Tensor | None, generator: torch.Generator | None = None) -> Tensor:
    """The key as a tensor; fresh bits if there is none."""
    if key is None:
        return draw(generator)
    return key if isinstance(key, Tensor) else key_to_tensor(key)


class _Room(threading.local):
    """A place of each thread's own to draw to: a fresh one would take as long as the draw."""

    def __init__(self) -> None:
        with torch.inference_mode(False):
            self.bits = torch.empty(2, dtype=torch.int64, device="cpu")
        self.words = (ctypes.c_uint64 * 2).from_address(self.bits.data_ptr())


_room = _Room()


def as_words(key: Key | Tensor | None, generator: torch.Generator | None = None) -> tuple[int, int]:
    """Seed and stream of the key, or fresh ones if there is none, without the dispatcher."""
    if isinstance(key, Key):
        return key.seed, key.stream
    if key is not None:
        if key.is_meta:
            raise ValueError("key is on the meta device and has no value: make it on the CPU")
        return words_of(key)
    if generator is None:
        _room.bits.random_(-(2**63), None)
        seed, stream = _room.words
        return seed, stream
    if generator.device.type == "cpu":  # 2 µs; by way of `_draw` 6
        return words_of(_room.bits.random_(-(2**63), None, generator=generator))
    return words_of(_draw(torch.empty(2, dtype=torch.int64, device="cpu"), generator))


def draw(generator: torch.Generator | None = None) -> Tensor:
    """128 fresh bits from the generator, on its device; torch's default CPU generator if none is given."""
    device = "cpu" if generator is None else generator.device
    if traced_by_jit():
        # TorchScript runs an operator of ours once, since its arguments never change, and keeps the result:
        # of torch's own it knows which are random.
        return _draw(torch.empty(2, dtype=torch.int64, device=device), generator)
    bits: Tensor = torch.ops.thinned.draw_key(torch.empty(2, dtype=torch.int64, device=device), generator)
    return bits


def folded(key: Key | Tensor, data: Tensor | int) -> Key | Tensor:
    """`key.fold(data)` of either kind of key; an integer into a Key by the kernel, in 1 µs instead of 8."""
    if isinstance(key, Tensor):
        return fold(key, data)
    return Key(key.seed, _kernel.fold(key.seed, key.stream, fold_number(int(data))))


def fold(key: Tensor, data: Tensor | int) -> Tensor:
    """`Key.fold` of tensors: keys of shape (…, 2) with integers of shape (…)."""
    if not isinstance(data, Tensor):
        data = torch.full((), data, dtype=torch.int64, device=key.device)
    result: Tensor = torch.ops.thinned.fold(key, data)
    return result


def _draw(distinct: Tensor, generator: torch.Generator | None = None) -> Tensor:
    device = distinct.device if generator is None else generator.device
    bits = torch.empty(2, dtype=torch.int64, device=device).random_(-(2**63), None, generator=generator)
    return bits.to(distinct.device)


def _draw_fake(distinct: Tensor, generator: torch.Generator | None = None) -> Tensor:
    _inductor.tell()
    return torch.empty_like(distinct)


def _draw_vmap(distinct: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draws one key for all. Where each is to have its own, `vmap_with_keys` folds in the index."""
    vmap = _compat.interpreter()
    if vmap.randomness() == "error":
        raise RuntimeError(
            "vmap: called random operation while in randomness error mode: dropout draws a key; pass "
            'randomness="same" to vmap for one mask, "different" for one each, or pass key='
        )
    with _compat.without_keys(_compat.vmap_mode):
        bits: Tensor = torch.ops.thinned.draw_key(distinct, generator)
    return bits


def vmap_with_keys(library: torch.library.Library, name: str, at: int = 1) -> None:
    """Honour vmap's `randomness` in an operator `name(Tensor input, Tensor key, …)`, or with key at `at`.

    A key is a pure function's argument: all examples share its mask, with "same" and with "error". Under
    "different" each has that of the key folded by its index, whether or not anything else differs: a gradient
    that is the same for all examples has to meet the masks of the forward pass.
    """
    operator = getattr(getattr(torch.ops, library.ns), name).default

    def call(*args: Any) -> Any:
        vmap = _compat.interpreter()
        with _compat.without_keys(_compat.vmap_mode):
            if vmap.randomness() == "different":
                key = _one_each(args[at], vmap.batch_size(), vmap.level())
                args = (*args[:at], key, *args[at + 1 :])
            return operator(*args)

    library.impl(name, call, "FuncTorchVmapMode")


def _one_each(key: Tensor, size: int, level: int) -> Tensor:
    if _compat.is_batched(key) and _compat.level_of(key) == level:
        return key
    index = torch.arange(size, device="cpu").reshape(-1, *(1,) * (key.dim() - 1))
    each: Tensor = _compat.add_batch_dim(fold(key.unsqueeze(0), index), 0, level)
    return each


def _fold(key: Tensor, data: Tensor) -> Tensor:
    _check_fold(key, data)
    # torch's function is Python, and takes as long as the folds of a small batch.
    one = data.numel() == 1 and data.dim() < key.dim()
    many = key.shape[:-1] if one else torch.broadcast_shapes(key.shape[:-1], data.shape)
    if _cuda.serves(key):
        from thinned.torch._triton import _launch

        return _launch.fold(key.expand(*many, 2), data.to(key.device).expand(many))
    keys = key.cpu().expand(*many, 2).contiguous()
    given = data.cpu().to(torch.int64)
    least, most = (int(given),) * 2 if one else _range(given)
    numbers = given.expand(many).contiguous()
    if not 0 <= least <= most < 2**60:
        raise ValueError(f"data must be in [0, 2^60), got {numbers.tolist()}")
    folded = torch.empty_like(keys)
    _kernel.fold_many(keys.data_ptr(), numbers.data_ptr(), folded.data_ptr(), numbers.numel())
    return folded.to(key.device)


def _range(numbers: Tensor) -> tuple[int, int]:
    return (int(numbers.min()), int(numbers.max())) if numbers.numel() else (0, 0)


def _check_fold(key: Tensor, data: Tensor) -> None:
    if key.dtype != torch.int64 or not key.dim() or key.shape[-1] != 2:
        raise TypeError(f"key must be int64 of shape (…, 2), got {key.dtype} of shape {tuple(key.shape)}")
    if data.is_floating_point() or data.is_complex() or data.dtype == torch.bool:
        raise TypeError(f"data must be integers, got {data.dtype}")
    _operands.has_values("thinned::fold", key, data=data)


def _fold_fake(key: Tensor, data: Tensor) -> Tensor:
    _inductor.tell()
    _check_fold(key, data)
    return key.new_empty((*torch.broadcast_shapes(key.shape[:-1], data.shape), 2))


def _fold_vmap(info: Any, in_dims: Any, key: Tensor, data: Tensor) -> tuple[Tensor, int]:
    rank = max(key.dim() - 1 - (in_dims[0] is not None), data.dim() - (in_dims[1] is not None))
    key = key.unsqueeze(0) if in_dims[0] is None else key.movedim(in_dims[0], 0)
    data = data.unsqueeze(0) if in_dims[1] is None else data.movedim(in_dims[1], 0)
    key = key.reshape(key.shape[0], *(1,) * (rank + 2 - key.dim()), *key.shape[1:])
    data = data.reshape(data.shape[0], *(1,) * (rank + 1 - data.dim()), *data.shape[1:])
    return torch.ops.thinned.fold(key, data), 0


_library.impl("draw_key", _draw, "CPU")
_library.impl("draw_key", _draw, "CUDA")
_library.impl("draw_key", _draw_vmap, "FuncTorchVmapMode")
torch.library.register_fake("thinned::draw_key", _draw_fake, lib=_library)
_inductor.tell_partitioner(_library, "draw_key")
_library.impl("fold", _fold, "CompositeExplicitAutograd")
torch.library.register_fake("thinned::fold", _fold_fake, lib=_library)
torch.library.register_vmap("thinned::fold", _fold_vmap, lib=_library)
