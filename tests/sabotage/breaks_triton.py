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
    ],
)
