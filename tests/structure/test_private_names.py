"""Names that other packages keep to themselves stand in one room of each front end, each with its purpose."""

import ast
import contextlib
import importlib
import importlib.util
import re
import sys
import types
from functools import cache

import pytest
from sources import FILES, nodes, relative

from thinned import _private

# Packages that their owners do not promise to keep, beside those with an underscore.
PRIVATE = (
    *("jax._src", "jax.extend", "jax.interpreters", "jax.experimental", "jaxlib"),
    *("flax.nnx.nn", "flax.nnx.rnglib", "flax.linen.dtypes", "flax.core", "equinox.internal"),
    *("keras.src", "tensorflow.python", "torch.testing", "ray.data.block", "ray.util.scheduling"),
)
# The language's own: what a named tuple has, and the frame that runs.
DOCUMENTED = {"_fields", "_replace", "_asdict", "_getframe"}
# Names by which another package calls us.
HOOKS = {
    "torch/_tools.py": {"_call_impl", "_slow_forward"},
    "keras/_attention.py": {"_compute_attention", "_compute_attention_mask", "_dropout_layer"},
    "keras/_cells.py": {"_create_dropout_mask"},
    "mc/keras/_patching.py": {"_create_dropout_mask"},
    "tensorflow/_graph.py": {"_c_func"},
}
ROOMS = {
    "thinned.torch._compat": "torch",
    "thinned.jax._compat": "jax",
    "thinned.flax._compat": "flax",
    "thinned.tensorflow._compat": "tensorflow",
    "thinned.keras._compat": "keras",
}


def is_private(name):
    return name.startswith("_") and not name.startswith("__") and name != "_" and name not in DOCUMENTED


@cache
def own_names():
    """Private names that the package itself defines, anywhere."""
    found = {"_native"}
    for file in FILES:
        found.add(file.stem)
        found.add(file.parent.name)
        for node in nodes(file):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.add(node.attr)
    return found


def in_a_room(file):
    return "_compat" in (file.stem, file.parent.name)


@cache
def kept_names():
    """Last parts of the rooms' names: no other file may spell them."""
    found = set()
    for file in FILES:
        for node in nodes(file) if in_a_room(file) else ():
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                found.add(str(node.args[0].value).rpartition(".")[2])
    return {name for name in found if is_private(name)}


def foreign(tree):
    """Every private name of another package in a file's nodes, as it is written."""
    own, kept = own_names(), kept_names()
    packages = set()
    for node in tree:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        names = [name for name in names if not name.startswith(("thinned", "__future__"))]
        if names:
            packages.update((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        yield from (
            name for name in names if name.startswith(PRIVATE) or any(map(is_private, name.split(".")))
        )
    for node in tree:
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            base = node.value
            while isinstance(base, ast.Attribute):
                base = base.value
            of_package = isinstance(base, ast.Name) and base.id in packages
            if of_package or node.attr not in own or node.attr in kept:
                yield node.attr
        elif isinstance(node, ast.FunctionDef) and node.name in kept:
            yield node.name
        elif isinstance(node, ast.Constant) and node.value in kept:
            yield node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.endswith("attr"):
            name = node.args[1]
            if isinstance(name, ast.JoinedStr):
                first = str(getattr(name.values[0], "value", ""))
                yield from [first] if first.startswith("_") and first != "__" else []
            elif isinstance(name, ast.Constant) and is_private(str(name.value)) and name.value not in own:
                yield name.value


def test_private_names_stand_in_their_room():
    for file in FILES:
        found = set(foreign(nodes(file))) - HOOKS.get(relative(file), set())
        assert in_a_room(file) or not found, (
            f"{relative(file)} uses {found}: its front end's _compat is the place"
        )


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("from torch._C import x", "torch._C.x"),
        ("from torch import _VF", "torch._VF"),
        ("import keras.src.backend", "keras.src.backend"),
        ("import torch\ntorch.nn._reduction", "_reduction"),
        ("def f(module): return module._parameters", "_parameters"),
        (
            "def f(module): return getattr(module, '_non_persistent_buffers_set')",
            "_non_persistent_buffers_set",
        ),
        ("def f(module, kind): return getattr(module, f'_{kind}_hooks')", "_"),
        ("def f(tensor): return tensor._version", "_version"),
        ("class Layer:\n    def _call_impl(self): pass", "_call_impl"),
    ],
)
def test_a_private_name_is_seen(code, name):
    assert set(foreign(list(ast.walk(ast.parse(code))))) == {name}


def test_own_private_names_are_no_others():
    code = "class A:\n    def f(self, other): return self._name, other._clock"
    assert not set(foreign(list(ast.walk(ast.parse(code)))))


def room(module):
    """The names of a room; none where its framework is not installed."""
    return importlib.import_module(module).ROOM.names if importlib.util.find_spec(ROOMS[module]) else []


@pytest.mark.parametrize("module", ROOMS)
def test_every_name_is_there_and_says_what_it_is_for(module):
    names = room(module)
    assert names
    for name in names:
        assert name.value is not name.fallback, f"{name.path} is gone: the fallback is at work"
        assert len(name.purpose) > 9
        assert name.instead


def without(module, path, monkeypatch):
    """The room as it is where its framework lacks a name."""
    real = _private.resolve

    def resolve(wanted):
        if wanted == path:
            raise AttributeError(wanted)
        return real(wanted)

    monkeypatch.setattr(_private, "resolve", resolve)
    for name in [name for name in sys.modules if name == module or name.startswith(f"{module}.")]:
        monkeypatch.setitem(sys.modules, name, sys.modules[name])  # is put back afterwards
        del sys.modules[name]
    front_end, _, room = module.rpartition(".")
    monkeypatch.setattr(sys.modules[front_end], room, None)
    return importlib.import_module(module)


# What a room itself uses, so that the front end cannot be imported.
AT_ONCE = ("torch._C.DispatchKeySet", "torch._C.DispatchKey")
USES = (
    lambda value: value(1),
    lambda value: value.anything,
    lambda value: isinstance(1, value),
    lambda value: value.__enter__(),
    lambda value: types.new_class("Derived", (value,)),
)


@pytest.mark.parametrize("module", ROOMS)
def test_without_a_name_there_is_its_fallback_or_a_message(module, subtests):
    package = importlib.import_module(ROOMS[module])
    for path in [name.path for name in room(module) if "." in name.path]:
        said = re.escape(f"this {package.__name__}, {package.__version__}, lacks {path}: thinned.")
        with subtests.test(path), pytest.MonkeyPatch.context() as patch:
            if path in AT_ONCE:
                with pytest.raises(ImportError, match=said):
                    without(module, path, patch)
                continue
            fresh = without(module, path, patch)
            if found := [one for one in fresh.ROOM.names if one.path == path]:  # or asked for later
                says_what_is_lacking(*found, said)


def says_what_is_lacking(name, said):
    assert name.value is name.fallback
    for use in USES if isinstance(name.value, _private.Missing) else ():
        with pytest.raises(ImportError, match=said + r"\w+ needs it to .+pip install"):
            use(name.value)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # the compiler's own
@pytest.mark.parametrize(
    ("module", "ask"), [("thinned.jax._compat", "pallas"), ("thinned.torch._compat", "inductor")]
)
def test_a_name_that_is_asked_for_late_has_its_message_too(module, ask):
    package = importlib.import_module(ROOMS[module])
    with pytest.MonkeyPatch.context() as patch:
        whole = without(module, "", patch)
        before = len(whole.ROOM.names)
        getattr(whole, ask)()
    late = [name.path for name in whole.ROOM.names[before:]]
    assert late
    for path in late:
        with pytest.MonkeyPatch.context() as patch:
            fresh = without(module, path, patch)
            with contextlib.suppress(ImportError):
                getattr(fresh, ask)()
        *_, name = (one for one in fresh.ROOM.names if one.path == path)
        says_what_is_lacking(
            name, re.escape(f"this {package.__name__}, {package.__version__}, lacks {path}: thinned.")
        )


@pytest.mark.parametrize("module", ROOMS)
def test_an_object_without_an_attribute_gets_its_fallback_or_a_message(module):
    for name in (one for one in room(module) if "." not in one.path):
        if isinstance(name.fallback, _private.Missing):
            with pytest.raises(ImportError, match=f"lacks {name.path}: "):
                name.value(object())
        else:
            assert name.value(object()) is name.fallback
