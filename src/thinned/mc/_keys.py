"""Many keys are computed at once here, `key.fold(k).fold(i).fold(n)`, for all front ends."""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np

from thinned import _kernel
from thinned._arguments import check_key
from thinned.contract import WORD, Key, UInt64s


def given(key: Any) -> Key:
    """The key, or a fresh one of the system's entropy: no framework's generator moves."""
    return Key(secrets.randbits(64)) if key is None else check_key(key)


def fold(seed: int, streams: Any, data: Any) -> UInt64s:
    """The streams that `Key.fold` gives, for streams and numbers that broadcast together."""
    stream, number = np.broadcast_arrays(np.asarray(streams, np.uint64), np.asarray(data, np.uint64))
    keys = np.stack([np.full(stream.shape, seed, np.uint64), stream], axis=-1)
    numbers, folded = np.ascontiguousarray(number), np.empty_like(keys)
    of_keys, of_numbers, of_folded = map(_kernel.address, (keys, numbers, folded))
    _kernel.fold_many(of_keys, of_numbers, of_folded, numbers.size)
    return folded[..., 1].copy()


def of_examples(key: Key, samples: range, inputs: range, shared: bool) -> UInt64s:
    """Streams of samples and inputs before a site is folded in; all inputs are one where a sample is shared.

    Returns:
        uint64, shape (samples, inputs), or (samples, 1).
    """
    of_samples = fold(key.seed, key.stream, np.arange(samples.start, samples.stop, dtype=np.uint64))
    if shared:
        return of_samples[:, np.newaxis]
    return fold(key.seed, of_samples[:, np.newaxis], np.arange(inputs.start, inputs.stop, dtype=np.uint64))


def words(seed: int, streams: UInt64s) -> Any:
    """Keys as `thinned.jax` has them: uint32, shape (…, 4), low words first."""
    both = np.stack(np.broadcast_arrays(np.uint64(seed), streams), axis=-1)
    halves = np.stack([both & np.uint64(WORD), both >> np.uint64(32)], axis=-1)
    return halves.astype(np.uint32).reshape(*streams.shape, 4)


def pairs(seed: int, streams: UInt64s) -> Any:
    """Keys as `thinned.torch` and `thinned.tensorflow` have them: int64, shape (…, 2), two's complement."""
    return np.stack(np.broadcast_arrays(np.uint64(seed), streams), axis=-1).view(np.int64)
