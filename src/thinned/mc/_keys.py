"""The keys of all faces, for many samples and inputs at once: `key.fold(k).fold(i).fold(n)`."""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np

from thinned._arguments import check_key
from thinned.contract import PURPOSE_FOLD, WORD, Key, UInt64s, philox


def given(key: Any) -> Key:
    """The key, or a fresh one of the system's entropy: no framework's generator moves."""
    return Key(secrets.randbits(64)) if key is None else check_key(key)


def fold(seed: int, streams: Any, data: Any) -> UInt64s:
    """The streams that `Key.fold` gives, for streams and numbers that broadcast together."""
    stream, number = np.asarray(streams, np.uint64), np.asarray(data, np.uint64)
    counter = (number & WORD, (number >> 32) + (PURPOSE_FOLD << 28), stream & WORD, stream >> 32)
    w0, w1, _, _ = philox(counter, (seed & WORD, seed >> 32))
    folded: UInt64s = w0 | w1 << 32
    return folded


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
