"""The kernel's fold against the definition in contract.Key."""

import hashlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from known_answers import FOLDS

from thinned import Key, _kernel

words = st.integers(0, 2**64 - 1)


@pytest.mark.parametrize(("key", "data", "stream"), FOLDS)
def test_known_answers(path, key, data, stream):
    if isinstance(data, str):
        data = int.from_bytes(hashlib.sha256(data.encode()).digest()[:8], "little") >> 4
    assert _kernel.fold(key.seed, key.stream, data) == stream


@given(words, words, st.integers(0, 2**60 - 1))
@example(2**64 - 1, 2**64 - 1, 2**60 - 1)
@example(0, 2**32, 2**32)
def test_any_fold(seed, stream, data):
    expected = Key(seed, stream).fold(data).stream
    before = _kernel.path()
    try:
        for name in _kernel.paths():
            _kernel.select(name)
            assert _kernel.fold(seed, stream, data) == expected, name
    finally:
        _kernel.select(before)
