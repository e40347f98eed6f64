"""What a user sees: public names, what importing loads, and examples that run."""

import ast
import doctest
import importlib
import importlib.util
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from public_names import public_names
from sources import FILES, module_of

import thinned
from thinned.cli import main

ROOT = Path(__file__).parents[2]
NEEDS = {
    "thinned.torch.transformers": ["transformers"],
    "thinned.torch.integrations.transformers": ["transformers"],
    "thinned.torch.integrations.lightning": ["lightning"],
}

PUBLIC = public_names()
NO_SENTENCE = tuple(f"{word} " for word in ["How", "What", "Where", "Whether", "Which", "Who", "Why"])


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names(name):
    module = importlib.import_module(name)
    assert sorted(module.__all__) == PUBLIC[name]
    for public in module.__all__:
        item = getattr(module, public)
        said = inspect.getdoc(item)
        assert said, f"{name}.{public} has no docstring"
        assert not said.startswith(NO_SENTENCE), f"{name}.{public}: a sentence has a verb of its own"
        if callable(item) and item.__module__.startswith("thinned."):
            assert "Example" in item.__doc__ or not inspect.signature(item).parameters, public


@pytest.mark.parametrize("name", PUBLIC)
def test_dir_of_a_package_shows_its_public_names_and_nothing_else(name):
    module = importlib.import_module(name)
    if hasattr(module, "__path__"):
        assert dir(module) == PUBLIC[name]


# Of programs, which the command line runs; and of packages that are not installed with the tests.
NOT_LISTED = {"averages", "bench", "cli", "contract", "demo"}


def test_every_public_package_is_listed_and_shows_its_names():
    source = ROOT / "src"
    for file in source.rglob("__init__.py"):
        parts = file.relative_to(source).parts[:-1]
        if any(part.startswith("_") for part in parts) or {*parts[1:2]} & NOT_LISTED:
            continue
        assert ".".join(parts) in PUBLIC
        assert "\ndef __dir__()" in file.read_text(), f"{file} needs __dir__: see thinned/mc/__init__.py"


CODE = """
import json, sys
packages = lambda: {name.split('.')[0] for name in sys.modules}
loaded = []
for first, statement in json.loads(sys.argv[1]):
    exec(first)
    before = packages()
    exec(statement)
    loaded.append(sorted(packages() - before))
print(json.dumps(loaded))
"""


def loaded_by(*steps, **environment):
    """For each pair of statements the packages that the second loads after the first, in one process.

    What the standard library has, and what the interpreter starts with in this environment, is not counted.
    """
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", CODE, json.dumps(steps)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    own = set(sys.stdlib_module_names)
    return [
        {name for name in set(one) - own if not name.startswith("_") and "scikit_build" not in name}
        for one in json.loads(result.stdout.splitlines()[-1])
    ]


# What a framework's part of the package loads shows only where no other part has loaded it before: so each of
# two frameworks comes before the other in one of the two orders.
FRAMEWORKS = {
    "jax": "import thinned.jax, thinned.mc.jax",
    "equinox": "import thinned.equinox",
    "flax.linen, flax.nnx": "import thinned.flax",
    "torch": "import thinned.torch, thinned.mc.torch",
    "tensorflow": "import thinned.tensorflow",
}


def test_importing_loads_numpy_alone_and_a_worker_of_ray_no_torch():
    own, of_worker = loaded_by(
        ("pass", "import thinned, thinned.mc, thinned.mc.ray"),
        ("pass", "import thinned.mc.ray._read, thinned.mc.ray._read"),
    )
    assert own == {"numpy", "thinned"}
    assert "torch" not in of_worker


@pytest.mark.full  # 10 s each; tests/structure/test_layers.py reads in the sources who imports whom
@pytest.mark.parametrize("order", [list(FRAMEWORKS), list(FRAMEWORKS)[::-1]], ids=["forward", "backward"])
def test_importing_loads_no_other_framework_and_no_tool(order):
    tools = [("pass", "import thinned.cli.mc, thinned.mc.torch")]
    steps = [("pass", "import thinned"), *((f"import {one}", FRAMEWORKS[one]) for one in order)]
    _, *of_frameworks, of_tools = loaded_by(*steps, *tools)
    assert dict(zip(order, of_frameworks, strict=True)) == {name: set() for name in order}
    assert "ray" not in of_tools


# In the quick tier tests/keras asks the same of each backend's process, of frameworks alone.
@pytest.mark.full
@pytest.mark.parametrize("backend", ["torch", "jax", "tensorflow"])
def test_importing_for_keras_loads_no_other_framework_and_no_tool(backend):
    (loaded,) = loaded_by(("import keras", "import thinned.keras"), KERAS_BACKEND=backend)
    assert loaded - {"numpy"} == {"thinned"}


def modules():
    """Those with an example; a module that needs a package is skipped where it is not installed."""
    for file in FILES:
        if ">>> " in file.read_text():
            name = module_of(file)
            lacking = [one for one in NEEDS.get(name, ()) if importlib.util.find_spec(one) is None]
            skip = [pytest.mark.skip(reason=f"{', '.join(lacking)} is not installed")] if lacking else []
            yield pytest.param(name, marks=skip)


@pytest.mark.parametrize("name", [*modules()])
def test_examples_in_docstrings(name):
    module = importlib.import_module(name)
    threads = thinned._kernel._threads
    try:
        result = doctest.testmod(module, extraglobs={"np": importlib.import_module("numpy")})
    finally:
        thinned._kernel._threads = threads
    assert result.failed == 0


def test_examples_in_docstrings_import_what_they_name():
    """Here all front ends are loaded by other tests; a user copies one example into a new interpreter."""
    front_ends = "torch|jax|keras|tensorflow|flax|equinox|mc|exact|audit|averages|testing"
    lacking = []
    for file in FILES:
        source = file.read_text()
        for node in ast.walk(ast.parse(source)) if ">>> " in source else ():
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                continue
            examples = doctest.DocTestParser().get_examples(ast.get_docstring(node) or "")
            code = "".join(example.source for example in examples)
            for named in set(re.findall(rf"(?<![\w.])thinned\.(?:{front_ends})\b", code)):
                imported = re.search(rf"(?:import|from) (?:[^\n]*\b)?{re.escape(named)}\b", code)
                if not imported and not module_of(file).startswith(named):
                    lacking.append((module_of(file), named))
    assert lacking == []


@pytest.mark.parametrize("name", ["README.md", "benchmarks/README.md"])
def test_commands_in_documents(name):
    """Every `thinned …` line is one that the command line takes: no unknown command, option or value."""
    lines = re.findall(r"^(?:\$ )?thinned (.+?)(?:  +#.*)?$", (ROOT / name).read_text(), re.MULTILINE)
    assert lines
    for line in lines:
        command, *arguments = shlex.split(line)
        main.commands[command].make_context(command, arguments)


# XLA compiles for six seconds; mc/test_jax.py and test_jax_modules.py have what it shows.
SLOW = ("docs/mc/jax.md",)


def with_examples():
    for page in sorted((ROOT / "docs").rglob("*.md")):
        if ">>> " in page.read_text():
            name = str(page.relative_to(ROOT))
            yield pytest.param(name, marks=pytest.mark.full) if name in SLOW else name


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # the compiler's own
@pytest.mark.parametrize("name", ["README.md", *with_examples()])
def test_examples_in_documents(name):
    torch.compiler.reset()  # or what other tests compiled counts towards the limit of recompilations
    result = doctest.testfile(
        str(ROOT / name), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert result.attempted > 0
    assert result.failed == 0
