"""Attention with dropout, backward: the gradient of queries. Scores and mask are computed again.

With P the probabilities, D the mask and f the factor of what is kept: dV = f (D ∘ P)ᵀ dOut, and of the scores
P ∘ (f D ∘ (dOut Vᵀ) − δ) where δ = rowsum(dOut ∘ Out), since Out = f (D ∘ P) V. f is taken out of the tiles.
"""

# mypy: disable-error-code="import-untyped, no-untyped-call, no-untyped-def, untyped-decorator"

import triton
import triton.language as tl

from thinned.torch._triton._attention_parts import (
    ANY_VALUE,
    at,
    drawn,
    ends,
    kept_in,
    masked,
    probabilities_of,
    rows_of,
    store_rows,
    sums_of,
    without,
)


@triton.jit(do_not_specialize=ANY_VALUE)
def queries(
    q,
    k,
    v,
    mask,
    out,
    lse,
    grad,
    delta,
    grad_q,
    key,
    p,
    seed: tl.int64,
    stream: tl.int64,
    drop: tl.int64,
    factor: tl.int64,
    base: tl.int64,
    scale,
    sizes,
    q_steps,
    k_steps,
    v_steps,
    mask_steps,
    out_steps,
    grad_steps,
    lse_steps,
    grad_q_steps,
    position_steps,
    key_steps,
    p_steps,
    q_row,
    k_row,
    v_row,
    mask_row,
    mask_column,
    out_row,
    grad_row,
    grad_q_row,
    position_row,
    position_column,
    L,
    S,
    E,
    EV,
    BM: tl.constexpr,
    BN: tl.constexpr,
    WE: tl.constexpr,
    WV: tl.constexpr,
    CALLS: tl.constexpr,
    HOW: tl.constexpr,
    MASK: tl.constexpr,
    CAUSAL: tl.constexpr,
    EVEN: tl.constexpr,
    KEY_HERE: tl.constexpr,
    P_HERE: tl.constexpr,
    INVERTED: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The gradient of BM queries of a problem; and δ, which the other kernels read."""
    tiles = tl.cdiv(L, BM)
    problem = (tl.program_id(0) // tiles).to(tl.int64)
    tile = tl.program_id(0) % tiles
    if CAUSAL:
        tile = tiles - 1 - tile
    seed, stream, drop, factor, position = drawn(
        problem, key, p, seed, stream, drop, factor, base, sizes, key_steps, p_steps, position_steps,
        KEY_HERE, P_HERE, INVERTED,
    )  # fmt: skip
    m = tile * BM + tl.arange(0, BM)
    row = tl.minimum(m, L - 1).to(tl.int64)
    upstream = rows_of(grad + at(problem, sizes, grad_steps), row, grad_row, EV, WV, EVEN)
    result = rows_of(out + at(problem, sizes, out_steps), row, out_row, EV, WV, EVEN)
    of_rows = tl.sum(upstream.to(tl.float32) * result.to(tl.float32), 1)
    tl.store(delta + at(problem, sizes, lse_steps) + m, of_rows, mask=m < L)
    factor, of_rows = without(factor, of_rows)
    most, log = sums_of(lse + 2 * at(problem, sizes, lse_steps), row, m < L)

    query = rows_of(q + at(problem, sizes, q_steps), row, q_row, E, WE, EVEN)
    keys, values = k + at(problem, sizes, k_steps), v + at(problem, sizes, v_steps)
    seen = mask + at(problem, sizes, mask_steps) + row * mask_row
    positions = position + m.to(tl.int64) * position_row
    total = tl.zeros([BM, WE], tl.float32)
    end, whole = ends(tile * BM, S, BM, BN, CAUSAL)
    for n0 in range(0, whole, BN):
        total = _queries_step(
            total, n0, m, query, keys, values, seen, positions, upstream, most, log, of_rows, k_row, v_row,
            mask_column, position_column, scale, seed, stream, drop, S, E, EV, BN, WE, WV, CALLS, HOW, MASK,
            CAUSAL, EVEN, False, PRECISION,
        )  # fmt: skip
    for n0 in range(whole, end, BN):
        total = _queries_step(
            total, n0, m, query, keys, values, seen, positions, upstream, most, log, of_rows, k_row, v_row,
            mask_column, position_column, scale, seed, stream, drop, S, E, EV, BN, WE, WV, CALLS, HOW, MASK,
            CAUSAL, EVEN, True, PRECISION,
        )  # fmt: skip
    total *= scale * factor
    store_rows(grad_q + at(problem, sizes, grad_q_steps), m, grad_q_row, total, L, E, WE)


@triton.jit
def _queries_step(
    total, n0, m, query, keys, values, seen, positions, upstream, most, log, of_rows, k_row, v_row,
    mask_column, position_column, scale, seed, stream, drop, S, E, EV, BN: tl.constexpr,
    WE: tl.constexpr, WV: tl.constexpr, CALLS: tl.constexpr, HOW: tl.constexpr, MASK: tl.constexpr,
    CAUSAL: tl.constexpr, EVEN: tl.constexpr, PARTIAL: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    n = n0 + tl.arange(0, BN)
    column = tl.minimum(n, S - 1).to(tl.int64) if PARTIAL else n.to(tl.int64)
    kept = kept_in(positions[:, None], n0, position_column, seed, stream, drop, 1, BN, CALLS, HOW)
    one = rows_of(keys, column, k_row, E, WE, EVEN)
    scores = tl.dot(query, tl.trans(one), input_precision=PRECISION)
    scores = masked(
        scores, scale, seen[:, None], (column * mask_column)[None, :], m[:, None], n[None, :], S,
        MASK, CAUSAL, PARTIAL,
    )  # fmt: skip
    value = rows_of(values, column, v_row, EV, WV, EVEN)
    of_scores = tl.dot(upstream, tl.trans(value), input_precision=PRECISION)
    of_scores = tl.where(kept, of_scores, 0.0) - of_rows[:, None]
    of_scores *= probabilities_of(scores, most[:, None], log[:, None])
    return tl.dot(of_scores.to(one.dtype), one, total, input_precision=PRECISION)
