"""Breaks of kernels in Triton."""

from __future__ import annotations

from breaks import of

BREAKS = of(
    "src/thinned/torch",
    [
        (
            "kept where u is above D only, in Triton's kernels",
            "_triton/_bits.py",
            "(halfword_at(position, seed, stream, 1) >= low)",
            "(halfword_at(position, seed, stream, 1) > low)",
            "triton/test_kernels.py::test_interpreted[kernels]",
        ),
        (
            "Triton's order of halfwords",
            "_triton/_bits.py",
            "tl.join(tl.join(w0, w2), tl.join(w1, w3))",
            "tl.join(tl.join(w0, w1), tl.join(w2, w3))",
            "triton/test_kernels.py::test_interpreted[kernels]",
        ),
        (
            "Triton's ties",
            "_triton/_bits.py",
            "(low_word & 0xFFFF).to(tl.int32) >= low",
            "(low_word & 0xFFFF).to(tl.int32) >= low + 0xFFFF",
            "triton/test_kernels.py::test_interpreted[kernels]",
        ),
        (
            "where a row of Triton's begins",
            "_triton/_dropout.py",
            "        position += base\n        program %= chunks",
            "        program %= chunks",
            "triton/test_kernels.py::test_interpreted[kernels]",
        ),
        (
            "where a tile of Triton's attention stands, backward",
            "_triton/_attention_keys.py",
            "positions = position + m.to(tl.int64) * position_row",
            "positions = position + (m - m0).to(tl.int64) * position_row",
            "triton/test_kernels.py::test_interpreted[attention]",
        ),
        (
            "ties of Triton's attention",
            "_triton/_tile.py",
            "at_least, _ = _at_least(low_word, low)",
            "at_least, _ = _at_least(low_word, low + 1)",
            "triton/test_kernels.py::test_interpreted[attention]",
        ),
        (
            "which queries a key of Triton's attention serves",
            "_triton/_problems.py",
            "{name: s if name in of_keys else s * each",
            "{name: s if name in of_keys else s",
            "triton/test_kernels.py::test_interpreted[attention]",
        ),
        (
            "the low half of Triton's deviates",
            "_triton/_normal.py",
            "_halves(blocks, seed, stream, purpose + 1, calls)",
            "_halves(blocks, seed, stream, purpose, calls)",
            "triton/test_kernels.py::test_interpreted[kernels]",
        ),
        (
            "the tails of Triton's deviates",
            "_triton/_normal.py",
            "tl.where(q < 0.0, -tail, tail)",
            "tl.where(q <= 1.0, -tail, tail)",
            "triton/test_kernels.py::test_interpreted[kernels]",
        ),
        (
            "where a wide row's span of Triton's norm stands, backward",
            "_triton/_norm_wide.py",
            "            d = dropped(\n                d,\n                base + at + begin,",
            "            d = dropped(\n                d,\n                base + at,",
            "triton/test_kernels.py::test_interpreted[kernels]",
        ),
        (
            "which rows Triton sums for wide weights",
            "_triton/_norm_wide.py",
            "row = part * ROWS + i",
            "row = part",
            "triton/test_kernels.py::test_interpreted[kernels]",
        ),
        (
            "whether rows of Triton's tiles begin with a block",
            "_triton/_launch.py",
            "aligned = not base % 8 and not along[3] % 8",
            "aligned = not base % 8",
            "triton/test_kernels.py::test_interpreted[kernels]",
        ),
        (
            "where a tile of Triton's stands along memory",
            "_triton/_turned.py",
            "along.to(tl.int64)[None, :] * position_along",
            "(along - left * COLUMNS).to(tl.int64)[None, :] * position_along",
            "triton/test_kernels.py::test_interpreted[kernels]",
        ),
        (
            "whose turn a key of Triton's numbers is",
            "_triton/_numbers.py",
            "tl.load(key + key_at + 1, mask=inside, other=0)",
            "tl.load(key + 1 + key_at * 0, mask=inside, other=0)",
            "triton/test_kernels.py::test_interpreted[kernels]",
        ),
        (
            "the product that torch's operators and Inductor's loop make",
            "_plain.py",
            "return (product >> 32) + a, product & contract.WORD",
            "return product >> 32, product & contract.WORD",
            "torch/test_inductor.py::test_what_an_operator_is_taken_apart_into_has_its_bits",
        ),
    ],
)
