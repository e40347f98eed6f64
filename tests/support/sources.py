"""The package's Python sources, each read and parsed once by a process."""

import ast
from functools import cache
from pathlib import Path

import thinned

ROOT = Path(thinned.contract.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))


@cache
def nodes(file):
    """Every node of a file's syntax tree."""
    return list(ast.walk(ast.parse(file.read_text())))


def relative(file):
    """A file's path below the package."""
    return file.relative_to(ROOT).as_posix()


def module_of(file):
    """The name by which it is imported."""
    return ".".join(("thinned", *file.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
