"""The kernel of dropout for memory that runs across the mask: a transposed or permuted tensor.

A tile has positions that follow one another along its first dimension, neighbours in memory along its second.
"""

# mypy: disable-error-code="import-untyped, no-untyped-call, no-untyped-def, untyped-decorator"

import triton
import triton.language as tl

from thinned.torch._triton._bits import rate
from thinned.torch._triton._dropout import ANY_VALUE, become, offsets
from thinned.torch._triton._tile import keep_bits, spread


@triton.jit(do_not_specialize=ANY_VALUE)
def turned(
    x,
    out,
    key,
    p,
    seed: tl.int64,
    stream: tl.int64,
    drop: tl.int64,
    factor: tl.int64,
    base: tl.int64,
    shift: tl.int64,
    low: tl.int64,
    sizes,
    x_steps,
    out_steps,
    position_steps,
    key_steps,
    p_steps,
    height,
    width,
    x_down,
    x_along,
    out_down,
    out_along,
    position_along,
    HOW: tl.constexpr,
    CALLS: tl.constexpr,
    WORDS: tl.constexpr,
    COLUMNS: tl.constexpr,
    KEY_HERE: tl.constexpr,
    P_HERE: tl.constexpr,
    INVERTED: tl.constexpr,
    KIND: tl.constexpr,
):
    """Tiles of WORDS · CALLS · 8 by COLUMNS, eight positions to a call of the generator."""
    SPAN: tl.constexpr = 8 * CALLS
    program = tl.program_id(0)
    lefts, tops = tl.cdiv(width, COLUMNS), tl.cdiv(height, WORDS * SPAN)
    left, program = program % lefts, program // lefts
    x_at, out_at, position, key_at, p_at = offsets(
        (program // tops).to(tl.int64), sizes, x_steps, out_steps, position_steps, key_steps, p_steps
    )
    if KEY_HERE:
        seed, stream = tl.load(key + key_at), tl.load(key + key_at + 1)
    seed, stream = seed.to(tl.int64), stream.to(tl.int64)
    drop, factor = rate(p + p_at, drop, factor, INVERTED, P_HERE, KIND)
    top = (program % tops) * WORDS * SPAN
    down, along = top + tl.arange(0, WORDS * SPAN), left * COLUMNS + tl.arange(0, COLUMNS)
    inside = (down < height)[:, None] & (along < width)[None, :]
    x_at += down.to(tl.int64)[:, None] * x_down + along.to(tl.int64)[None, :] * x_along
    v = tl.load(x + x_at, mask=inside)
    word = (top + tl.arange(0, WORDS) * SPAN).to(tl.int64)
    position += base + word[:, None] + along.to(tl.int64)[None, :] * position_along
    kept = spread(keep_bits(position, 1, seed, stream, drop, HOW, CALLS), 0, CALLS)
    out_at += down.to(tl.int64)[:, None] * out_down + along.to(tl.int64)[None, :] * out_along
    tl.store(out + out_at, become(v, kept, drop, factor, shift, low, P_HERE, KIND), mask=inside)
