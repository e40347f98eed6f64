"""`make test FRAMEWORK=…` installs one framework: the tests of its folders import no other."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
MAKEFILE = (TESTS.parent / "Makefile").read_text()
FOLDERS = dict(re.findall(r"^FOLDERS_(\w+) :=(.*)$", MAKEFILE, re.MULTILINE))
# What comes with each; keras is tested on torch, and the suites of its other backends skip.
INSTALLED = {
    "numpy": set(),
    "torch": {"torch"},
    "jax": {"jax"},
    "flax": {"jax", "flax", "optax"},
    "equinox": {"jax", "equinox"},
    "tensorflow": {"tensorflow", "keras"},
    "keras": {"keras", "torch"},
}
OTHERS = {"torch", "jax", "flax", "optax", "equinox", "tensorflow", "keras", "triton", "ray", "transformers"}


def imported(file, seen):
    """Packages that a file needs when it is imported, and that its helpers of tests/support do."""
    if file in seen:
        return set()
    seen.add(file)
    found = set()
    for node in ast.parse(file.read_text()).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for first, *rest in (name.split(".") for name in names):
            found.add(rest[0] if first == "thinned" and rest else first)
            helper = TESTS / "support" / f"{first}.py"
            found |= imported(helper, seen) if helper.exists() else set()
    return found & OTHERS


def test_every_front_end_of_the_makefile_is_listed():
    assert set(FOLDERS) == set(INSTALLED)


@pytest.mark.parametrize("framework", INSTALLED)
def test_its_folders_import_no_other_framework(framework):
    folders = ["contract", "kernel", "numpy", *FOLDERS[framework].split()]
    files = [file for folder in folders for file in sorted((TESTS / folder).glob("test_*.py"))]
    assert files
    needs = {str(file.relative_to(TESTS)): imported(file, set()) - INSTALLED[framework] for file in files}
    assert {name: other for name, other in needs.items() if other} == {}
