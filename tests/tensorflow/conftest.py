"""What the tests of tf.nn share.

TensorFlow is imported where it is used: a process that only hands out tests reads this file too.
"""

import pytest


@pytest.fixture(params=["eager", "function", "xla", "session"])
def way(request):
    """Every way to run a function."""
    from tensorflow_nn_ways import WAYS

    return WAYS[request.param]
