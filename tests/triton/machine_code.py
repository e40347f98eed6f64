"""What Triton's compiler makes of each launch, for GPUs that need not be here: the way from there to numbers
is the GPU's own, but for what the code says itself."""

import re

import pytest
import torch
import triton
import triton.language as tl
from absent_gpu import instructions
from arrays import DTYPES, launch, numbers, rate

from thinned import Key
from thinned.torch import _key
from thinned.torch._triton import _launch, _launch_block, _launch_norm

KEY = Key(3, 5)
# Whether numbers are widened and rounded is all that tells one dtype's code from another's: a kernel takes
# a second or two to compile.
WIDENED = [pytest.param(d, marks=pytest.mark.full) if d in DTYPES[1:3] else d for d in DTYPES]
BITS = _key.key_to_tensor(KEY)


@pytest.mark.covering(strength=1)
@pytest.mark.parametrize("made", [80, 90], indirect=True)
@pytest.mark.parametrize("dtype", WIDENED, ids=str)
def test_memory_is_moved_16_bytes_at_a_time(made, dtype):
    x = torch.empty(2**15 + 1, dtype=dtype)  # and one that is left over
    launch(x, 0.1, KEY)
    _launch.add(x, x, BITS, rate(0.1), 0)
    for kernel in made:
        ptx = kernel.asm["ptx"]
        for move in ("ld", "st"):
            assert re.search(rf"{move}\.global\.(v4\.b32|v2\.b64)", ptx), move
    if dtype.itemsize == 2:
        # Eight positions are 16 bytes: what a thread draws is for what it reads, and nothing is exchanged.
        assert "convert_layout" not in made[0].asm["ttgir"]


@pytest.mark.parametrize("dtype", WIDENED, ids=str)
def test_arithmetic_rounds_as_the_contract_says(made, dtype):
    """No product and sum in one rounding, no denormal number taken for zero."""
    x = numbers(2**12, dtype)
    launch(x, 0.1, KEY)
    _launch.add(x, x, BITS, rate(0.1), 0)
    launch(x.reshape(64, 64).t(), 0.1, KEY)
    assert len(made) == 3
    rounds_by_itself(made)


@pytest.mark.full
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_arithmetic_of_alpha_and_blocks_rounds_as_their_definition_says(made, dtype):
    """A product and a sum are two roundings in alpha dropout, and a product one in the others."""
    x = numbers((4, 6, 8, 16), dtype)
    for kind in ("alpha", "slope"):
        for strides in (None, (6, 1, 0, 0)):
            _launch.dropout(x, torch.empty_like(x), BITS, rate(0.1), True, 0, strides, kind)
    _launch_block.drop_block(x, BITS, rate(0.1), (3, 3), 0, 6 * 6 * 14, True, False)
    assert len(made) == 8
    rounds_by_itself(made)


@pytest.mark.full
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.usefixtures("small_tensors_are_in_device_memory")
def test_alphas_numbers_of_a_p_in_memory_are_computed_in_double(made, dtype):
    x = numbers(2**12, dtype)
    _launch.dropout(x, torch.empty_like(x), BITS, rate(0.1), True, 0, None, "alpha")
    (kernel,) = made
    rounds_by_itself(made)
    for operation in ("div.rn.f64", "sqrt.rn.f64"):
        assert operation in kernel.asm["ptx"]
    assert re.search(r"ld\.global\.(v4\.b32|v2\.b64)", kernel.asm["ptx"])


@pytest.mark.full  # three seconds
def test_arithmetic_of_normal_deviates_rounds_as_their_definition_says(made):
    x = numbers(2**12)
    _launch.dropout(x, torch.empty_like(x), BITS, rate(0.1), True, 0, None, "noise")
    rounds_by_itself(made)
    assert "sqrt.rn.f64" in made[0].asm["ptx"]
    assert "div.rn.f64" in made[0].asm["ptx"]


def rounds_by_itself(made):
    for kernel in made:
        ptx = kernel.asm["ptx"]
        assert not re.search(r"\bfma\.|\.ftz|\.approx|div\.full", ptx)
        # Without `.rn`, the assembler may make one instruction of a product and a sum.
        assert not re.search(r"\b(mul|add|sub)\.f", ptx)


@pytest.mark.usefixtures("small_tensors_are_in_device_memory")
@pytest.mark.parametrize(
    "dtype", [pytest.param(torch.float32, marks=pytest.mark.full), torch.bfloat16], ids=str
)
def test_key_and_p_are_read_from_memory(made, dtype):
    launch(numbers(2**12, dtype), torch.tensor(0.1, dtype=dtype), KEY)
    launch(numbers((64, 64), dtype).t(), 0.1, torch.stack([BITS] * 64))
    _launch.fold(BITS[None], torch.tensor([5]))
    for kernel in made:
        assert re.search(r"ld\.global\.(b64|v2\.b64)", kernel.asm["ptx"])
    assert "div.rn.f64" in made[0].asm["ptx"]


@pytest.fixture
def small_tensors_are_in_device_memory(monkeypatch):
    monkeypatch.setattr(_launch, "_on", lambda input, small: True)


def test_a_new_key_or_p_or_position_compiles_nothing(made):
    x = torch.empty(2**12)
    for number in (0, 1, 16, 2**31, 2**40):
        launch(x, (number % 7 + 0.5) / 8, Key(number, number + 1))
        launch(x, 0.1, KEY, global_shape=(2**50,), start=(number * 8,))
    assert len({id(kernel) for kernel in made}) == 1


@pytest.mark.parametrize("shape", [pytest.param((3, 5), marks=pytest.mark.full), (2, 3, 4, 5, 6)])
def test_any_rank(made, shape):
    launch(numbers(shape).movedim(0, -1), 0.1, KEY)
    launch(numbers(shape), 0.1, KEY, noise_shape=tuple(1 if d % 2 else None for d in range(len(shape))))
    assert len(made) == 2


@pytest.mark.parametrize(
    ("dtype", "width", "rms"),
    [
        (torch.bfloat16, 1024, False),
        (torch.float32, 96, True),
        pytest.param(torch.float16, 20, False, marks=pytest.mark.full),
        pytest.param(torch.float64, 20, True, marks=pytest.mark.full),
    ],
    ids=str,
)
def test_norms(made, dtype, width, rms):
    x = numbers((64, width), dtype)
    weight, bias = numbers(width, dtype), None if rms else numbers(width, dtype)
    what = (BITS, rate(0.1))
    for base in (0, 8, 2**40):  # one kernel serves all blocks, and one way back
        found = _launch_norm.forward(x, x, weight, bias, *what, 1e-5, rms, width, base)
        rest = (*what, rms, width, dtype, dtype, base)
        _launch_norm.backward(x, x, found[1], weight, bias, *found[2:], *rest)
    assert len({id(kernel) for kernel in made}) == 2
    for kernel in made:
        if width % 16 == 0:  # else a mask has no sixteen bytes of one kind
            assert re.search(r"ld\.global\.(v4\.b32|v2\.b64)", kernel.asm["ptx"])


@triton.jit
def rounds_in_int64(words, out, ROUNDS: tl.constexpr):
    """Products as _plain makes them, and Inductor from that."""
    i = tl.arange(0, 128)
    a = tl.load(words + i)
    for _ in tl.static_range(ROUNDS):
        product = a * (0xD2511F53 - 4294967296)
        a = (((product >> 32) + a) ^ product ^ 0x9E3779B9) & 0xFFFFFFFF
    tl.store(out + i, a)


@pytest.mark.full
def test_a_product_in_int64_is_one_wide_product_of_32_bits(made):
    """So docs/torch/compile.md says of `inductor.fused`."""
    counts = []
    for rounds in (4, 12):
        words = torch.empty(128, dtype=torch.int64)
        rounds_in_int64[(1,)](words, torch.empty_like(words), ROUNDS=rounds)
        names = instructions(made[-1])
        counts.append((len(names), sum(name.startswith("IMAD.WIDE.U32") for name in names)))
    (least, few), (most, many) = counts
    assert many - few == 8
    assert most - least <= 3 * 8
