"""Attention with dropout, backward: gradients of keys and values, by the formulas of `_attention_queries`."""

# mypy: disable-error-code="import-untyped, no-untyped-call, no-untyped-def, untyped-decorator"

import triton
import triton.language as tl

from thinned.torch._triton._attention_parts import (
    ANY_VALUE,
    at,
    drawn,
    kept_in,
    masked,
    probabilities_of,
    rows_of,
    store_rows,
    sums_of,
    without,
)


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
                of_keys, of_values, m0, n0, n, column, one, value, queries_, grads, lse + 2 * begins,
                delta + begins, seen, position, q_row, grad_row, mask_row, mask_column, position_row,
                position_column, scale, own_seed, own_stream, own_drop, own, L, S, E, EV, BM, BN, WE, WV,
                CALLS, HOW, MASK, True, EVEN, PRECISION,
            )  # fmt: skip
        for m0 in range(whole, L, BM):
            of_keys, of_values = _keys_step(
                of_keys, of_values, m0, n0, n, column, one, value, queries_, grads, lse + 2 * begins,
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
    most, log = sums_of(lse, row, m < L)
    probabilities = probabilities_of(scores, most[None, :], log[None, :])
    upstream = rows_of(grads, row, grad_row, EV, WV, EVEN)
    weights = tl.where(kept, probabilities, 0.0).to(upstream.dtype)
    of_values = tl.dot(weights, upstream, of_values, input_precision=PRECISION)
    of_scores = tl.dot(value, tl.trans(upstream), input_precision=PRECISION)
    _, of_rows = without(factor, tl.load(delta + row))
    of_scores = (tl.where(kept, of_scores, 0.0) - of_rows[None, :]) * probabilities
    return tl.dot(of_scores.to(query.dtype), query, of_keys, input_precision=PRECISION), of_values
