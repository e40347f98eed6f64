"""What the tests of tf.nn share."""

import pytest
from tensorflow_nn_ways import WAYS


@pytest.fixture(params=WAYS)
def way(request):
    """Every way to run a function."""
    return WAYS[request.param]
