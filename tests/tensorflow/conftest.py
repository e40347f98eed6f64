"""What the tests of tf.nn share.

TensorFlow is imported where it is used: a process that only hands out tests reads this file too.
"""

import pytest

LATER = [pytest.param(name, marks=pytest.mark.full) for name in ("function", "xla")]


@pytest.fixture(params=["eager", "session", *LATER])
def way(request):
    """Ways to run a function; what it makes of its arguments is said where the graph is made.

    By all of them test_nn.py has the masks, and test_dropout.py what stands beneath.
    """
    from tensorflow_nn_ways import WAYS

    return WAYS[request.param]
