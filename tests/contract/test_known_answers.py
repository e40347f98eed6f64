"""CONTRACT.md, section 7, line by line, against the reference."""

import hashlib

import numpy as np
import pytest

from thinned import Key, contract, scale, threshold


@pytest.mark.parametrize(
    ("counter", "key", "output"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox(counter, key, output):
    assert tuple(int(word) for word in contract.philox(counter, key)) == output


def test_thresholds_and_scale():
    assert threshold(0.1) == 429496730
    assert threshold(0.3) == 1288490189
    assert threshold(0.5) == 2147483648
    assert scale(0.1) == 1.1111111112260892


@pytest.mark.parametrize(
    ("purpose", "halfwords"),
    [
        (0, "e8d5 6627 c58d e169 ac4c bc57 dbd8 9b00 cca4 f8e4"),
        (1, "281e 11ab 272a ebb2 5ddb 9e62 51c6 9a4e e53e a69b"),
    ],
)
def test_halfwords(purpose, halfwords):
    got = contract.halfword(Key(0, 0), np.arange(10), purpose)
    assert " ".join(f"{h:04x}" for h in got) == halfwords


def test_halfwords_are_the_output_viewed_as_little_endian_uint16():
    key = Key(2**63 + 5, 2**40 + 9)
    words = np.stack(contract.block_words(key, np.arange(4, dtype=np.uint64), 0), axis=1)
    view = words.astype("<u4").view("<u2").reshape(-1)
    np.testing.assert_array_equal(contract.halfword(key, np.arange(32), 0), view)


# Masks: a shape, p, key and where it begins, with the digest or the bits the contract prints.
MASKS = [
    ((1000,), 0.1, Key(42, 7), 918, "0a115cad0721bf632c29a01cb034ba99fd13916e7913baf343fd90fd33edf0db"),
    (
        (65536,),
        0.3,
        Key(2**63 + 11, 2**40 + 3),
        45905,
        "3b8e885e75b7ef6513bc2c1d0b1cec9b26fcfb5dd44fc8886605245cb18c79dd",
    ),
    ((257, 3, 5), 0.001, Key(1, 0), 3853, "ff2138fcb8f99d3e7c7ef7ddb0dc26ee6b696937b932dd9ff56c37aa6a64c90a"),
]


@pytest.mark.parametrize(("shape", "p", "key", "kept", "digest"), MASKS)
def test_digests_of_the_reference(shape, p, key, kept, digest):
    mask = contract.keep(key, np.arange(np.prod(shape)), threshold(p))
    assert int(mask.sum()) == kept
    assert hashlib.sha256(mask.astype(np.uint8).tobytes()).hexdigest() == digest


def test_five_by_five():
    mask = contract.keep(Key(0, 0), np.arange(25).reshape(5, 5), threshold(0.5))
    assert [" ".join("".join(str(int(k)) for k in row) for row in mask)] == ["10111 11111 00011 01000 00001"]


def test_across_two_to_the_thirty_five():
    mask = contract.keep(Key(9, 9), 2**35 - 5 + np.arange(64), threshold(0.25))
    bits = "".join(str(int(k)) for k in mask)
    assert bits == "1111110111001111111111001111111111111111101011111111111111101111"


def test_ties():
    positions = np.array([28166, 43346, 166986, 174685, 206461, 245668, 614574])
    assert (contract.halfword(Key(5, 5), positions, 0) == 6553).all()
    np.testing.assert_array_equal(
        contract.keep(Key(5, 5), positions, threshold(0.1)), [False, False, False, False, True, False, True]
    )


def test_folds():
    assert Key(1, 0).fold(0).stream == 10219199065749188407
    assert Key(1, 0).fold(123456789012).stream == 654711503726834118
    assert Key(1, 2).fold("encoder.0.dropout").stream == 12295199662361264698
    assert Key(1, 2).fold("encoder.0.dropout").seed == 1
