"""`predict` of every front end has the same parameters, in one order, with the same defaults."""

import ast
from pathlib import Path

import pytest

MC = Path(__file__).parents[2] / "src" / "thinned" / "mc"
SHARED = {
    "samples": "100",
    "key": "None",
    "outputs": "None",
    "shared": "False",
    "batch_size": "None",
    "first": "0",
    "memory": "2 ** 30",
    "tolerance": "None",
    "keep": "False",
    "progress": "False",
}
# What only one has: its reason is the front end's.
OWN = {
    "torch/_predict.py": {"batch_dim": "0", "also": "()"},  # any layout; modules of any library
    "torch/_predictor.py": {"batch_dim": "0", "also": "()"},
    "keras/_predict.py": {},
    "jax/_predict.py": {},
    "ray/_predict.py": {
        "index": None,  # columns, and workers
        "inputs": "'x'",
        "also": "()",
        "keep_columns": "()",
        "workers": "None",
        "num_cpus": "1",
        "num_gpus": "0",
    },
}
ELSEWHERE = {
    "torch/_predictor.py": {"first", "progress"},  # of a call, which takes milliseconds
    "ray/_predict.py": {"first", "keep", "progress"},  # the column `index`; files; Ray's own bars
}
OTHERWISE = {"ray/_predict.py": {"batch_size": "BATCH"}}  # bits depend on it there


def parameters(file):
    """Keyword parameters and defaults of the file's public function or constructor."""
    tree = ast.parse((MC / file).read_text())
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name in ("predict", "__init__") and node.args.kwonlyargs
    ]
    (function,) = found
    defaults = [None if one is None else ast.unparse(one) for one in function.args.kw_defaults]
    return dict(zip((one.arg for one in function.args.kwonlyargs), defaults, strict=True))


@pytest.mark.parametrize("file", OWN)
def test_every_predict_has_the_same_parameters_order_and_defaults(file):
    found, own = parameters(file), OWN[file]
    assert {name: found.pop(name) for name in own} == own
    wanted = {name: one for name, one in SHARED.items() if name not in ELSEWHERE.get(file, ())}
    wanted |= OTHERWISE.get(file, {})
    assert list(found.items()) == list(wanted.items())


def test_every_predict_is_listed():
    files = [file for file in MC.rglob("*.py") if "\ndef predict(" in file.read_text()]
    assert {str(file.relative_to(MC)) for file in files} == set(OWN) - {"torch/_predictor.py"}
