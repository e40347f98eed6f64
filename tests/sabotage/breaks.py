"""What is exchanged for what in which file, and the tests of the quick tier that have to see it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Break(NamedTuple):
    """One text of a file exchanged for another; `tests` are arguments of pytest, below tests/."""

    name: str
    file: str
    text: str
    instead: str
    tests: tuple[str, ...]

    @property
    def native(self) -> bool:
        """Whether the kernel has to be compiled again."""
        return self.file.startswith("native/")

    def applied(self, text: str) -> str:
        """The file's text with the break in it.

        Raises:
            LookupError: where the file does not have the text just once.
        """
        if text.count(self.text) != 1:
            raise LookupError(
                f"break {self.name!r}: {self.file} has {self.text!r} {text.count(self.text)} times, not "
                "once: say it anew in tests/sabotage"
            )
        return text.replace(self.text, self.instead)


def of(folder: str, listed: list[tuple[str, str, str, str, str]]) -> list[Break]:
    """Breaks of a folder: name, file, text, text instead, and the tests in one string."""
    return [Break(n, f"{folder}/{f}", old, new, tuple(tests.split())) for n, f, old, new, tests in listed]


CONTRACT = "contract/test_known_answers.py"
DIGESTS = "kernel/test_paths.py::test_known_digests"

NATIVE = of(
    "native",
    [
        (
            "lane order of the portable path",
            "isa_portable.cpp",
            "static V counters(int chain) { return uint64_t(chain); }",
            "static V counters(int chain) { return uint64_t(chain ^ 1); }",
            DIGESTS,
        ),
        (
            "lane order of AVX2",
            "isa_avx2.cpp",
            "_mm256_setr_epi64x(0, 1, 2, 3)",
            "_mm256_setr_epi64x(1, 0, 2, 3)",
            DIGESTS,
        ),
        (
            "ties",
            "groups.h",
            "tie_(S::halves(uint16_t(d.high)))",
            "tie_(S::halves(uint16_t(d.high + 1)))",
            "kernel/test_paths.py",
        ),
        (
            "the limit where the high halfword decides",
            "groups.h",
            "uint16_t(d.low ? d.high : d.high - 1)",
            "uint16_t(d.high)",
            "kernel/test_paths.py",
        ),
        (
            "the upper counter word",
            "groups.h",
            "    upper(block >> 32);\n    // A copy",
            "    upper(0);\n    // A copy",
            "kernel/test_paths.py",
        ),
        (
            "groups that cross an upper counter word",
            "groups.h",
            "if (uint32_t(block) > UINT32_MAX - uint32_t(kBlocks - 1))",
            "if (false)",
            "kernel/test_paths.py",
        ),
        (
            "halfword order in the exact rule",
            "contract.h",
            "(16 * (k & 1))",
            "(16 * (1 - (k & 1)))",
            "kernel/test_paths.py",
        ),
        (
            "kept where u is above D only, in the exact rule",
            "contract.h",
            "keep[j] = u >= ",
            "keep[j] = u > ",
            "kernel/test_paths.py",
        ),
        (
            "the purpose of a fold",
            "contract.h",
            "make_draw(seed, stream, 0), data, 15)",
            "make_draw(seed, stream, 0), data, 14)",
            "kernel/test_fold.py",
        ),
        (
            "rounding to bfloat16, ties away from even",
            "value.h",
            "(u + 0x7fff + ((u >> 16) & 1)) >> 16",
            "(u + 0x8000) >> 16",
            "kernel/test_add.py::test_numbers_of_every_kind",
        ),
        (
            "rounding to float16, ties away from even",
            "value.h",
            "(r + 0xfff + ((r >> 13) & 1)) >> 13",
            "(r + 0x1000) >> 13",
            "kernel/test_add.py::test_numbers_of_every_kind",
        ),
        (
            "the index of one of many keys",
            "many.cpp",
            "r.keys[2 * row], stream = r.keys[2 * row + 1]",
            "r.keys[row], stream = r.keys[row + 1]",
            "kernel/test_many.py",
        ),
        (
            "the base of many keys",
            "many.cpp",
            "{x, out, base, p.each}",
            "{x, out, 0, p.each}",
            "kernel/test_many.py",
        ),
        (
            "a coefficient of the normal quantile",
            "quantile.h",
            "6.7265770927008700853e+4",
            "6.7265870927008700853e+4",
            "kernel/test_normal.py",
        ),
        (
            "the purposes of noise",
            "noise.h",
            "kNoiseHigh = 2, kNoiseLow = 3",
            "kNoiseHigh = 3, kNoiseLow = 2",
            "kernel/test_normal.py",
        ),
        (
            "strides of noise",
            "normal.cpp",
            "p.base + cursor.position + uint64_t(offset) * p.along.position",
            "p.base + cursor.position + uint64_t(offset)",
            "kernel/test_normal.py",
        ),
        (
            "the share of a thread",
            "layout.cpp",
            "offset = first % along.size;",
            "offset = 0;",
            "kernel/test_paths.py numpy/test_dropout.py",
        ),
        (
            "the steps between positions of a gathered pass",
            "staged.cpp",
            "keep[j] = wide[j * int64_t(step)]",
            "keep[j] = wide[j]",
            "fuzz/test_fuzz.py",
        ),
        (
            "the order in which a tile is turned",
            "tiles.cpp",
            "keep.push_back(keep[j] + i * keep_steps[k]);",
            "keep.push_back(keep[j] + i);",
            "numpy/test_layouts.py",
        ),
        (
            "the floating-point environment of a pass",
            "pool.cpp",
            "    const Ieee arithmetic;  // whoever's thread this is\n",
            "",
            "kernel/test_environment.py",
        ),
        (
            "the key of one of XLA's batch",
            "xla.cpp",
            "words(operands[kKeys]) + 4 * b",
            "words(operands[kKeys])",
            "jax/test_transforms.py",
        ),
        (
            "where XLA's part begins",
            "xla.cpp",
            "(wide(start + 2 * k) + wide(words(operands[kBegins + k])))",
            "(wide(start + 2 * k))",
            "jax/test_mesh.py",
        ),
        (
            "where a row of a tile of attention begins",
            "attention_tile.h",
            "*s.row++ = s.to + before;",
            "*s.row++ = s.to;",
            "torch/test_attention_masks.py::test_the_mask_is_the_contracts",
        ),
        (
            "the mask of a tile of attention, backward",
            "attention_kernel.h",
            "fill(kernels, c, h, t, *b.keeps);",
            "fill(kernels, c, h, {t.i, t.rows, t.j + 8, t.columns}, *b.keeps);",
            "torch/test_attention_masks.py::test_the_mask_is_the_contracts",
        ),
        (
            "the sum of a row of attention where its largest score grows",
            "attention_kernel.h",
            "sum[r] *= shrink;",
            "",
            "torch/test_attention_tiles.py::test_outputs_and_gradients_equal_the_formula_in_float64",
        ),
    ],
)
