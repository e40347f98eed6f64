"""Normal deviates z(i) of CONTRACT.md, section 6: the steps of `thinned._quantile`, and so its bits.

Every operation is in float64 and rounded by itself. A library's logarithm would have other bits.
"""

# mypy: disable-error-code="import-untyped, no-untyped-call, no-untyped-def, untyped-decorator"

import triton
import triton.language as tl

from thinned import _quantile
from thinned.torch._triton._bits import halfword_at, words

_CENTRAL_TOP = tl.constexpr(_quantile.CENTRAL_TOP)
_CENTRAL_BOTTOM = tl.constexpr(_quantile.CENTRAL_BOTTOM)
_TAIL_TOP = tl.constexpr(_quantile.TAIL_TOP)
_TAIL_BOTTOM = tl.constexpr(_quantile.TAIL_BOTTOM)
_SERIES = tl.constexpr(_quantile.SERIES)
_LOG_TWO = tl.constexpr(_quantile.LOG_TWO)
_SQRT_HALF = tl.constexpr(int(_quantile.SQRT_HALF))
_ONE = tl.constexpr(int(_quantile.ONE))


@triton.jit
def deviates(block, seed, stream, calls: tl.constexpr):
    """Z, in float32, of each of the 8 · calls positions from the first one of a block on."""
    return _quantile_of(whole(block, seed, stream, 2, calls))


@triton.jit
def deviates_at(position, seed, stream):
    """Z of each position by itself."""
    return _quantile_of(whole_at(position, seed, stream, 2))


@triton.jit
def whole(block, seed, stream, purpose: tl.constexpr, calls: tl.constexpr):
    """The 32-bit number of a purpose and the next, of each of the 8 · calls positions from a block on."""
    blocks = block + tl.arange(0, calls)
    high = _halves(blocks, seed, stream, purpose, calls)
    return (high << 16) | _halves(blocks, seed, stream, purpose + 1, calls)


@triton.jit
def whole_at(position, seed, stream, purpose: tl.constexpr):
    """That number of each position by itself."""
    high, low = halfword_at(position, seed, stream, purpose), halfword_at(position, seed, stream, purpose + 1)
    return (high.to(tl.uint32) << 16) | low.to(tl.uint32)


@triton.jit
def noisy(x, z, sigma):
    """X · (z σ + 1), rounded once to x's dtype."""
    wide: tl.constexpr = tl.float64 if x.dtype == tl.float64 else tl.float32
    return (x.to(wide) * (z.to(wide) * sigma.to(wide) + 1.0)).to(x.dtype)


@triton.jit
def _halves(blocks, seed, stream, purpose: tl.constexpr, calls: tl.constexpr):
    w0, w1, w2, w3 = words(blocks, seed, stream, purpose)
    word = tl.join(tl.join(w0, w2), tl.join(w1, w3))
    return tl.reshape(tl.join(word & 0xFFFF, word >> 16), [8 * calls])


@triton.jit
def _quantile_of(v):
    """The quantile of (v + ½) / 2^32."""
    q = (v.to(tl.float64) + 0.5) * (1.0 / 4294967296.0) - 0.5
    inner = 0.180625 - q * q
    central = _polynomial(inner, _CENTRAL_TOP, 8) * q / _polynomial(inner, _CENTRAL_BOTTOM, 8)
    distance = tl.abs(q)
    outer = tl.sqrt(-_log(0.5 - distance)) - 1.6
    tail = _polynomial(outer, _TAIL_TOP, 8) / _polynomial(outer, _TAIL_BOTTOM, 8)
    tail = tl.where(q < 0.0, -tail, tail)
    return tl.where(distance > 0.425, tail, central).to(tl.float32)


@triton.jit
def _polynomial(x, coefficients: tl.constexpr, terms: tl.constexpr):
    total = tl.full(x.shape, coefficients[terms - 1], tl.float64)
    for i in tl.static_range(terms - 1):
        total = total * x + tl.full(x.shape, coefficients[terms - 2 - i], tl.float64)
    return total


@triton.jit
def _log(t):
    """The natural logarithm of t = m · 2^e, with m within a factor of √2 of 1."""
    bits = t.to(tl.int64, bitcast=True)
    biased = (bits - _SQRT_HALF + _ONE) >> 52
    m = (bits - (biased << 52) + _ONE).to(tl.float64, bitcast=True)
    e = biased.to(tl.float64) - 1023.0
    s = (m - 1.0) / (m + 1.0)
    return e * tl.full(t.shape, _LOG_TWO, tl.float64) + 2.0 * s * _polynomial(s * s, _SERIES, 10)
