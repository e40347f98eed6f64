"""What the kernels of attention share.

A problem is the attention of one query head. Problems are the elements of an array whose sizes, and steps
through each tensor, are given as tuples, innermost dimension first; steps of 0 share a tensor, as grouped
queries share a key. What is read beyond an end is the last row once more: a mask may keep loads from being
wide.
"""

# mypy: disable-error-code="import-untyped, no-untyped-call, no-untyped-def, untyped-decorator"

import triton
import triton.language as tl

from thinned.torch._triton._bits import rate
from thinned.torch._triton._tile import NOTHING, keep_bits, spread

# What attn_mask is.
NONE = tl.constexpr(0)
BOOL = tl.constexpr(1)
ADDED = tl.constexpr(2)

LOG2_E = tl.constexpr(1.4426950408889634)

# Specialised on its value, a key or a position would compile anew.
ANY_VALUE = ["seed", "stream", "drop", "factor", "base", "scale"]


@triton.jit
def at(problem, sizes, steps):
    """Where a problem begins in a tensor."""
    offset = problem * 0
    for d in tl.static_range(len(sizes)):
        offset += problem % sizes[d] * steps[d]
        problem = problem // sizes[d]
    return offset


@triton.jit
def drawn(
    problem, key, p, seed, stream, drop, factor, base, sizes, key_steps, p_steps, position_steps,
    KEY_HERE: tl.constexpr, P_HERE: tl.constexpr, INVERTED: tl.constexpr,
):  # fmt: skip
    """Key, threshold, factor and first position of a problem."""
    if KEY_HERE:
        key += at(problem, sizes, key_steps)
        seed, stream = tl.load(key), tl.load(key + 1)
    drop, factor = rate(p + at(problem, sizes, p_steps), drop, factor, INVERTED, P_HERE)
    return seed.to(tl.int64), stream.to(tl.int64), drop, factor, base + at(problem, sizes, position_steps)


@triton.jit
def ends(m0, S, BM: tl.constexpr, BN: tl.constexpr, CAUSAL: tl.constexpr):
    """The keys that BM queries from m0 on look at end here; and up to here tiles of them are seen whole."""
    end = tl.minimum(S, m0 + BM) if CAUSAL else S
    whole = (tl.minimum(S, m0 + 1) if CAUSAL else S) // BN * BN
    return end, whole


@triton.jit
def rows_of(tensor, row, step, width, WIDE: tl.constexpr, EVEN: tl.constexpr):
    """Rows of a matrix, filled with zeros to the power of two that tiles have."""
    lane = tl.arange(0, WIDE)
    place = tensor + row[:, None] * step + lane[None, :]
    return tl.load(place) if EVEN else tl.load(place, mask=(lane < width)[None, :], other=0.0)


@triton.jit
def store_rows(tensor, row, step, value, rows, width, WIDE: tl.constexpr, first=0):
    lane = first + tl.arange(0, WIDE)
    inside = (row < rows)[:, None] & (lane < width)[None, :]
    value = value.to(tensor.dtype.element_ty)
    tl.store(tensor + row.to(tl.int64)[:, None] * step + lane[None, :], value, mask=inside)


@triton.jit
def kept_in(
    positions, n0, column, seed, stream, drop, along: tl.constexpr, BN: tl.constexpr, CALLS: tl.constexpr,
    HOW: tl.constexpr,
):  # fmt: skip
    """Which positions of a tile are kept, whose keys begin with n0; they lie along a dimension."""
    SPAN: tl.constexpr = 8 * CALLS
    if HOW == NOTHING:
        kept = tl.full([1, 1], 1, tl.int1)
    else:
        begins = (n0 + SPAN * tl.arange(0, BN // SPAN)).to(tl.int64) * column
        begins = begins[None, :] if along == 1 else begins[:, None]
        kept = spread(keep_bits(positions + begins, column, seed, stream, drop, HOW, CALLS), along, CALLS)
    return kept


@triton.jit
def masked(
    scores, scale, seen, columns, m, n, S, MASK: tl.constexpr, CAUSAL: tl.constexpr, PARTIAL: tl.constexpr
):
    """Scores with the mask; -inf where a query may not look."""
    scores *= scale
    if MASK == ADDED:
        scores += tl.load(seen + columns).to(tl.float32)
    if MASK == BOOL:
        scores = tl.where(tl.load(seen + columns) != 0, scores, float("-inf"))
    if PARTIAL:
        inside = (n < S) & (n <= m) if CAUSAL else n < S
        scores = tl.where(inside, scores, float("-inf"))
    return scores


@triton.jit
def without(factor, of_rows):
    """The factor in float32, and δ without it; zeros where all is dropped."""
    factor = factor.to(tl.float32)
    return factor, of_rows * tl.where(factor == 0.0, 0.0, 1.0 / factor)


@triton.jit
def exponentials(scores, most):
    """Of the differences to `most`, which come first: multiplied, large scores lose them, or overflow."""
    return tl.exp2((scores - most) * LOG2_E)


@triton.jit
def store_sums(lse, row, most, total, inside):
    """Each row's logsumexp in two parts: the largest score, and the logarithm of the sum from there."""
    tl.store(lse + 2 * row, most, mask=inside)
    tl.store(lse + 2 * row + 1, tl.log(total), mask=inside)


@triton.jit
def sums_of(lse, row, inside):
    """Largest scores, and logarithms to base 2: `probabilities_of` what looks nowhere, or is none, are 0."""
    most, log = tl.load(lse + 2 * row), tl.load(lse + 2 * row + 1)
    nowhere = (log == float("-inf")) | (inside == 0)
    return tl.where(nowhere, float("inf"), most), tl.where(nowhere, 0.0, log * LOG2_E)


@triton.jit
def probabilities_of(scores, most, log):
    return tl.exp2((scores - most) * LOG2_E - log)
