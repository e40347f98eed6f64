"""The kernels of dropout, residual and norm: a row of the normalised dimensions to a program.

A width that is no multiple of eight has rows that begin within a block: there, each element has its own call.
"""

# mypy: disable-error-code="import-untyped, no-untyped-call, no-untyped-def, untyped-decorator"

import triton
import triton.language as tl

from thinned.torch._triton._bits import add, keeps, keeps_at, rate, value

ANY_VALUE = ["seed", "stream", "drop", "factor", "base", "eps"]


@triton.jit(do_not_specialize=ANY_VALUE)
def forward(
    x,
    residual,
    weight,
    bias,
    total,
    out,
    means,
    scales,
    key,
    p,
    seed: tl.int64,
    stream: tl.int64,
    drop: tl.int64,
    factor: tl.int64,
    base: tl.int64,
    eps: tl.int64,
    width,
    CALLS: tl.constexpr,
    ALIGNED: tl.constexpr,
    KEY_HERE: tl.constexpr,
    P_HERE: tl.constexpr,
    INVERTED: tl.constexpr,
    DROPS: tl.constexpr,
    WEIGHT: tl.constexpr,
    BIAS: tl.constexpr,
    RMS: tl.constexpr,
):
    """The sum, its norm, and what the backward pass needs of each row."""
    wide: tl.constexpr = tl.float64 if total.dtype.element_ty == tl.float64 else tl.float32
    row = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, 8 * CALLS)
    inside = lane < width
    at = row * width
    y = tl.load(x + at + lane, mask=inside, other=0.0)
    r = tl.load(residual + at + lane, mask=inside, other=0.0)
    if DROPS:
        y = dropped(y, base + at, lane, key, p, seed, stream, drop, factor, CALLS, ALIGNED, KEY_HERE, P_HERE)
    s = add(y, r, total.dtype.element_ty)
    tl.store(total + at + lane, s, mask=inside)
    s = s.to(wide)
    if not RMS:
        mean = tl.sum(tl.where(inside, s, 0.0), 0) / width
        tl.store(means + row, mean)
        s = s - mean
    square = tl.sum(tl.where(inside, s * s, 0.0), 0) / width
    scale = 1.0 / tl.sqrt(square + eps.to(tl.int64).to(tl.float64, bitcast=True).to(wide))
    tl.store(scales + row, scale)
    n = s * scale
    if WEIGHT:
        n = n * tl.load(weight + lane, mask=inside, other=0.0).to(wide)
    if BIAS:
        n = n + tl.load(bias + lane, mask=inside, other=0.0).to(wide)
    tl.store(out + at + lane, n.to(out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=[*ANY_VALUE[:5], "rows"])
def backward(
    grad,
    grad_total,
    total,
    weight,
    means,
    scales,
    grad_x,
    grad_residual,
    weight_parts,
    bias_parts,
    key,
    p,
    seed: tl.int64,
    stream: tl.int64,
    drop: tl.int64,
    factor: tl.int64,
    base: tl.int64,
    rows,
    width,
    ROWS: tl.constexpr,
    CALLS: tl.constexpr,
    ALIGNED: tl.constexpr,
    KEY_HERE: tl.constexpr,
    P_HERE: tl.constexpr,
    INVERTED: tl.constexpr,
    DROPS: tl.constexpr,
    WEIGHT: tl.constexpr,
    BIAS: tl.constexpr,
    RMS: tl.constexpr,
):
    """Gradients of ROWS rows, by the mask recomputed, and what they add to those of weight and bias."""
    wide: tl.constexpr = tl.float64 if total.dtype.element_ty == tl.float64 else tl.float32
    program = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, 8 * CALLS)
    of_weight = tl.zeros([8 * CALLS], wide)
    of_bias = tl.zeros([8 * CALLS], wide)
    for i in range(ROWS):
        row = program * ROWS + i
        inside = (lane < width) & (row < rows)
        at = row * width
        g = tl.load(grad + at + lane, mask=inside, other=0.0).to(wide)
        n = tl.load(total + at + lane, mask=inside, other=0.0).to(wide)
        if not RMS:
            n = n - tl.load(means + row, mask=row < rows, other=0.0)
        scale = tl.load(scales + row, mask=row < rows, other=0.0)
        n = tl.where(inside, n * scale, 0.0)
        of_weight += g * n
        of_bias += g
        if WEIGHT:
            g = g * tl.load(weight + lane, mask=lane < width, other=0.0).to(wide)
        d = g - n * (tl.sum(g * n, 0) / width)
        if not RMS:
            d = d - tl.sum(g, 0) / width
        d = d * scale + tl.load(grad_total + at + lane, mask=inside, other=0.0).to(wide)
        d = d.to(total.dtype.element_ty)
        tl.store(grad_residual + at + lane, d.to(grad_residual.dtype.element_ty), mask=inside)
        d = d.to(grad_x.dtype.element_ty)
        if DROPS:
            d = dropped(
                d, base + at, lane, key, p, seed, stream, drop, factor, CALLS, ALIGNED, KEY_HERE, P_HERE
            )
        tl.store(grad_x + at + lane, d, mask=inside)
    if WEIGHT:
        tl.store(weight_parts + program * width + lane, of_weight, mask=lane < width)
    if BIAS:
        tl.store(bias_parts + program * width + lane, of_bias, mask=lane < width)


@triton.jit
def dropped(
    v,
    position,
    lane,
    key,
    p,
    seed,
    stream,
    drop,
    factor,
    CALLS: tl.constexpr,
    ALIGNED: tl.constexpr,
    KEY_HERE: tl.constexpr,
    P_HERE: tl.constexpr,
):
    """The elements of a row from this position on, by inverted dropout."""
    if KEY_HERE:
        seed, stream = tl.load(key), tl.load(key + 1)
    seed, stream = seed.to(tl.int64), stream.to(tl.int64)
    drop, factor = rate(p, drop, factor, True, P_HERE)
    if ALIGNED:
        kept = keeps(position >> 3, seed, stream, drop, CALLS)
    else:
        kept = keeps_at(position + lane, seed, stream, drop)
    return value(v, kept, factor)
