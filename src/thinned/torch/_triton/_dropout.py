"""The kernels of dropout: along rows of consecutive positions, and for any layout.

A layout is six tuples, innermost dimension first: sizes, and steps in the input, in the output, in positions,
in keys and in p.
"""

# mypy: disable-error-code="import-untyped, no-untyped-call, no-untyped-def, untyped-decorator"

import triton
import triton.language as tl

from thinned.torch._triton._bits import ALPHA, NOISE, add, affine, keeps, keeps_at, rate, shifts, value, words
from thinned.torch._triton._normal import deviates, deviates_at, noisy

# Specialised on its value, a key or a position would compile anew.
ANY_VALUE = ["seed", "stream", "drop", "factor", "base", "shift", "low"]


@triton.jit(do_not_specialize=ANY_VALUE)
def rows(
    x,
    residual,
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
    width,
    chunks,
    CALLS: tl.constexpr,
    ALIGNED: tl.constexpr,
    KEY_HERE: tl.constexpr,
    P_HERE: tl.constexpr,
    INVERTED: tl.constexpr,
    ADD: tl.constexpr,
    ONE: tl.constexpr,
    SHARED: tl.constexpr,
    KIND: tl.constexpr,
):
    """Rows of `width` elements, consecutive in input, output and mask: eight positions to a call."""
    SPAN: tl.constexpr = 8 * CALLS
    program = tl.program_id(0)
    position = base.to(tl.int64)
    x_at, out_at, key_at, p_at = position * 0, position * 0, position * 0, position * 0
    if not ONE:  # a division is 25 instructions of each thread
        x_at, out_at, position, key_at, p_at = offsets(
            (program // chunks).to(tl.int64), sizes, x_steps, out_steps, position_steps, key_steps, p_steps
        )
        position += base
        program %= chunks
    if KEY_HERE:
        seed, stream = tl.load(key + key_at), tl.load(key + key_at + 1)
    drop, factor = rate(p + p_at, drop, factor, INVERTED, P_HERE, KIND)
    begin = program.to(tl.int64) * SPAN
    block = (position + begin) >> 3
    lane = tl.arange(0, SPAN)
    if not ALIGNED:
        begin -= position & 7
    x_at += begin
    # What is read is on its way while the generator runs.
    v = _read(x + x_at, lane, begin, width, ALIGNED)
    if ADD:
        r = _read(residual + x_at, lane, begin, width, ALIGNED)
    seed, stream = seed.to(tl.int64), stream.to(tl.int64)
    one = position + tl.zeros([1], tl.int64)
    if KIND == NOISE:
        y = noisy(
            v, deviates_at(one, seed, stream) if SHARED else deviates(block, seed, stream, CALLS), factor
        )
    else:
        kept = keeps_at(one, seed, stream, drop) if SHARED else keeps(block, seed, stream, drop, CALLS)
        y = become(v, kept, drop, factor, shift, low, P_HERE, KIND)
    if ADD:
        y = add(y, r, out.dtype.element_ty)
    _write(out + (out_at + begin), y, lane, begin, width, ALIGNED)


@triton.jit(do_not_specialize=ANY_VALUE)
def strided(
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
    elements,
    SPAN: tl.constexpr,
    KEY_HERE: tl.constexpr,
    P_HERE: tl.constexpr,
    P_MANY: tl.constexpr,
    INVERTED: tl.constexpr,
    KIND: tl.constexpr,
):
    """Any layout: each element has its own call."""
    index = tl.program_id(0).to(tl.int64) * SPAN + tl.arange(0, SPAN)
    inside = index < elements
    x_at, out_at, position, key_at, p_at = offsets(
        index, sizes, x_steps, out_steps, position_steps, key_steps, p_steps
    )
    position += base
    seed, stream = seed.to(tl.int64), stream.to(tl.int64)
    if KEY_HERE:
        seed = tl.load(key + key_at, mask=inside, other=0)
        stream = tl.load(key + key_at + 1, mask=inside, other=0)
    # Beyond the last element an index begins anew in each dimension: there is a p to read.
    if P_MANY:
        p += p_at
    drop, factor = rate(p, drop, factor, INVERTED, P_HERE, KIND)
    v = tl.load(x + x_at, mask=inside)
    if KIND == NOISE:
        y = noisy(v, deviates_at(position, seed, stream), factor)
    else:
        kept = keeps_at(position, seed, stream, drop)
        y = become(v, kept, drop, factor, shift, low, P_HERE, KIND)
    tl.store(out + out_at, y, mask=inside)


@triton.jit
def become(v, kept, drop, factor, shift, low, P_HERE: tl.constexpr, KIND: tl.constexpr):
    """What is kept and what is dropped become."""
    if KIND == ALPHA:
        shift, low = shifts(drop, factor, shift, low, P_HERE)
        y = affine(v, kept, factor, shift, low)
    else:
        y = value(v, kept, factor)
    return y


@triton.jit
def fold(key, data, out, count, SPAN: tl.constexpr):
    """Keys folded by integers: the generator's purpose 15 (CONTRACT.md, section 5)."""
    index = tl.program_id(0).to(tl.int64) * SPAN + tl.arange(0, SPAN)
    inside = index < count
    seed = tl.load(key + 2 * index, mask=inside, other=0)
    stream = tl.load(key + 2 * index + 1, mask=inside, other=0)
    w0, w1, _, _ = words(tl.load(data + index, mask=inside, other=0), seed, stream, 15)
    tl.store(out + 2 * index, seed, mask=inside)
    tl.store(out + 2 * index + 1, w0.to(tl.int64) | (w1.to(tl.int64) << 32), mask=inside)


@triton.jit
def offsets(index, sizes, x_steps, out_steps, position_steps, key_steps, p_steps):
    """Where the element of an index stands, in elements of input and output, in positions, in keys, in p."""
    x_at, out_at, position, key_at, p_at = index * 0, index * 0, index * 0, index * 0, index * 0
    for d in tl.static_range(len(sizes)):
        at = index % sizes[d]
        index = index // sizes[d]
        x_at += at * x_steps[d]
        out_at += at * out_steps[d]
        position += at * position_steps[d]
        key_at += at * key_steps[d]
        p_at += at * p_steps[d]
    return x_at, out_at, position, key_at, p_at


@triton.jit
def _read(row, lane, begin, width, ALIGNED: tl.constexpr):
    """A part of a row; without a mask where it is whole: a mask forbids reading 16 bytes at a time."""
    if ALIGNED:
        if width - begin >= lane.shape[0]:
            v = tl.load(row + lane)
        else:
            v = tl.load(row + lane, mask=lane < width - begin)
    else:
        v = tl.load(row + lane, mask=(lane + begin >= 0) & (lane + begin < width))
    return v


@triton.jit
def _write(row, y, lane, begin, width, ALIGNED: tl.constexpr):
    if ALIGNED:
        if width - begin >= lane.shape[0]:
            tl.store(row + lane, y)
        else:
            tl.store(row + lane, y, mask=lane < width - begin)
    else:
        tl.store(row + lane, y, mask=(lane + begin >= 0) & (lane + begin < width))
