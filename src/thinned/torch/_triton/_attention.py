"""Attention with dropout, forward: an online softmax over tiles, and the mask of each drawn in place."""

# mypy: disable-error-code="import-untyped, no-untyped-call, no-untyped-def, untyped-decorator"

import triton
import triton.language as tl

from thinned.torch._triton._attention_parts import (
    ANY_VALUE,
    at,
    drawn,
    ends,
    exponentials,
    kept_in,
    masked,
    rows_of,
    store_rows,
    store_sums,
)


@triton.jit(do_not_specialize=ANY_VALUE)
def forward(
    q,
    k,
    v,
    mask,
    out,
    lse,
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
    lse_steps,
    position_steps,
    key_steps,
    p_steps,
    q_row,
    k_row,
    v_row,
    mask_row,
    mask_column,
    out_row,
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
    """BM queries of a problem: the dropped probabilities times v, and of each query the sum."""
    tiles = tl.cdiv(L, BM)
    problem = (tl.program_id(0) // tiles).to(tl.int64)
    tile = tl.program_id(0) % tiles
    if CAUSAL:
        tile = tiles - 1 - tile  # those with the most work first
    seed, stream, drop, factor, position = drawn(
        problem, key, p, seed, stream, drop, factor, base, sizes, key_steps, p_steps, position_steps,
        KEY_HERE, P_HERE, INVERTED,
    )  # fmt: skip
    m = tile * BM + tl.arange(0, BM)
    row = tl.minimum(m, L - 1).to(tl.int64)
    query = rows_of(q + at(problem, sizes, q_steps), row, q_row, E, WE, EVEN)
    keys, values = k + at(problem, sizes, k_steps), v + at(problem, sizes, v_steps)
    seen = mask + at(problem, sizes, mask_steps) + row * mask_row
    positions = position + m.to(tl.int64) * position_row

    most = tl.full([BM], float("-inf"), tl.float32)
    total = tl.zeros([BM], tl.float32)
    result = tl.zeros([BM, WV], tl.float32)
    end, whole = ends(tile * BM, S, BM, BN, CAUSAL)
    for n0 in range(0, whole, BN):
        most, total, result = _step(
            most, total, result, n0, m, query, keys, values, seen, positions, k_row, v_row, mask_column,
            position_column, scale, seed, stream, drop, S, E, EV, BN, WE, WV, CALLS, HOW, MASK, CAUSAL, EVEN,
            False, PRECISION,
        )  # fmt: skip
    for n0 in range(whole, end, BN):
        most, total, result = _step(
            most, total, result, n0, m, query, keys, values, seen, positions, k_row, v_row, mask_column,
            position_column, scale, seed, stream, drop, S, E, EV, BN, WE, WV, CALLS, HOW, MASK, CAUSAL, EVEN,
            True, PRECISION,
        )  # fmt: skip

    nowhere = total == 0.0
    result *= (tl.where(nowhere, 0.0, factor.to(tl.float32)) / tl.where(nowhere, 1.0, total))[:, None]
    store_sums(lse + 2 * at(problem, sizes, lse_steps), m, most, total, m < L)
    store_rows(out + at(problem, sizes, out_steps), m, out_row, result, L, EV, WV)


@triton.jit
def _step(
    most, total, result, n0, m, query, keys, values, seen, positions, k_row, v_row, mask_column,
    position_column, scale, seed, stream, drop, S, E, EV, BN: tl.constexpr, WE: tl.constexpr,
    WV: tl.constexpr, CALLS: tl.constexpr, HOW: tl.constexpr, MASK: tl.constexpr, CAUSAL: tl.constexpr,
    EVEN: tl.constexpr, PARTIAL: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The tile of keys from n0 on: the greatest score so far, the sum, and the result."""
    n = n0 + tl.arange(0, BN)
    column = tl.minimum(n, S - 1).to(tl.int64) if PARTIAL else n.to(tl.int64)
    kept = kept_in(positions[:, None], n0, position_column, seed, stream, drop, 1, BN, CALLS, HOW)
    scores = tl.dot(query, tl.trans(rows_of(keys, column, k_row, E, WE, EVEN)), input_precision=PRECISION)
    scores = masked(
        scores, scale, seen[:, None], (column * mask_column)[None, :], m[:, None], n[None, :], S,
        MASK, CAUSAL, PARTIAL,
    )  # fmt: skip
    before = most
    most = tl.maximum(most, tl.max(scores, 1))
    finite = tl.where(most == float("-inf"), 0.0, most)
    probabilities = exponentials(scores, finite[:, None])
    shrunk = exponentials(before, finite)
    total = total * shrunk + tl.sum(probabilities, 1)
    value = rows_of(values, column, v_row, EV, WV, EVEN)
    weights = tl.where(kept, probabilities, 0.0).to(value.dtype)
    result = tl.dot(weights, value, result * shrunk[:, None], input_precision=PRECISION)
    return most, total, result
