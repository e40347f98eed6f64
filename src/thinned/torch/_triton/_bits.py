"""What all kernels share: halfwords, masks and values by CONTRACT.md, sections 2 to 4.

Annotations here are Triton's, which reads them; so nothing else is annotated.
"""

# mypy: disable-error-code="import-untyped, no-untyped-call, no-untyped-def, untyped-decorator"

import triton
import triton.language as tl

from thinned._arguments import SELU_LIMIT as LIMIT

# What an element becomes.
DROP = tl.constexpr(0)  # kept → x · factor, dropped → 0
NOISE = tl.constexpr(1)  # x · (1 + factor · z)
ALPHA = tl.constexpr(2)  # kept → x · factor + shift, dropped → low
SLOPE = tl.constexpr(3)  # the derivative of ALPHA: DROP by its factor

_LIMIT = tl.constexpr(LIMIT)
_LIMIT_SQUARED = tl.constexpr(LIMIT * LIMIT)


@triton.jit
def words(block, seed, stream, purpose: tl.constexpr):
    """The four words of each block (int64): counter words are 32 bits wide whatever the position.

    A product of 64 bits is one instruction; Triton's own generator takes two for its halves.
    """
    c0, c1 = block.to(tl.uint32), (block >> 32).to(tl.uint32) + (purpose << 28)
    c2, c3 = stream.to(tl.uint32), (stream >> 32).to(tl.uint32)
    k0, k1 = seed.to(tl.uint32), (seed >> 32).to(tl.uint32)
    for _ in tl.static_range(10):
        a = c0.to(tl.uint64) * 0xD2511F53
        b = c2.to(tl.uint64) * 0xCD9E8D57
        c0, c1 = (b >> 32).to(tl.uint32) ^ c1 ^ k0, b.to(tl.uint32)
        c2, c3 = (a >> 32).to(tl.uint32) ^ c3 ^ k1, a.to(tl.uint32)
        k0 = tl.add(k0, 0x9E3779B9, sanitize_overflow=False)
        k1 = tl.add(k1, 0xBB67AE85, sanitize_overflow=False)
    return c0, c1, c2, c3


@triton.jit
def keeps(block, seed, stream, drop, calls: tl.constexpr):
    """Whether each of the 8 · calls positions from the first one of a block on is kept."""
    blocks = block + tl.arange(0, calls)
    high, low = (drop >> 16).to(tl.int32), (drop & 0xFFFF).to(tl.int32)
    w0, w1, w2, w3 = words(blocks, seed, stream, 0)
    least = tl.maximum(high, 1)
    # Where no halfword ties, "≥ high" and "> high" are one: so `least` may be 1 where high is 0, and a tie is
    # written into its word as 0 or as `least`. Words cross the branch: halfwords are twice as many registers.
    if (low != 0) | (high == 0):
        # One position in 65,536 ties: one program in sixteen goes this way, if it has 4,096.
        pair = (high * 0x10001).to(tl.uint32)
        zeros = _zeros(w0 ^ pair) | _zeros(w1 ^ pair) | _zeros(w2 ^ pair) | _zeros(w3 ^ pair)
        if tl.max((zeros & 0x80008000 != 0).to(tl.int32), 0) != 0:
            l0, l1, l2, l3 = words(blocks, seed, stream, 1)
            w0, w1 = _decide(w0, l0, high, low, least), _decide(w1, l1, high, low, least)
            w2, w3 = _decide(w2, l2, high, low, least), _decide(w3, l3, high, low, least)
    # A thread keeps the eight halfwords of each of its calls, so that joining them moves nothing. A high
    # half is compared as it stands: what is below it decides nothing.
    word = tl.join(tl.join(w0, w2), tl.join(w1, w3))
    tops = tl.reshape(tl.join(word << 16, word), [8 * calls])
    return tops > ((least.to(tl.int64) << 16) - 1).to(tl.uint32)  # of 2^32 − 1 none is above


@triton.jit
def _decide(word, low_word, high, low, least):
    """The word with each half that is equal to high made `least`, if its low halfword is ≥ low, or else 0."""
    upper, lower = (word >> 16).to(tl.int32), (word & 0xFFFF).to(tl.int32)
    upper = tl.where(upper == high, tl.where((low_word >> 16).to(tl.int32) >= low, least, 0), upper)
    lower = tl.where(lower == high, tl.where((low_word & 0xFFFF).to(tl.int32) >= low, least, 0), lower)
    return (upper.to(tl.uint32) << 16) | lower.to(tl.uint32)


@triton.jit
def _zeros(word):
    """A word whose bits 15 and 31 are not both 0 just where one of its halves is 0 (the SWAR test)."""
    return (word - 0x00010001) & (word ^ 0xFFFFFFFF)


@triton.jit
def halfword_at(position, seed, stream, purpose: tl.constexpr):
    """h_t of each position by itself."""
    w0, w1, w2, w3 = words(position >> 3, seed, stream, purpose)
    index = (position & 7).to(tl.int32)
    word = tl.where(index < 4, tl.where(index < 2, w0, w1), tl.where(index < 6, w2, w3))
    return ((word >> ((index & 1) * 16).to(tl.uint32)) & 0xFFFF).to(tl.int32)


@triton.jit
def keeps_at(position, seed, stream, drop):
    """Whether each position by itself is kept."""
    high, low = (drop >> 16).to(tl.int32), (drop & 0xFFFF).to(tl.int32)
    h = halfword_at(position, seed, stream, 0)
    kept = h >= high
    tied = (h == high) & (low != 0)
    if tl.max(tied.to(tl.int32), 0) != 0:
        kept = kept & ((h != high) | (halfword_at(position, seed, stream, 1) >= low))
    return kept


@triton.jit
def rate(p, drop, factor, INVERTED: tl.constexpr, P_HERE: tl.constexpr, KIND: tl.constexpr = DROP):
    """Drop threshold (int64) and factor (float64), read from device memory, or as they were passed.

    The factor of noise is its standard deviation √(p/(1 − p)).

    The factor is passed as the bits of a double: Triton takes a number for a float32. What is read can be
    checked by nobody without waiting for the device: outside [0, 1] the factor is NaN and nothing is dropped.
    """
    if P_HERE and KIND == NOISE:
        each = tl.load(p).to(tl.float64)
        drop, factor = drop.to(tl.int64), tl.sqrt(each / (1.0 - each))
    elif P_HERE:
        scaled = tl.load(p).to(tl.float64) * 4294967296.0
        valid = (scaled >= 0.0) & (scaled <= 4294967296.0)
        scaled = tl.where(valid, scaled, 0.0)
        whole = scaled.to(tl.int64)
        rest = scaled - whole.to(tl.float64)
        drop = whole + ((rest > 0.5) | ((rest == 0.5) & ((whole & 1) == 1))).to(tl.int64)
        kept = tl.where(drop < 4294967296, 4294967296 - drop, 1).to(tl.float64)
        if KIND >= ALPHA:  # and its derivative
            r = drop.to(tl.float64) * (1.0 / 4294967296.0)
            limit = tl.full(r.shape, _LIMIT_SQUARED, tl.float64)
            factor = 1.0 / tl.sqrt((limit * r + 1.0) * (1.0 - r))
        else:
            factor = 4294967296.0 / kept if INVERTED else kept * 0.0 + 1.0
        factor = tl.where(valid, tl.where(drop < 4294967296, factor, 0.0), float("nan"))
    else:
        drop = drop.to(tl.int64)
        factor = factor.to(tl.int64).to(tl.float64, bitcast=True)
    return drop, factor


@triton.jit
def shifts(drop, factor, shift, low, P_HERE: tl.constexpr):
    """What alpha dropout adds to what is kept, and what is dropped becomes; of its factor and threshold."""
    if P_HERE:
        r = drop.to(tl.float64) * (1.0 / 4294967296.0)
        limit = tl.full(r.shape, _LIMIT, tl.float64)
        shift = factor * (limit * -1.0) * r
        low = factor * limit + shift
    else:
        shift = shift.to(tl.int64).to(tl.float64, bitcast=True)
        low = low.to(tl.int64).to(tl.float64, bitcast=True)
    return shift, low


@triton.jit
def affine(x, kept, factor, shift, low):
    """Kept → x · factor + shift in two roundings, dropped → low; rounded once to x's dtype."""
    wide: tl.constexpr = tl.float64 if x.dtype == tl.float64 else tl.float32
    return tl.where(kept, x.to(wide) * factor.to(wide) + shift.to(wide), low.to(wide)).to(x.dtype)


@triton.jit
def value(x, kept, factor):
    """Kept → x · factor, dropped → +0.0, rounded once to x's dtype."""
    if x.dtype == tl.float64:
        result = tl.where(kept, x * factor, 0.0)
    else:
        # The factor's sign, 0. Of a zero that it knows, the compiler would choose after the rounding, where
        # halves have to be taken out of their words again: 2 instructions more for an element.
        zero = (factor.to(tl.int64, bitcast=True) >> 63).to(tl.uint32).to(tl.float32, bitcast=True)
        result = tl.where(kept, x.to(tl.float32) * factor.to(tl.float32), zero).to(x.dtype)
    return result


@triton.jit
def add(y, residual, dtype: tl.constexpr):
    """The sum, rounded once to the dtype that the two make, as torch adds."""
    wide: tl.constexpr = tl.float64 if dtype == tl.float64 else tl.float32
    return (y.to(wide) + residual.to(wide)).to(dtype)
