"""Equality to the bit, which NaN and negative zero make more than `==`."""

import numpy as np


def assert_equal_bits(ours, reference):
    """Same dtype, shape and bits, but for the payload of a NaN."""
    ours = np.asarray(ours)
    assert (ours.dtype, ours.shape) == (reference.dtype, reference.shape)
    nan = np.isnan(reference.astype(np.float64))
    np.testing.assert_array_equal(np.isnan(ours.astype(np.float64)), nan)
    kept = ~nan.reshape(-1)
    bits = np.dtype(f"u{reference.dtype.itemsize}")
    ours, reference = (np.ascontiguousarray(x).reshape(-1).view(bits)[kept] for x in (ours, reference))
    np.testing.assert_array_equal(ours, reference)
