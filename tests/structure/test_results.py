"""Classes that public functions return are public: `thinned.results` has those that functions make."""

import importlib
import inspect
import types
import typing

from public_names import public_names


def classes(annotation):
    """Those of ours in an annotation."""
    if inspect.isclass(annotation) and annotation.__module__.startswith("thinned"):
        yield annotation
    for part in typing.get_args(annotation):
        yield from classes(part)


def functions(name, item):
    """A public function, or the public methods of a class of ours, with what they are called."""
    if inspect.isfunction(item):
        yield name, item
    elif inspect.isclass(item) and item.__module__.startswith("thinned"):
        for own, method in vars(item).items():
            if inspect.isfunction(method) and (own == "__call__" or not own.startswith("_")):
                yield f"{name}.{own}", method


def returned(function):
    """Of a function's result; nothing where its type is another package's that only checkers import."""
    said = function.__annotations__.get("return")
    try:
        return set(classes(eval(said, function.__globals__) if isinstance(said, str) else said))
    except (NameError, TypeError):
        return set()


def test_a_class_that_a_public_function_returns_can_be_imported():
    items = {
        f"{module}.{name}": getattr(importlib.import_module(module), name)
        for module, names in public_names().items()
        for name in names
    }
    public = {item for item in items.values() if inspect.isclass(item)}
    hidden = {
        f"{found.__module__}.{found.__qualname__}, of {called}"
        for path, item in items.items()
        for called, function in functions(path, item)
        for found in returned(function) - public
    }
    assert hidden == set()


def test_a_hidden_class_is_seen():
    class Hidden:
        __module__ = "thinned._hidden"

    def function() -> "list[Hidden | None]": ...

    seen = types.FunctionType(function.__code__, {"Hidden": Hidden})
    seen.__annotations__ = function.__annotations__
    assert returned(seen) == {Hidden}
