"""CONTRACT.md, section 7, line by line, against the reference."""

import hashlib

import numpy as np
import pytest
from known_answers import CROSSING, DIGESTS, FOLDS, HALFWORDS, PHILOX, ROWS, TIES

from thinned import Key, contract, scale, threshold


@pytest.mark.parametrize(("counter", "key", "output"), PHILOX)
def test_philox(counter, key, output):
    assert contract.philox(counter, key) == output
    arrays = contract.philox(tuple(np.array([word], dtype=np.uint64) for word in counter), key)
    assert tuple(int(word[0]) for word in arrays) == output


def test_thresholds_and_scale():
    assert threshold(0.1) == 429496730
    assert threshold(0.3) == 1288490189
    assert threshold(0.5) == 2147483648
    assert scale(0.1) == 1.1111111112260892


@pytest.mark.parametrize("purpose", HALFWORDS)
def test_halfwords(purpose):
    got = contract.halfword(Key(0, 0), np.arange(10), purpose)
    assert " ".join(f"{h:04x}" for h in got) == HALFWORDS[purpose]


def test_halfwords_are_the_output_viewed_as_little_endian_uint16():
    key = Key(2**63 + 5, 2**40 + 9)
    words = np.stack(contract.block_words(key, np.arange(4, dtype=np.uint64), 0), axis=1)
    view = words.astype("<u4").view("<u2").reshape(-1)
    np.testing.assert_array_equal(contract.halfword(key, np.arange(32), 0), view)


@pytest.mark.parametrize(("shape", "p", "key", "kept", "digest"), DIGESTS)
def test_digests(shape, p, key, kept, digest):
    mask = contract.keep(key, np.arange(np.prod(shape)), threshold(p))
    assert int(mask.sum()) == kept
    assert hashlib.sha256(mask.astype(np.uint8).tobytes()).hexdigest() == digest


def test_rows():
    mask = contract.keep(Key(0, 0), np.arange(25).reshape(5, 5), threshold(0.5))
    assert " ".join("".join(map(str, row)) for row in mask.astype(int)) == ROWS


def test_across_two_to_the_thirty_five():
    mask = contract.keep(Key(9, 9), 2**35 - 5 + np.arange(64), threshold(0.25))
    assert "".join(map(str, mask.astype(int))) == CROSSING


def test_ties():
    positions = np.array(list(TIES))
    assert (contract.halfword(Key(5, 5), positions, 0) == 6553).all()
    assert contract.keep(Key(5, 5), positions, threshold(0.1)).astype(int).tolist() == list(TIES.values())


@pytest.mark.parametrize(("key", "data", "stream"), FOLDS)
def test_folds(key, data, stream):
    assert key.fold(data) == Key(key.seed, stream)
