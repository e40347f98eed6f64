"""The kernels of DropBlock: seeds as bits, blocks grown from them, and the input by what is left of a sample.

A row of a map is words of 32 places, the first place in the lowest bit; a set bit is dropped.
"""

# mypy: disable-error-code="import-untyped, no-untyped-call, no-untyped-def, untyped-decorator"

import triton
import triton.language as tl

from thinned.torch._triton._bits import rate, value
from thinned.torch._triton._tile import any_ties, consecutive_bits

_ALL = tl.constexpr(0xFFFFFFFF)
# What a word and the one before it can grow by.
MOST = 32


@triton.jit(do_not_specialize=["seed", "stream", "drop", "factor", "base", "sample", "count"])
def seeds(
    out,
    key,
    p,
    seed: tl.int64,
    stream: tl.int64,
    drop: tl.int64,
    factor: tl.int64,
    base: tl.int64,
    sample: tl.int64,
    channels,
    rows,
    width,
    p_samples,
    p_channels,
    count: tl.int64,
    SPAN: tl.constexpr,
    HOW: tl.constexpr,
    KEY_HERE: tl.constexpr,
    P_HERE: tl.constexpr,
    P_MANY: tl.constexpr,
    INVERTED: tl.constexpr,
):
    """Words of the dropped seeds; positions of samples are `sample` apart, those of a sample consecutive."""
    index = tl.program_id(0).to(tl.int64) * SPAN + tl.arange(0, SPAN)
    inside = index < count
    index = tl.minimum(index, count.to(tl.int64) - 1)  # there is a p to read
    words = tl.cdiv(width, 32)
    begin, row = index % words * 32, index // words
    first, channel = row // rows // channels, row // rows % channels
    position = base + first * sample + (channel * rows + row % rows) * width + begin
    if KEY_HERE:
        seed, stream = tl.load(key), tl.load(key + 1)
    if P_MANY:
        p += first * p_samples + channel * p_channels
    drop, factor = rate(p, drop, factor, INVERTED, P_HERE)
    seed, stream = seed.to(tl.int64), stream.to(tl.int64)
    bits, ties = consecutive_bits(position, seed, stream, drop, HOW, 4)
    bits = any_ties(bits, ties, position, seed, stream, drop, HOW, 4)
    bits = tl.where(drop < 4294967296, bits, 0) ^ _ALL
    tl.store(out + index, (bits & _first(width - begin)).to(tl.int32, bitcast=True), mask=inside)


@triton.jit
def grow(
    seeds,
    out,
    parts,
    channels,
    depth,
    height,
    width,
    seed_depth,
    seed_height,
    seed_words,
    block_depth,
    block_height,
    block_width,
    chunks,
    SPAN: tl.constexpr,
    ONE: tl.constexpr,
):
    """Blocks of one sample: each seed, and the places behind it; and how many are dropped in this part.

    Where a row is ONE word, there is none before it.
    """
    sample, chunk = (tl.program_id(0) // chunks).to(tl.int64), tl.program_id(0) % chunks
    words = tl.cdiv(width, 32)
    index = chunk.to(tl.int64) * SPAN + tl.arange(0, SPAN)
    inside = index < channels.to(tl.int64) * depth * height * words
    k, row = index % words, index // words
    y, z, channel = row % height, row // height % depth, row // height // depth
    first = (sample * channels + channel) * seed_depth * seed_height
    here, before = (index * 0).to(tl.uint32), (index * 0).to(tl.uint32)
    for a in range(block_depth):
        for b in range(block_height):
            there = inside & (z >= a) & (z - a < seed_depth) & (y >= b) & (y - b < seed_height)
            at = seeds + (first + (z - a) * seed_height + (y - b)) * seed_words + k
            here |= tl.load(at, mask=there & (k < seed_words), other=0).to(tl.uint32, bitcast=True)
            if not ONE:
                behind = there & (k > 0) & (k <= seed_words)
                before |= tl.load(at - 1, mask=behind, other=0).to(tl.uint32, bitcast=True)
    both = (here.to(tl.uint64) << 32) | before.to(tl.uint64)
    window = 1
    for _ in tl.static_range(6):
        step = tl.minimum(window, block_width - window)
        both |= both << step.to(tl.uint64)
        window += step
    grown = (both >> 32).to(tl.uint32) & _first(width - k * 32)
    tl.store(
        out + sample * channels * depth * height * words + index,
        grown.to(tl.int32, bitcast=True),
        mask=inside,
    )
    tl.store(parts + tl.program_id(0), tl.sum(tl.where(inside, _number(grown), 0), 0))


@triton.jit(do_not_specialize=["each", "chunks"])
def scales(parts, out, each: tl.int64, chunks, SPAN: tl.constexpr):
    """Of a sample its size over the number kept; 0 where nothing is."""
    sample = tl.program_id(0).to(tl.int64)
    lost = tl.zeros([SPAN], tl.int64)
    for begin in range(0, chunks, SPAN):
        lane = begin + tl.arange(0, SPAN)
        lost += tl.load(parts + sample * chunks + lane, mask=lane < chunks, other=0)
    size = each.to(tl.int64)
    rest = size - tl.sum(lost, 0)
    factor = size.to(tl.float64) / tl.maximum(rest, 1).to(tl.float64)
    tl.store(out + sample, tl.where(rest > 0, factor, 0.0))


@triton.jit
def blocks(
    x,
    out,
    words,
    factors,
    sizes,
    inverses,
    halvings,
    x_steps,
    out_steps,
    places,
    x_sample,
    out_sample,
    words_sample,
    elements,
    chunks,
    SPAN: tl.constexpr,
    DENSE: tl.constexpr,
    SMALL: tl.constexpr,
    SCALED: tl.constexpr,
):
    """A part of one sample. `places` are steps through the bits of its words."""
    sample, chunk = (tl.program_id(0) // chunks).to(tl.int64), tl.program_id(0) % chunks
    begin = chunk.to(tl.int64) * SPAN
    lane = tl.arange(0, SPAN)
    index = (begin + lane).to(tl.int32) if SMALL else begin + lane
    x_at, out_at, bit = _at(index, sizes, inverses, halvings, x_steps, out_steps, places, SMALL)
    x += sample * x_sample
    out += sample * out_sample
    if DENSE:
        x_at, out_at = index, index
    if elements - begin >= SPAN:
        v = tl.load(x + begin + lane) if DENSE else tl.load(x + x_at)
    else:
        v = tl.load(x + x_at, mask=index < elements)
    word = tl.load(words + sample * words_sample + (bit >> 5), mask=index < elements, other=0)
    word = word.to(tl.uint32, bitcast=True)
    kept = (word >> (bit & 31).to(tl.uint32)) & 1 == 0
    factor = tl.load(factors + sample) if SCALED else (sample * 0 + 1).to(tl.float64)
    y = value(v, kept, factor)
    if elements - begin >= SPAN:
        if DENSE:
            tl.store(out + begin + lane, y)
        else:
            tl.store(out + out_at, y)
    else:
        tl.store(out + out_at, y, mask=index < elements)


@triton.jit
def _at(index, sizes, inverses, halvings, x_steps, out_steps, places, SMALL: tl.constexpr):
    """Where the element of an index stands: in input, output and bits.

    Where numbers are SMALL, below 2^31, a quotient is the high word of a product, halved some times: 3
    instructions, where a division is 25.
    """
    x_at, out_at, bit = index * 0, index * 0, index * 0
    for d in tl.static_range(len(sizes)):
        rest = index * 0
        if d < len(sizes) - 1:
            if SMALL:
                product = index.to(tl.uint32).to(tl.uint64) * inverses[d].to(tl.uint32).to(tl.uint64)
                rest = ((product >> 32).to(tl.uint32) >> halvings[d]).to(tl.int32)
            else:
                rest = index // sizes[d]
        at = index - rest * sizes[d]
        index = rest
        x_at += at * x_steps[d]
        out_at += at * out_steps[d]
        bit += at * places[d]
    return x_at, out_at, bit


@triton.jit
def _first(places):
    """So many of a word's lowest bits, all of them from 32 on."""
    one = (places * 0 + 1).to(tl.uint32)
    some = (one << tl.minimum(places, 31).to(tl.uint32)) - 1
    return tl.where(places >= 32, _ALL, some).to(tl.uint32)


@triton.jit
def _number(word):
    """How many bits are set."""
    word = word - ((word >> 1) & 0x55555555)
    word = (word & 0x33333333) + ((word >> 2) & 0x33333333)
    word = (word + (word >> 4)) & 0x0F0F0F0F
    word = word + (word >> 8)
    return ((word + (word >> 16)) & 0x3F).to(tl.int32)
