"""Functions of the front ends say the types of their arguments; mypy reads `typed_calls.py` for the rest."""

import importlib
import inspect

import pytest

MODULES = {
    "numpy": ("thinned",),
    "jax": ("thinned.jax",),
    "tensorflow": ("thinned.tensorflow", "thinned.tensorflow.nn", "thinned.tensorflow.compat.v1.nn"),
    "torch": ("thinned.torch.functional",),
}


@pytest.mark.parametrize(
    ("package", "name"), [(key, name) for key, names in MODULES.items() for name in names]
)
def test_no_argument_of_a_function_is_any(package, name):
    pytest.importorskip(package)
    module = importlib.import_module(name)
    functions = {each: getattr(module, each) for each in module.__all__}
    untyped = {
        f"{each}({argument.name})"
        for each, function in functions.items()
        if inspect.isfunction(function)
        for argument in inspect.signature(function).parameters.values()
        if argument.annotation in ("Any", inspect.Parameter.empty)
        and argument.kind not in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD)  # handed on as they are
    }
    assert untyped == set()
