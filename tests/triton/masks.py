"""The kernel's masks and values: those of the NumPy front end, to the bit."""

import hashlib
import math

import numpy as np
import pytest
import torch
from arrays import DTYPES, array, launch, numbers, reference
from equal_bits import assert_equal_bits
from known_answers import NUMBERS

from thinned import Key
from thinned.torch import _key
from thinned.torch._triton import _bits, _launch

KEY = Key(2**63 + 11, 2**40 + 3)


@pytest.mark.parametrize(
    ("shape", "p", "key", "kept", "digest"),
    [
        ((1000,), 0.1, Key(42, 7), 918, "0a115cad0721bf632c29a01cb034ba99fd13916e7913baf343fd90fd33edf0db"),
        ((65536,), 0.3, KEY, 45905, "3b8e885e75b7ef6513bc2c1d0b1cec9b26fcfb5dd44fc8886605245cb18c79dd"),
        (
            (257, 3, 5),
            0.001,
            Key(1),
            3853,
            "ff2138fcb8f99d3e7c7ef7ddb0dc26ee6b696937b932dd9ff56c37aa6a64c90a",
        ),
    ],
)
def test_known_answers(shape, p, key, kept, digest):
    mask = array(launch(torch.ones(shape), p, key)) != 0
    assert mask.sum() == kept
    assert hashlib.sha256(mask.view(np.uint8).tobytes()).hexdigest() == digest


@pytest.mark.covering(strength=1)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [1, 7, 8, 9, 255, 1024, 4095, 4096, 4097, 9000])
def test_sizes(size, dtype):
    x = numbers(size, dtype)
    assert_equal_bits(array(launch(x, 0.3, KEY)), reference(x, 0.3, KEY))


@pytest.mark.parametrize("start", [1, 2**31 - 3, 2**32 - 5, 2**34 - 7, 2**35 - 5, 2**61 - 1, 2**63 - 200])
def test_starts(start):
    x = numbers(200)
    where = {"global_shape": (2**63,), "start": (start,)}
    assert_equal_bits(array(launch(x, 0.25, Key(9, 9), **where)), reference(x, 0.25, Key(9, 9), **where))
    # The same positions one by one: a step of 3 among them makes rows impossible.
    x = numbers((60, 1))
    where = {"global_shape": (2**63 // 3, 3), "start": (min(start, 2**63 - 200) // 3, 1)}
    assert_equal_bits(array(launch(x, 0.25, Key(9, 9), **where)), reference(x, 0.25, Key(9, 9), **where))


TIES = [28166, 43346, 166986, 174685, 206461, 245668, 614574]


@pytest.mark.parametrize(("position", "kept"), list(zip(TIES, [0, 0, 0, 0, 1, 0, 1], strict=True)))
def test_ties(position, kept):
    first = position - position % 8 - 16
    for x, where in (
        (torch.ones(64), {"global_shape": (10**6,), "start": (first,)}),
        (torch.ones(32, 2).t()[:1], {"global_shape": (1, 10**6), "start": (0, first)}),
    ):
        y = launch(x, 0.1, Key(5, 5), **where)
        assert_equal_bits(array(y), reference(x, 0.1, Key(5, 5), **where))
        assert (y.flatten()[position - first] != 0) == kept


@pytest.mark.parametrize(("position", "own"), NUMBERS.items())
def test_a_position_is_kept_at_its_own_number_and_dropped_above(position, own):
    for x, where in (  # in rows of eight, and one by one
        (torch.ones(64), {"global_shape": (2**36,), "start": (position,)}),
        (torch.ones(32, 2).t()[:1], {"global_shape": (1, 2**36), "start": (0, position)}),
    ):
        assert launch(x, own / 2**32, Key(5, 5), **where).flatten()[0] != 0
        assert launch(x, (own + 1) / 2**32, Key(5, 5), **where).flatten()[0] == 0


def test_the_low_halfword_is_drawn_only_where_a_block_ties(monkeypatch):
    purposes = []
    words = _bits.words
    monkeypatch.setattr(_bits, "words", lambda *a: purposes.append(a[3]) or words(*a))
    x = torch.ones(2048)
    where = {"global_shape": (10**6,), "start": (28160,)}
    launch(x, 0.1, Key(5, 5), **where)
    assert purposes == [0, 1]
    purposes.clear()
    launch(x, 0.5, Key(5, 5), **where)  # D has no low half: the first halfword always decides
    launch(x, 0.1, Key(5, 5))
    assert purposes == [0, 0]


EXTREMES = [0.0, 2.0**-33, 2.0**-32, 1e-6, 2.0**-16, 0.5, 0.999, 0.99999, 1 - 2.0**-32, 1.0]


@pytest.mark.covering(strength=1)  # a mode is the factor, and p the threshold
@pytest.mark.parametrize("p", EXTREMES)
@pytest.mark.parametrize("mode", ["inverted", "classic"])
def test_extreme_probabilities(p, mode):
    for x in (numbers(3000), numbers((1000, 3)).t()):
        assert_equal_bits(array(launch(x, p, KEY, mode=mode)), reference(x, p, KEY, mode=mode))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_special_values(p, dtype):
    info = torch.finfo(dtype)
    special = [math.nan, math.inf, -math.inf, -0.0, 0.0, info.max, -info.max, info.tiny]
    special += [info.smallest_normal / 2, -info.smallest_normal * 1.5, 1.0, 1 + info.eps]
    x = torch.tensor(special, dtype=dtype).repeat(50)
    assert_equal_bits(array(launch(x, p, KEY)), reference(x, p, KEY))


def test_rounding_to_sixteen_bits_is_to_nearest_even():
    """Every float16 and every bfloat16: a scale of 1/0.9 meets all kinds of remainders."""
    for dtype in (torch.float16, torch.bfloat16):
        x = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype)
        assert_equal_bits(array(launch(x, 0.1, KEY)), reference(x, 0.1, KEY))


# Key and p in device memory.


@pytest.mark.usefixtures("small_tensors_are_read_in_the_kernel")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_key_and_p_are_read_by_the_kernel(dtype):
    p = torch.tensor(0.1, dtype=dtype)
    for x in (numbers(3000, dtype), numbers((300, 3), dtype).t()):
        for mode in ("inverted", "classic"):
            expected = reference(x, float(p), KEY, mode=mode)
            assert_equal_bits(array(launch(x, p, KEY, mode=mode)), expected)


@pytest.mark.usefixtures("small_tensors_are_read_in_the_kernel")
def test_the_threshold_is_rounded_to_even():
    """The scale of a double shows D to its last bit, where anything is kept."""
    halves = [(k + 0.5) / 2**32 for k in (0, 1, 2, 5, 2**31, 2**31 + 1, 2**32 - 2, 2**32 - 1)]
    near = [np.nextafter(p, up) for p in halves for up in (0.0, 1.0)]
    for p in [*halves, *near, *EXTREMES, 0.1, 1 / 3]:
        x = torch.ones(64, dtype=torch.float64)
        assert_equal_bits(array(launch(x, p, KEY)), reference(x, p, KEY))


@pytest.mark.usefixtures("small_tensors_are_read_in_the_kernel")
@pytest.mark.parametrize("p", [math.nan, math.inf, -0.1, 1.5, 1 + 2.0**-52])
@pytest.mark.parametrize("mode", ["inverted", "classic"])
def test_a_p_that_nobody_can_check_gives_nan(p, mode):
    assert launch(torch.ones(100), p, KEY, mode=mode).isnan().all()


def test_a_p_on_the_cpu_is_checked():
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\], got 1.5"):
        launch(torch.ones(3), 1.5, KEY)


# Keys folded.


@pytest.mark.parametrize("data", [0, 1, 123456789012, 2**60 - 1])
def test_fold(data):
    keys = [Key(1, 0), Key(1, 2), KEY, Key(2**64 - 1, 2**64 - 1)]
    tensor = torch.stack([_key.key_to_tensor(key) for key in keys])
    folded = _launch.fold(tensor, torch.tensor(data).expand(4))
    assert [_key.words_of(one) for one in folded] == [(k.seed, k.fold(data).stream) for k in keys]


def test_in_place():
    for x in (numbers(5000), numbers((40, 50)).t(), numbers((40, 50))[:, ::2]):
        expected = reference(x, 0.3, KEY)
        assert launch(x, 0.3, KEY, out=x) is x
        assert_equal_bits(np.ascontiguousarray(array(x)), expected)
