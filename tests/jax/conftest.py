"""What the tests of JAX share."""

from types import SimpleNamespace

import jax
import pytest

from thinned.jax import _dropout, _primitive


@pytest.fixture(params=["kernel", "jax.numpy"])
def way(request, monkeypatch):
    """Both ways in which the verbs are carried out on a CPU."""
    if request.param == "jax.numpy":
        plain = jax.jit(_primitive.dropout_plain, static_argnames=("strides", "inverted"))
        mask = jax.jit(_primitive.keep_plain, static_argnames=("shape", "strides"))
        monkeypatch.setattr(_dropout, "dropout_p", SimpleNamespace(bind=plain))
        monkeypatch.setattr(_dropout, "keep_p", SimpleNamespace(bind=mask))
    return request.param
