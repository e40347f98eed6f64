"""A JAX without a name that the kernel needs is served by `jax.numpy`, and is told so."""

import warnings

import pytest

from thinned.jax import _compat, _native


def test_this_jax_has_every_name():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _compat.check_kernel()
    assert _compat.jet_rules


@pytest.mark.parametrize("path", _compat._OF_KERNEL)
def test_without_what_the_kernel_needs_jax_numpy_does_the_work(monkeypatch, path):
    gone = [name._replace(value=name.fallback) if name.path == path else name for name in _compat.ROOM.names]
    monkeypatch.setattr(_compat.ROOM, "names", gone)
    with pytest.warns(RuntimeWarning, match=rf"lacks {path}.*jax\.numpy"):
        assert not _native.register.__wrapped__()
