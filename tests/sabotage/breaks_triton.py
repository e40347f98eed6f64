"""Breaks of kernels in Triton."""

from breaks import of

BREAKS = of(
    "src/thinned/torch",
    """
kept where u is above D only, in Triton's kernels | _triton/_bits.py |
    triton/test_kernels.py::test_interpreted[kernels]
-(halfword_at(position, seed, stream, 1) >= low)
+(halfword_at(position, seed, stream, 1) > low)

Triton's order of halfwords | _triton/_bits.py | triton/test_kernels.py::test_interpreted[kernels]
-tl.join(tl.join(w0, w2), tl.join(w1, w3))
+tl.join(tl.join(w0, w1), tl.join(w2, w3))

Triton's ties | _triton/_bits.py | triton/test_kernels.py::test_interpreted[kernels]
-(low_word & 0xFFFF).to(tl.int32) >= low
+(low_word & 0xFFFF).to(tl.int32) >= low + 0xFFFF

where a row of Triton's begins | _triton/_dropout.py | triton/test_kernels.py::test_interpreted[kernels]
-        position += base
-        program %= chunks
+        program %= chunks

where a tile of Triton's attention stands, backward | _triton/_attention_keys.py |
    triton/test_kernels.py::test_interpreted[attention]
-positions = position + m.to(tl.int64) * position_row
+positions = position + (m - m0).to(tl.int64) * position_row

ties of Triton's attention | _triton/_tile.py | triton/test_kernels.py::test_interpreted[attention]
-at_least, _ = _at_least(low_word, low)
+at_least, _ = _at_least(low_word, low + 1)

which queries a key of Triton's attention serves | _triton/_problems.py |
    triton/test_kernels.py::test_interpreted[attention]
-{name: s if name in of_keys else s * each
+{name: s if name in of_keys else s

the low half of Triton's deviates | _triton/_normal.py | triton/test_kernels.py::test_interpreted[kernels]
-_halves(blocks, seed, stream, purpose + 1, calls)
+_halves(blocks, seed, stream, purpose, calls)

the tails of Triton's deviates | _triton/_normal.py | triton/test_kernels.py::test_interpreted[kernels]
-tl.where(q < 0.0, -tail, tail)
+tl.where(q <= 1.0, -tail, tail)

where a wide row's span of Triton's norm stands, backward | _triton/_norm_wide.py |
    triton/test_kernels.py::test_interpreted[kernels]
-            d = dropped(
-                d,
-                base + at + begin,
+            d = dropped(
+                d,
+                base + at,

which rows Triton sums for wide weights | _triton/_norm_wide.py |
    triton/test_kernels.py::test_interpreted[kernels]
-row = part * ROWS + i
+row = part

whether rows of Triton's tiles begin with a block | _triton/_launch.py |
    triton/test_kernels.py::test_interpreted[kernels]
-aligned = not base % 8 and not along[3] % 8
+aligned = not base % 8

where a tile of Triton's stands along memory | _triton/_turned.py |
    triton/test_kernels.py::test_interpreted[kernels]
-along.to(tl.int64)[None, :] * position_along
+(along - left * COLUMNS).to(tl.int64)[None, :] * position_along

whose turn a key of Triton's numbers is | _triton/_numbers.py |
    triton/test_kernels.py::test_interpreted[kernels]
-tl.load(key + key_at + 1, mask=inside, other=0)
+tl.load(key + 1 + key_at * 0, mask=inside, other=0)

what Triton's alpha dropout adds to what is kept | _triton/_bits.py |
    triton/test_kernels.py::test_interpreted[kernels]
-x.to(wide) * factor.to(wide) + shift.to(wide), low.to(wide)
+x.to(wide) * factor.to(wide) + low.to(wide), low.to(wide)

the factor of Triton's alpha dropout, read from memory | _triton/_bits.py |
    triton/test_kernels.py::test_interpreted[kernels]
-tl.sqrt((limit * r + 1.0) * (1.0 - r))
+tl.sqrt((limit * r + 1.0) * r)

where a row of the seeds of Triton's DropBlock begins | _triton/_block.py |
    triton/test_kernels.py::test_interpreted[kernels]
-(channel * rows + row % rows) * width + begin
+(channel * rows + row % rows) * (width + 1) + begin

how far Triton's blocks grow along a row | _triton/_block.py |
    triton/test_kernels.py::test_interpreted[kernels]
-step = tl.minimum(window, block_width - window)
+step = tl.minimum(window, block_width - window + 1)

which bit of Triton's blocks is an element's | _triton/_block.py |
    triton/test_kernels.py::test_interpreted[kernels]
-(word >> (bit & 31).to(tl.uint32)) & 1 == 0
+(word >> (bit & 30).to(tl.uint32)) & 1 == 0

what a sample of Triton's DropBlock has kept | _triton/_block.py |
    triton/test_kernels.py::test_interpreted[kernels]
-rest = size - tl.sum(lost, 0)
+rest = size - tl.sum(lost, 0) + 1

the product that torch's operators and Inductor's loop make | _plain.py |
    torch/test_inductor.py::test_what_an_operator_is_taken_apart_into_has_its_bits
-return (product >> 32) + a, product & contract.WORD
+return product >> 32, product & contract.WORD
""",
)
