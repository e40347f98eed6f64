"""What the compiler makes of the attention kernels, for GPUs that need not be here."""

from types import SimpleNamespace

import pytest
import torch
import triton
import triton.language as tl
from absent_gpu import instructions
from arrays import rate

from thinned import Key
from thinned.bench._gpu_model import resources
from thinned.torch import _key
from thinned.torch._triton import _launch_attention, _tile

DROP = SimpleNamespace(
    key=_key.key_to_tensor(Key(3, 5)), p=rate(0.1), global_shape=None, start=None, step=None
)
# Of a thread, of which 255 are all that there are; and instructions of the generator for an element.
MOST_REGISTERS = 255
MOST_INSTRUCTIONS = {_tile.ALIGNED.value: 11.5, _tile.CONSECUTIVE.value: 14.5}


def compiled(E, dtype, S=512, mask=None, causal=False, backward=True):
    q = torch.empty(1, 2, 512, E, dtype=dtype)
    k, v = torch.empty(1, 2, S, E, dtype=dtype), torch.empty(1, 2, S, E, dtype=dtype)
    out, sums = torch.empty_like(q), torch.empty(1, 2, 512, 2)
    operands = (q, k, v, mask, causal, None, DROP, out, sums)
    _launch_attention.forward(*operands)
    if backward:
        grads = [torch.empty_like(each) for each in (q, k, v)]
        _launch_attention.backward(out, *operands, *grads, None if mask is None else torch.empty_like(mask))


def check(made):
    for kernel in made:
        registers, spilled = resources(kernel)
        assert registers <= MOST_REGISTERS
        assert not spilled
        assert kernel.metadata.shared <= 99 * 2**10  # of the least of these GPUs
        names = instructions(kernel)
        assert not [name for name in names if name.startswith(("LDL", "STL"))]
        # The tensor cores multiply, and what they multiply is read 16 bytes at a time.
        assert any("MMA" in name for name in names)
        assert any(name.startswith(("LDGSTS", "LDG")) and ".128" in name for name in names)


@pytest.mark.full  # seven seconds; what is spilled costs time and no value
def test_nothing_is_spilled_forward(made):
    compiled(64, torch.bfloat16, backward=False)
    check(made)


@pytest.mark.full
@pytest.mark.parametrize("made", [80, 90], indirect=True)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("E", [64, 128])
def test_nothing_is_spilled(made, E, dtype):
    compiled(E, dtype)
    assert len(made) == 3
    check(made)


@pytest.mark.full
@pytest.mark.parametrize("made", [80, 90], indirect=True)
@pytest.mark.parametrize("E", [64, 128])
def test_nothing_is_spilled_whatever_rows_and_masks_are(made, E):
    compiled(E, torch.bfloat16, S=515, causal=True)
    compiled(E, torch.bfloat16, mask=torch.empty(1, 2, 512, 512))
    assert len(made) == 7
    check(made)


@triton.jit(do_not_specialize=["start", "seed", "stream", "drop"])
def words_of_a_tile(
    out, start: tl.int64, row, seed: tl.int64, stream: tl.int64, drop: tl.int64, HOW: tl.constexpr
):
    """The generator's part of a tile of 64 by 128."""
    m, n = tl.arange(0, 64), tl.arange(0, 4)
    position = start.to(tl.int64) + (m.to(tl.int64) * row)[:, None] + (n * 32)[None, :]
    seed, stream = seed.to(tl.int64), stream.to(tl.int64)
    bits, ties = _tile.consecutive_bits(position, seed, stream, drop.to(tl.int64), HOW, 4)
    place = out + m[:, None] * 4 + n[None, :]
    tl.store(place, bits)
    tl.store(place + 256, ties)


@pytest.mark.covering(strength=1)
@pytest.mark.parametrize("made", [80, 90], indirect=True)
@pytest.mark.parametrize("how", MOST_INSTRUCTIONS)
def test_instructions_of_the_generator_for_an_element(made, how):
    words_of_a_tile[(1,)](torch.empty(512, dtype=torch.int32), 8, 4096, 1, 2, 3, HOW=how, num_warps=4)
    names = instructions(made[0])
    elements = 64 * 128 / 128
    assert len(names) / elements <= MOST_INSTRUCTIONS[how]
    # Ten rounds of two products for eight elements, each in one instruction but for the last round's halves.
    assert sum(name.startswith("IMAD.WIDE") for name in names) <= 2.8 * elements
