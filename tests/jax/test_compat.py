"""JAX's private names stand in one file, and a JAX without one of them is served or refused in words."""

import ast
import importlib
import warnings
from pathlib import Path

import jax
import pytest

import thinned.jax
from thinned.jax import _compat, _native

PRIVATE = ("jax._src", "jax.extend", "jax.interpreters", "jax.experimental", "jaxlib")
FILES = sorted(Path(thinned.jax.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_private_names_are_imported_in_one_file(file):
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [name for name in names if name.startswith(PRIVATE)]
    assert not found, f"{file.name} imports {found}: thinned/jax/_compat.py is the place"


def test_this_jax_has_every_name():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _compat.check_kernel()
    assert _compat.jet_rules


def test_a_name_that_nothing_can_stand_in_for_is_named_with_the_version():
    for module, name in (("jax.interpreters", "gone"), ("jax.interpreters_that_are_gone", "ad")):
        with pytest.raises(
            ImportError, match=rf"thinned.jax needs {module}.{name}, which JAX {jax.__version__}"
        ):
            _compat._needed(module, name)


def test_without_what_the_kernel_needs_jax_numpy_does_the_work(monkeypatch):
    monkeypatch.delitem(_compat._kernel, "custom_partitioning")
    with pytest.warns(RuntimeWarning, match=r"lacks jax\.experimental\.custom_partitioning.*jax\.numpy"):
        assert not _native.register.__wrapped__()


def test_a_name_that_is_gone_is_left_out(monkeypatch):
    mesh = importlib.import_module("jax._src.mesh")
    monkeypatch.delattr(mesh, "get_concrete_mesh")
    assert "get_concrete_mesh" not in _compat._found(_compat._OF_KERNEL)
