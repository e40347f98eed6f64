"""Attention with dropout, backward: scores, probabilities and mask are computed again, tile by tile.

With P the probabilities, D the mask and f the factor of what is kept: dV = f (D ∘ P)ᵀ dOut, and of the scores
P ∘ (f D ∘ (dOut Vᵀ) − δ) where δ = rowsum(dOut ∘ Out), since Out = f (D ∘ P) V. f is taken out of the tiles.
"""

# mypy: disable-error-code="import-untyped, no-untyped-call, no-untyped-def, untyped-decorator"

import triton
import triton.language as tl

from thinned.torch._triton._attention import (
    ADDED,
    ANY_VALUE,
    LOG2_E,
    at,
    drawn,
    ends,
    kept_in,
    masked,
    rows_of,
    store_rows,
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
    sums = logarithms(tl.load(lse + at(problem, sizes, lse_steps) + row), m < L)

    query = rows_of(q + at(problem, sizes, q_steps), row, q_row, E, WE, EVEN)
    keys, values = k + at(problem, sizes, k_steps), v + at(problem, sizes, v_steps)
    seen = mask + at(problem, sizes, mask_steps) + row * mask_row
    positions = position + m.to(tl.int64) * position_row
    total = tl.zeros([BM, WE], tl.float32)
    end, whole = ends(tile * BM, S, BM, BN, CAUSAL)
    for n0 in range(0, whole, BN):
        total = _queries_step(
            total, n0, m, query, keys, values, seen, positions, upstream, sums, of_rows, k_row, v_row,
            mask_column, position_column, scale, seed, stream, drop, S, E, EV, BN, WE, WV, CALLS, HOW, MASK,
            CAUSAL, EVEN, False, PRECISION,
        )  # fmt: skip
    for n0 in range(whole, end, BN):
        total = _queries_step(
            total, n0, m, query, keys, values, seen, positions, upstream, sums, of_rows, k_row, v_row,
            mask_column, position_column, scale, seed, stream, drop, S, E, EV, BN, WE, WV, CALLS, HOW, MASK,
            CAUSAL, EVEN, True, PRECISION,
        )  # fmt: skip
    total *= scale * factor
    store_rows(grad_q + at(problem, sizes, grad_q_steps), m, grad_q_row, total, L, E, WE)


@triton.jit
def _queries_step(
    total, n0, m, query, keys, values, seen, positions, upstream, sums, of_rows, k_row, v_row,
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
    of_scores *= tl.exp2(scores - sums[:, None])
    return tl.dot(of_scores.to(one.dtype), one, total, input_precision=PRECISION)


@triton.jit(do_not_specialize=ANY_VALUE)
def keys_and_values(
    q,
    k,
    v,
    mask,
    lse,
    grad,
    delta,
    grad_k,
    grad_v,
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
    grad_steps,
    lse_steps,
    grad_k_steps,
    grad_v_steps,
    position_steps,
    key_steps,
    p_steps,
    q_row,
    k_row,
    v_row,
    mask_row,
    mask_column,
    grad_row,
    grad_k_row,
    grad_v_row,
    position_row,
    position_column,
    together,
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
    """The gradients of BN keys and values, which `together` problems, one after another, share."""
    tiles = tl.cdiv(S, BN)
    first = (tl.program_id(0) // tiles).to(tl.int64) * together
    n0 = tl.program_id(0) % tiles * BN
    n = n0 + tl.arange(0, BN)
    column = tl.minimum(n, S - 1).to(tl.int64)
    one = rows_of(k + at(first, sizes, k_steps), column, k_row, E, WE, EVEN)
    value = rows_of(v + at(first, sizes, v_steps), column, v_row, EV, WV, EVEN)
    of_keys = tl.zeros([BN, WE], tl.float32)
    of_values = tl.zeros([BN, WV], tl.float32)
    begin = tl.minimum(n0 // BM * BM, L) if CAUSAL else 0
    whole = tl.minimum(tl.cdiv(n0 + BN - 1, BM) * BM, L) if CAUSAL else 0
    unit = factor.to(tl.float32) * 0.0 + 1.0  # what the sums are to be multiplied by
    for i in range(together):
        problem = first + i
        own_seed, own_stream, own_drop, own, position = drawn(
            problem, key, p, seed, stream, drop, factor, base, sizes, key_steps, p_steps, position_steps,
            KEY_HERE, P_HERE, INVERTED,
        )  # fmt: skip
        own = own.to(tl.float32)
        of_keys *= unit / tl.where(own == 0.0, 1.0, own)
        of_values *= unit / tl.where(own == 0.0, 1.0, own)
        unit = tl.where(own == 0.0, 1.0, own)
        queries_ = q + at(problem, sizes, q_steps)
        seen = mask + at(problem, sizes, mask_steps)
        grads = grad + at(problem, sizes, grad_steps)
        begins = at(problem, sizes, lse_steps)
        for m0 in range(begin, whole, BM):
            of_keys, of_values = _keys_step(
                of_keys, of_values, m0, n0, n, column, one, value, queries_, grads, lse + begins,
                delta + begins, seen, position, q_row, grad_row, mask_row, mask_column, position_row,
                position_column, scale, own_seed, own_stream, own_drop, own, L, S, E, EV, BM, BN, WE, WV,
                CALLS, HOW, MASK, True, EVEN, PRECISION,
            )  # fmt: skip
        for m0 in range(whole, L, BM):
            of_keys, of_values = _keys_step(
                of_keys, of_values, m0, n0, n, column, one, value, queries_, grads, lse + begins,
                delta + begins, seen, position, q_row, grad_row, mask_row, mask_column, position_row,
                position_column, scale, own_seed, own_stream, own_drop, own, L, S, E, EV, BM, BN, WE, WV,
                CALLS, HOW, MASK, False, EVEN, PRECISION,
            )  # fmt: skip
    of_keys *= unit * scale
    of_values *= unit
    store_rows(grad_k + at(first, sizes, grad_k_steps), n, grad_k_row, of_keys, S, E, WE)
    store_rows(grad_v + at(first, sizes, grad_v_steps), n, grad_v_row, of_values, S, EV, WV)


@triton.jit
def _keys_step(
    of_keys, of_values, m0, n0, n, column, one, value, queries_, grads, lse, delta, seen, position, q_row,
    grad_row, mask_row, mask_column, position_row, position_column, scale, seed, stream, drop, factor, L, S,
    E, EV, BM: tl.constexpr, BN: tl.constexpr, WE: tl.constexpr, WV: tl.constexpr, CALLS: tl.constexpr,
    HOW: tl.constexpr, MASK: tl.constexpr, CAUSAL: tl.constexpr, EVEN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A tile of queries from m0 on, transposed: keys lie along the first dimension."""
    m = m0 + tl.arange(0, BM)
    row = tl.minimum(m, L - 1).to(tl.int64)
    positions = position + m.to(tl.int64) * position_row
    kept = kept_in(positions[None, :], n0, position_column, seed, stream, drop, 0, BN, CALLS, HOW)
    query = rows_of(queries_, row, q_row, E, WE, EVEN)
    scores = tl.dot(one, tl.trans(query), input_precision=PRECISION)
    scores = masked(
        scores, scale, (seen + row * mask_row)[None, :], (column * mask_column)[:, None], m[None, :],
        n[:, None], S, MASK, CAUSAL, CAUSAL,
    )  # fmt: skip
    probabilities = tl.exp2(scores - logarithms(tl.load(lse + row), m < L)[None, :])
    upstream = rows_of(grads, row, grad_row, EV, WV, EVEN)
    weights = tl.where(kept, probabilities, 0.0).to(upstream.dtype)
    of_values = tl.dot(weights, upstream, of_values, input_precision=PRECISION)
    of_scores = tl.dot(value, tl.trans(upstream), input_precision=PRECISION)
    _, of_rows = without(factor, tl.load(delta + row))
    of_scores = (tl.where(kept, of_scores, 0.0) - of_rows[None, :]) * probabilities
    return tl.dot(of_scores.to(query.dtype), query, of_keys, input_precision=PRECISION), of_values


@triton.jit(do_not_specialize=ANY_VALUE)
def attn_masks(
    q,
    k,
    v,
    mask,
    lse,
    grad,
    delta,
    grad_mask,
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
    grad_steps,
    lse_steps,
    grad_mask_steps,
    position_steps,
    key_steps,
    p_steps,
    q_row,
    k_row,
    v_row,
    mask_row,
    mask_column,
    grad_row,
    position_row,
    position_column,
    together,
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
    EVEN: tl.constexpr,
    KEY_HERE: tl.constexpr,
    P_HERE: tl.constexpr,
    INVERTED: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The gradient of a tile of an added mask, which `together` problems, one after another, share."""
    across = tl.cdiv(S, BN)
    tiles = tl.cdiv(L, BM) * across
    first = (tl.program_id(0) // tiles).to(tl.int64) * together
    tile = tl.program_id(0) % tiles
    m, n0 = tile // across * BM + tl.arange(0, BM), tile % across * BN
    n = n0 + tl.arange(0, BN)
    row, column = tl.minimum(m, L - 1).to(tl.int64), tl.minimum(n, S - 1).to(tl.int64)
    total = tl.zeros([BM, BN], tl.float32)
    for i in range(together):
        problem = first + i
        own_seed, own_stream, own_drop, own, position = drawn(
            problem, key, p, seed, stream, drop, factor, base, sizes, key_steps, p_steps, position_steps,
            KEY_HERE, P_HERE, INVERTED,
        )  # fmt: skip
        positions = position + m.to(tl.int64) * position_row
        kept = kept_in(
            positions[:, None], n0, position_column, own_seed, own_stream, own_drop, 1, BN, CALLS, HOW
        )
        query = rows_of(q + at(problem, sizes, q_steps), row, q_row, E, WE, EVEN)
        one = rows_of(k + at(problem, sizes, k_steps), column, k_row, E, WE, EVEN)
        seen = mask + at(problem, sizes, mask_steps) + row * mask_row
        scores = tl.dot(query, tl.trans(one), input_precision=PRECISION)
        scores = masked(
            scores, scale, seen[:, None], (column * mask_column)[None, :], m[:, None], n[None, :], S,
            ADDED, False, False,
        )  # fmt: skip
        begins = at(problem, sizes, lse_steps)
        probabilities = tl.exp2(scores - logarithms(tl.load(lse + begins + row), m < L)[:, None])
        upstream = rows_of(grad + at(problem, sizes, grad_steps), row, grad_row, EV, WV, EVEN)
        value = rows_of(v + at(problem, sizes, v_steps), column, v_row, EV, WV, EVEN)
        of_scores = tl.dot(upstream, tl.trans(value), input_precision=PRECISION)
        of_scores = tl.where(kept, of_scores * own.to(tl.float32), 0.0)
        total += (of_scores - tl.load(delta + begins + row)[:, None]) * probabilities
    store_rows(grad_mask + at(first, sizes, grad_mask_steps), m, S, total, L, S, BN, n0)


@triton.jit
def without(factor, of_rows):
    """The factor in float32, and δ without it; zeros where all is dropped."""
    factor = factor.to(tl.float32)
    return factor, of_rows * tl.where(factor == 0.0, 0.0, 1.0 / factor)


@triton.jit
def logarithms(sums, inside):
    """In powers of two, and such that a query that looks nowhere or is none has probabilities of 0."""
    return tl.where((sums == float("-inf")) | (inside == 0), float("inf"), sums * LOG2_E)
