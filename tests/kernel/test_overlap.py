"""Whether elements of one array share memory, against counting their bytes."""

import itertools
import random

import numpy as np
import pytest

from thinned._overlap import overlaps_itself


def by_counting(shape, strides, item):
    seen = set()
    for index in itertools.product(*map(range, shape)):
        first = sum(i * step for i, step in zip(index, strides, strict=True))
        if not seen.isdisjoint(range(first, first + item)):
            return True
        seen.update(range(first, first + item))
    return False


def test_small_arrays_of_any_strides():
    draw, found = random.Random(0), [0, 0]
    for _ in range(4000):
        shape = [draw.choice([0, 1, 2, 2, 3, 4, 5]) for _ in range(draw.randint(0, 4))]
        strides = [draw.choice([-1, 1]) * draw.randint(0, 30) for _ in shape]
        item = draw.choice([1, 2, 4])
        expected = by_counting(shape, strides, item)
        assert overlaps_itself(shape, strides, item) == expected, (shape, strides, item)
        found[expected] += 1
    assert min(found) > 500


@pytest.mark.parametrize(
    ("shape", "strides", "expected"),
    [
        ((10**6, 3), (1, 1), True),
        ((10**6, 3), (3, 10**6 * 3 - 3), True),
        ((10**6, 3), (3, 10**6), False),  # interleaved, and no two meet
        ((2,) * 30, [2**k for k in range(30)], False),
        ((2**40, 2**40), (1, 0), True),
        ((2**62, 2), (2, 1), False),
    ],
)
def test_large_ones(shape, strides, expected):
    assert overlaps_itself(shape, strides) == expected


def test_what_is_too_hard_to_decide_counts_as_overlap():
    """A knapsack with a solution hidden among 2^40 combinations, and none within the steps allowed."""
    weights = [random.Random(k).randrange(2**38, 2**39) for k in range(40)]
    assert overlaps_itself((2,) * 40, weights)


def test_views_that_numpy_makes():
    x = np.ones(24, np.float32)
    window = np.lib.stride_tricks.sliding_window_view(x, 3)
    assert overlaps_itself(window.shape, window.strides, x.itemsize)
    assert overlaps_itself((4, 6), np.broadcast_to(x[:6], (4, 6)).strides, x.itemsize)
    for view in (
        x,
        x[::-2],
        x.reshape(4, 6).T,
        x.reshape(4, 6)[:, ::-2],
        x.reshape(2, 3, 4).transpose(1, 2, 0),
    ):
        assert not overlaps_itself(view.shape, view.strides, x.itemsize)
    packed = np.ones(8, dtype=[("a", "f4"), ("b", "u2")])["a"]
    assert not overlaps_itself(packed.shape, packed.strides, packed.itemsize)
