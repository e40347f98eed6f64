"""The kernel of `thinned::numbers`: random numbers by a key, for what is not a product with a mask."""

# mypy: disable-error-code="import-untyped, no-untyped-call, no-untyped-def, untyped-decorator"

import triton
import triton.language as tl

from thinned.torch._triton._dropout import offsets
from thinned.torch._triton._normal import deviates, deviates_at, whole, whole_at

# Kinds, as the operator names them.
WORD = tl.constexpr(0)
UNIFORM = tl.constexpr(1)
MIDDLE = tl.constexpr(2)
NORMAL = tl.constexpr(3)


@triton.jit(do_not_specialize=["seed", "stream", "base"])
def numbers(
    out,
    key,
    seed: tl.int64,
    stream: tl.int64,
    base: tl.int64,
    sizes,
    position_steps,
    key_steps,
    elements,
    KIND: tl.constexpr,
    CALLS: tl.constexpr,
    DENSE: tl.constexpr,
    KEY_HERE: tl.constexpr,
):
    """A number for each element of `out`, which is contiguous; where DENSE, eight to a call."""
    begin = tl.program_id(0).to(tl.int64) * 8 * CALLS
    index = begin + tl.arange(0, 8 * CALLS)
    inside = index < elements
    seed, stream = seed.to(tl.int64), stream.to(tl.int64)
    if DENSE:
        if KEY_HERE:
            seed, stream = tl.load(key), tl.load(key + 1)
        block = (base.to(tl.int64) + begin) >> 3
        v = deviates(block, seed, stream, CALLS) if KIND == NORMAL else whole(block, seed, stream, 0, CALLS)
    else:
        _, _, position, key_at, _ = offsets(
            index, sizes, position_steps, position_steps, position_steps, key_steps, key_steps
        )
        position += base.to(tl.int64)
        if KEY_HERE:
            seed = tl.load(key + key_at, mask=inside, other=0)
            stream = tl.load(key + key_at + 1, mask=inside, other=0)
        v = deviates_at(position, seed, stream) if KIND == NORMAL else whole_at(position, seed, stream, 0)
    if KIND == UNIFORM:
        v = (v >> 8).to(tl.float64) * 0.000000059604644775390625
    elif KIND == MIDDLE:
        v = (v.to(tl.float64) + 0.5) * 0.00000000023283064365386962890625
    tl.store(out + index, v.to(out.dtype.element_ty), mask=inside)
