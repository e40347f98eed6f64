"""Attention with dropout, backward: the gradient of an added mask, as `_attention_queries` has it."""

# mypy: disable-error-code="import-untyped, no-untyped-call, no-untyped-def, untyped-decorator"

import triton
import triton.language as tl

from thinned.torch._triton._attention_parts import (
    ADDED,
    ANY_VALUE,
    at,
    drawn,
    kept_in,
    masked,
    probabilities_of,
    rows_of,
    store_rows,
    sums_of,
)


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
        most, log = sums_of(lse + 2 * begins, row, m < L)
        probabilities = probabilities_of(scores, most[:, None], log[:, None])
        upstream = rows_of(grad + at(problem, sizes, grad_steps), row, grad_row, EV, WV, EVEN)
        value = rows_of(v + at(problem, sizes, v_steps), column, v_row, EV, WV, EVEN)
        of_scores = tl.dot(upstream, tl.trans(value), input_precision=PRECISION)
        of_scores = tl.where(kept, of_scores * own.to(tl.float32), 0.0)
        total += (of_scores - tl.load(delta + begins + row)[:, None]) * probabilities
    store_rows(grad_mask + at(first, sizes, grad_mask_steps), m, S, total, L, S, BN, n0)
