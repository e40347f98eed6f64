"""The kernels of dropout, residual and norm for rows that a program's registers do not hold.

A program goes over its row in spans, several times: what it reads again is in a cache. Gradients of weight
and bias are summed by a kernel of their own, down the columns.
"""

# mypy: disable-error-code="import-untyped, no-untyped-call, no-untyped-def, untyped-decorator"

import triton
import triton.language as tl

from thinned.torch._triton._bits import add
from thinned.torch._triton._norm import ANY_VALUE, dropped


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
    SPAN: tl.constexpr = 8 * CALLS
    row = tl.program_id(0).to(tl.int64)
    sums = tl.zeros([SPAN], wide)
    for begin in range(0, width, SPAN):
        lane = begin + tl.arange(0, SPAN)
        inside = lane < width
        at = row * width
        y = tl.load(x + at + lane, mask=inside, other=0.0)
        r = tl.load(residual + at + lane, mask=inside, other=0.0)
        if DROPS:
            y = dropped(
                y,
                base + at + begin,
                lane - begin,
                key,
                p,
                seed,
                stream,
                drop,
                factor,
                CALLS,
                ALIGNED,
                KEY_HERE,
                P_HERE,
            )
        s = add(y, r, total.dtype.element_ty)
        tl.store(total + at + lane, s, mask=inside)
        s = tl.where(inside, s.to(wide), 0.0)
        sums += s * s if RMS else s
    # Each thread reads what it wrote itself, but where a layout says otherwise.
    tl.debug_barrier()
    mean = tl.sum(sums, 0) / width
    square = mean
    if RMS:
        mean = mean * 0.0
    else:
        tl.store(means + row, mean)
        sums = tl.zeros([SPAN], wide)
        for begin in range(0, width, SPAN):
            lane = begin + tl.arange(0, SPAN)
            s = tl.load(total + row * width + lane, mask=lane < width, other=0.0).to(wide) - mean
            sums += tl.where(lane < width, s * s, 0.0)
        square = tl.sum(sums, 0) / width
    scale = 1.0 / tl.sqrt(square + eps.to(tl.int64).to(tl.float64, bitcast=True).to(wide))
    tl.store(scales + row, scale)
    for begin in range(0, width, SPAN):
        lane = begin + tl.arange(0, SPAN)
        inside = lane < width
        n = (tl.load(total + row * width + lane, mask=inside, other=0.0).to(wide) - mean) * scale
        if WEIGHT:
            n = n * tl.load(weight + lane, mask=inside, other=0.0).to(wide)
        if BIAS:
            n = n + tl.load(bias + lane, mask=inside, other=0.0).to(wide)
        tl.store(out + row * width + lane, n.to(out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=ANY_VALUE[:5])
def backward(
    grad,
    grad_total,
    total,
    weight,
    means,
    scales,
    grad_x,
    grad_residual,
    key,
    p,
    seed: tl.int64,
    stream: tl.int64,
    drop: tl.int64,
    factor: tl.int64,
    base: tl.int64,
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
    """Gradients of a row, by the mask recomputed."""
    wide: tl.constexpr = tl.float64 if total.dtype.element_ty == tl.float64 else tl.float32
    SPAN: tl.constexpr = 8 * CALLS
    row = tl.program_id(0).to(tl.int64)
    at = row * width
    scale = tl.load(scales + row)
    mean = scale * 0.0 if RMS else tl.load(means + row)
    products = tl.zeros([SPAN], wide)
    sums = tl.zeros([SPAN], wide)
    for begin in range(0, width, SPAN):
        lane = begin + tl.arange(0, SPAN)
        inside = lane < width
        g = tl.load(grad + at + lane, mask=inside, other=0.0).to(wide)
        n = (tl.load(total + at + lane, mask=inside, other=0.0).to(wide) - mean) * scale
        if WEIGHT:
            g = g * tl.load(weight + lane, mask=inside, other=0.0).to(wide)
        products += g * n  # g is 0 beyond the row
        sums += g
    product = tl.sum(products, 0) / width
    mean_of_g = product * 0.0 if RMS else tl.sum(sums, 0) / width
    for begin in range(0, width, SPAN):
        lane = begin + tl.arange(0, SPAN)
        inside = lane < width
        g = tl.load(grad + at + lane, mask=inside, other=0.0).to(wide)
        n = (tl.load(total + at + lane, mask=inside, other=0.0).to(wide) - mean) * scale
        if WEIGHT:
            g = g * tl.load(weight + lane, mask=inside, other=0.0).to(wide)
        d = (g - n * product - mean_of_g) * scale
        d = d + tl.load(grad_total + at + lane, mask=inside, other=0.0).to(wide)
        d = d.to(total.dtype.element_ty)
        tl.store(grad_residual + at + lane, d.to(grad_residual.dtype.element_ty), mask=inside)
        d = d.to(grad_x.dtype.element_ty)
        if DROPS:
            d = dropped(
                d,
                base + at + begin,
                lane - begin,
                key,
                p,
                seed,
                stream,
                drop,
                factor,
                CALLS,
                ALIGNED,
                KEY_HERE,
                P_HERE,
            )
        tl.store(grad_x + at + lane, d, mask=inside)


@triton.jit(do_not_specialize=["rows"])
def weights(
    grad,
    total,
    means,
    scales,
    weight_parts,
    bias_parts,
    rows,
    width,
    across,
    ROWS: tl.constexpr,
    SPAN: tl.constexpr,
    WEIGHT: tl.constexpr,
    BIAS: tl.constexpr,
    RMS: tl.constexpr,
):
    """What ROWS rows add to the gradients of a span of weight and bias."""
    wide: tl.constexpr = tl.float64 if total.dtype.element_ty == tl.float64 else tl.float32
    part = (tl.program_id(0) // across).to(tl.int64)
    lane = tl.program_id(0) % across * SPAN + tl.arange(0, SPAN)
    of_weight = tl.zeros([SPAN], wide)
    of_bias = tl.zeros([SPAN], wide)
    for i in range(ROWS):
        row = part * ROWS + i
        inside = (lane < width) & (row < rows)
        g = tl.load(grad + row * width + lane, mask=inside, other=0.0).to(wide)
        if WEIGHT:
            n = tl.load(total + row * width + lane, mask=inside, other=0.0).to(wide)
            if not RMS:
                n = n - tl.load(means + row, mask=row < rows, other=0.0)
            of_weight += g * (n * tl.load(scales + row, mask=row < rows, other=0.0))
        of_bias += g
    if WEIGHT:
        tl.store(weight_parts + part * width + lane, of_weight, mask=lane < width)
    if BIAS:
        tl.store(bias_parts + part * width + lane, of_bias, mask=lane < width)
