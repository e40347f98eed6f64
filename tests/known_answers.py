"""CONTRACT.md, section 7: one file of known answers, for every implementation to be checked against."""

from thinned import Key

# Philox4x32-10: counter, key, output. Published with the generator.
PHILOX = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]

# Key(0, 0), positions 0…9, by purpose.
HALFWORDS = {
    0: "e8d5 6627 c58d e169 ac4c bc57 dbd8 9b00 cca4 f8e4",
    1: "281e 11ab 272a ebb2 5ddb 9e62 51c6 9a4e e53e a69b",
}

# Shape, p, key, how many are kept, and SHA-256 of the mask as uint8 in C order.
DIGESTS = [
    ((1000,), 0.1, Key(42, 7), 918, "0a115cad0721bf632c29a01cb034ba99fd13916e7913baf343fd90fd33edf0db"),
    (
        (65536,),
        0.3,
        Key(2**63 + 11, 2**40 + 3),
        45905,
        "3b8e885e75b7ef6513bc2c1d0b1cec9b26fcfb5dd44fc8886605245cb18c79dd",
    ),
    ((257, 3, 5), 0.001, Key(1), 3853, "ff2138fcb8f99d3e7c7ef7ddb0dc26ee6b696937b932dd9ff56c37aa6a64c90a"),
]

# Shape (5, 5), p 0.5, Key(0, 0), by rows.
ROWS = "10111 11111 00011 01000 00001"

# 64 positions from 2^35 − 5, p 0.25, Key(9, 9).
CROSSING = "1111110111001111111111001111111111111111101011111111111111101111"

# Key(5, 5), p 0.1: positions whose first halfword ties with the threshold's, and whether they are kept.
TIES = {28166: 0, 43346: 0, 166986: 0, 174685: 0, 206461: 1, 245668: 0, 614574: 1}

# Key, what is folded in, and the new stream.
FOLDS = [
    (Key(1, 0), 0, 10219199065749188407),
    (Key(1, 0), 123456789012, 654711503726834118),
    (Key(1, 2), "encoder.0.dropout", 12295199662361264698),
]

# Key(5, 5): position and u(i), the least threshold above which it is dropped. The third ties at p = 0.1.
NUMBERS = {0: 3470270753, 7: 809169029, 28166: 429468494, 2**35 + 3: 2639364913}

# Key, first position, and the normal deviates from there on, to twelve places: computed with an arithmetic of
# forty digits, from an implementation of section 2 that is not the project's.
NORMALS = [
    (
        Key(0, 0),
        0,
        [0.765963697382, -0.975671253377, -1.008414608831, 0.612071250600, 0.584658689875, -0.798438499998],
    ),
    (
        Key(9, 9),
        2**35 - 3,
        [0.639932949828, -0.541035077171, -0.637166066978, -0.265060330936, -0.499972205185, 1.022858660657],
    ),
]

# The 32-bit number of section 6 and its deviate, to twenty digits.
QUANTILES = {
    0: -6.3379577545537892525,
    1: -6.166429517819750247,
    12345: -4.5354227620904280563,
    322122547: -1.4395314704450153116,
    2**31 - 1: -2.9180993729166226723e-10,
    2**31: 2.9180993729166226723e-10,
    2**32 - 1: 6.3379577545537892525,
}
