"""The words of CONTRACT.md that no known answer covers."""

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_answers import NUMBERS

from thinned import Key, contract, scale, threshold

words = st.integers(0, 2**64 - 1)


@given(st.floats(0, 1))
def test_threshold_is_the_nearest_integer_ties_to_even(p):
    from fractions import Fraction

    exact = Fraction(p) * 2**32
    floor = math.floor(exact)
    rest = exact - floor
    expected = floor + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and floor % 2))
    assert threshold(p) == expected


def test_threshold_ends():
    assert threshold(0.0) == 0
    assert threshold(1.0) == 2**32
    assert threshold(0) == 0
    assert threshold(1) == 2**32
    assert threshold(2.0**-33) == 0  # a tie, to even
    assert threshold(3 * 2.0**-33) == 2


def test_p_is_the_number_that_the_argument_holds():
    assert threshold(np.float32(0.1)) == round(0.100000001490116119384765625 * 2**32) != threshold(0.1)
    assert threshold(np.float16(0.1)) == threshold(float(np.float16(0.1)))
    assert threshold(np.array(0.25)) == 2**30


def test_scale_is_guarded_at_one():
    assert scale(1.0) == 0.0
    assert scale(0.0) == 1.0
    assert scale(0.75) == 4.0


@pytest.mark.parametrize("value", [True, False, np.True_, "0.5", None, 1j, [0.5], np.array([0.5])])
def test_p_of_the_wrong_type(value):
    with pytest.raises(TypeError, match="p must be a real number, got"):
        threshold(value)


@pytest.mark.parametrize("value", [-0.1, 1.5, math.nan, math.inf, -math.inf, 2, -1])
def test_p_out_of_range(value):
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\], got"):
        threshold(value)


@pytest.mark.parametrize("name", ["seed", "stream"])
@pytest.mark.parametrize("value", [-1, 2**64])
def test_key_out_of_range(name, value):
    with pytest.raises(ValueError, match=rf"{name} must be in \[0, 2\^64\), got {value}"):
        Key(**{"seed": 0, name: value})


@pytest.mark.parametrize("value", [1.0, "1", None, True])
def test_key_of_the_wrong_type(value):
    with pytest.raises(TypeError, match="seed must be an integer, got"):
        Key(value)


def test_keys_compare_hash_and_take_numpy_integers():
    assert Key(np.uint64(2**64 - 1), np.int8(3)) == Key(2**64 - 1, 3)
    assert len({Key(1, 2), Key(1, 2), Key(2, 1)}) == 2
    with pytest.raises(AttributeError):
        Key(1).seed = 2


@pytest.mark.parametrize(
    ("data", "error"), [(-1, ValueError), (2**60, ValueError), (1.0, TypeError), (True, TypeError)]
)
def test_fold_refuses(data, error):
    with pytest.raises(error, match="data must be"):
        Key(0).fold(data)


@given(words, words, st.integers(0, 2**60 - 1))
def test_fold_uses_all_of_stream_and_data(seed, stream, data):
    key = Key(seed, stream)
    folded = key.fold(data)
    assert folded.seed == seed
    assert folded != key.fold(data ^ 1)
    assert folded != key.fold(data ^ 2**59)
    assert folded != Key(seed, stream ^ 2**63).fold(data)


@pytest.mark.parametrize(("position", "own"), NUMBERS.items())
def test_a_position_is_kept_at_its_own_number_and_dropped_above(position, own):
    assert contract.keep(Key(5, 5), [position], own).all()
    assert not contract.keep(Key(5, 5), [position], own + 1).any()


@given(words, words, st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**63 - 2000))
def test_masks_of_one_key_are_nested(seed, stream, p, larger, start):
    p, larger = sorted((p, larger))
    positions = np.arange(1000, dtype=np.uint64) + np.uint64(start)
    few = contract.keep(Key(seed, stream), positions, threshold(larger))
    many = contract.keep(Key(seed, stream), positions, threshold(p))
    assert not (few & ~many).any()


def test_bfloat16_rounding_is_to_nearest_even():
    bits = np.arange(2**16, dtype=np.uint16)
    wide = bits.view(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(contract.widen_bfloat16(bits), wide)
    with np.errstate(all="ignore"):
        for factor in (1.0, 1.1111111112260892, 0.3, 3.0, 1e-30):
            product = wide * np.float32(factor)
            got = contract.round_bfloat16(product)
            expected = product.astype(ml_dtypes.bfloat16)
            number = ~np.isnan(product)
            np.testing.assert_array_equal(got[number], expected.view(np.uint16)[number])
            assert np.isnan(contract.widen_bfloat16(got[~number])).all()


def test_half_precision_is_rounded_once():
    # 1.1111111 · x in float16 arithmetic rounds the scale first: another answer for many x.
    x = np.arange(1, 2, 2**-10, dtype=np.float16)
    once = (x.astype(np.float64) * np.float64(np.float32(scale(0.1)))).astype(np.float16)
    twice = x * np.float16(scale(0.1))
    np.testing.assert_array_equal(contract.multiply(x, scale(0.1)), once)
    assert (once != twice).sum() > 100
