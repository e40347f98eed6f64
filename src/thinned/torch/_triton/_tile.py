"""The mask of a tile of probabilities: a bit for each position, and some neighbours along a row in a word.

A tile is multiplied by the tensor cores, in whose layout a thread holds few neighbours of a row. So the bits
are drawn in a layout of their own, where each call of the generator is made once, and only they are moved.
"""

# mypy: disable-error-code="import-untyped, no-untyped-call, no-untyped-def, untyped-decorator"

import triton
import triton.language as tl

from thinned.torch._triton._bits import halfword_at, words

# How the positions of a row lie, which decides what is drawn for the neighbours of a word.
ALIGNED = tl.constexpr(0)  # one after another, from a multiple of eight on: a call for eight
CONSECUTIVE = tl.constexpr(1)  # one after another: one more call for a word
APART = tl.constexpr(2)  # a step from one to the next: a call for each
NOTHING = tl.constexpr(3)  # p is 0: no mask is drawn

_TOPS = tl.constexpr(0x80008000)
_ONES = tl.constexpr(0x00010001)
_ALL = tl.constexpr(0xFFFFFFFF)


@triton.jit
def keep_bits(position, step, seed, stream, drop, HOW: tl.constexpr, CALLS: tl.constexpr):
    """For each position a word whose bit i says whether position + i · step is kept, i < 8 · CALLS."""
    if HOW == APART:
        bits = _one_by_one(position, step, seed, stream, drop, CALLS)
    else:
        bits, ties = consecutive_bits(position, seed, stream, drop, HOW, CALLS)
        if drop & 0xFFFF != 0:  # noqa: SIM102 (Triton evaluates both sides of an `and`)
            # One position in 65,536 ties, and as many seem to: one tile of 64 · 64 in eight goes this way.
            if tl.max(tl.max((ties & _TOPS != 0).to(tl.int32), 1), 0) != 0:
                bits = _exactly(position, seed, stream, drop, HOW, CALLS)
    return tl.where(drop < 4294967296, bits, 0)


@triton.jit
def spread(bits, along: tl.constexpr, CALLS: tl.constexpr):
    """Whether each element of a tile is kept; words lie along its dimension `along`."""
    SPAN: tl.constexpr = 8 * CALLS
    ROWS: tl.constexpr = bits.shape[0]
    COLUMNS: tl.constexpr = bits.shape[1]
    # Each word from its own place. The compiler gives the words to the threads that want their bits; of what
    # is gathered it cannot make anew, in each thread, what the words are made of.
    place = tl.arange(0, bits.shape[along])
    place = place[None, :] if along == 1 else place[:, None]
    bits = tl.gather(bits, tl.broadcast_to(place, [ROWS, COLUMNS]), along)
    bit = (tl.full([SPAN], 1, tl.uint32) << tl.arange(0, SPAN).to(tl.uint32)).to(tl.uint32)
    if along == 1:
        each = bits[:, :, None] & bit[None, None, :]
        kept = tl.reshape(each, [ROWS, COLUMNS * SPAN]) != 0
    else:
        each = bits[:, None, :] & bit[None, :, None]
        kept = tl.reshape(each, [ROWS * SPAN, COLUMNS]) != 0
    return kept


@triton.jit
def consecutive_bits(position, seed, stream, drop, HOW: tl.constexpr, CALLS: tl.constexpr):
    """The words as if none tied, and words with bit 15 or 31 set wherever a halfword may."""
    block = position >> 3
    bits, ties = _pairs(block, seed, stream, drop)
    if CALLS == 4:
        more, others = _pairs(block + 2, seed, stream, drop)
        bits |= more << 16
        ties |= others
    if HOW == CONSECUTIVE:
        last, others = _call(block + CALLS, seed, stream, drop, False)
        ties |= others
        last = (last | (last >> 15)) & 0xFF
        shift = (position & 7).to(tl.uint32)
        bits = (bits >> shift) | ((last << (8 * CALLS - 1 - shift)) << 1)
    return bits, ties


@triton.jit
def any_ties(bits, ties, position, seed, stream, drop, HOW: tl.constexpr, CALLS: tl.constexpr):
    """The words (of one dimension), by the whole rule if any of them seems to tie."""
    if tl.max((ties & _TOPS != 0).to(tl.int32), 0) != 0:
        bits = _exactly(position, seed, stream, drop, HOW, CALLS)
    return bits


@triton.jit
def _exactly(position, seed, stream, drop, HOW: tl.constexpr, CALLS: tl.constexpr):
    """The words. A loop, since this is seldom run: written out, it is most of a program's code."""
    block = position >> 3
    bits = position.to(tl.uint64) * 0
    for i in range(CALLS + 1 if HOW == CONSECUTIVE else CALLS):
        more, _ = _call(block + i, seed, stream, drop, True)
        bits |= ((more | (more >> 15)) & 0xFF).to(tl.uint64) << (8 * i)
    if HOW == CONSECUTIVE:
        bits = bits >> (position & 7).to(tl.uint64)
    return bits.to(tl.uint32)


@triton.jit
def _pairs(block, seed, stream, drop):
    """Sixteen bits, of two calls."""
    bits, ties = _call(block, seed, stream, drop, False)
    more, others = _call(block + 1, seed, stream, drop, False)
    bits |= more << 8
    return (bits | (bits >> 15)) & 0xFFFF, ties | others


@triton.jit
def _call(block, seed, stream, drop, EXACT: tl.constexpr):
    """Bits of a call's even positions at 0, 2, 4 and 6, and of its odd ones 16 above."""
    high = (drop >> 16).to(tl.uint32)
    w0, w1, w2, w3 = words(block, seed, stream, 0)
    k0, t0 = _at_least(w0, high)
    k1, t1 = _at_least(w1, high)
    k2, t2 = _at_least(w2, high)
    k3, t3 = _at_least(w3, high)
    if EXACT:
        low = (drop & 0xFFFF).to(tl.uint32)
        l0, l1, l2, l3 = words(block, seed, stream, 1)
        k0 &= _decided(w0, l0, high, low)
        k1 &= _decided(w1, l1, high, low)
        k2 &= _decided(w2, l2, high, low)
        k3 &= _decided(w3, l3, high, low)
    bits = ((k0 >> 15) & 0x00010001) | ((k1 >> 13) & 0x00040004)
    bits |= ((k2 >> 11) & 0x00100010) | ((k3 >> 9) & 0x00400040)
    return bits, t0 | t1 | t2 | t3


@triton.jit
def _at_least(word, least):
    """Words whose bits 15 and 31 say, for each half of a word, that it is ≥ least; and that it may be equal.

    The top bits are set before the subtraction, so that nothing is borrowed across halves.
    """
    rest = (word | _TOPS) - (least & 0x7FFF) * _ONES
    either = ((least >> 15) & 1) - 1  # all bits, or none
    return (word & rest) | (either & (word ^ rest)), rest & ((rest - _ONES) ^ _ALL)


@triton.jit
def _decided(word, low_word, high, low):
    """Bits 15 and 31 are 0 just where a half is equal to high and that of the low words is below low."""
    other = word ^ (high * _ONES)
    unequal = ((other | _TOPS) - _ONES) | other
    at_least, _ = _at_least(low_word, low)
    return unequal | at_least


@triton.jit
def _one_by_one(position, step, seed, stream, drop, CALLS: tl.constexpr):
    high, low = (drop >> 16).to(tl.int32), (drop & 0xFFFF).to(tl.int32)
    bits = position.to(tl.uint32) * 0
    for i in range(8 * CALLS):
        h = halfword_at(position, seed, stream, 0)
        kept = h >= high
        if low != 0:
            kept = kept & ((h != high) | (halfword_at(position, seed, stream, 1) >= low))
        bits |= kept.to(tl.uint32) << i
        position += step
    return bits
