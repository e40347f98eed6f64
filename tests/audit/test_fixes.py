"""Fixes and readings of texts that are laid out in unusual ways: what is mended parses, and is right."""

import ast
import json
import os

import pytest

pytest.importorskip("libcst")

from thinned.audit import check, check_text
from thinned.audit._fix import fixable, fixed_file, fixed_text
from thinned.audit._notebook import Notebook

HEAD = "import torch\nfrom torch import nn\nimport torch.nn.functional as F\n"
CALL = "class M(nn.Module):\n    def forward(self, x):\n        return F.dropout(x, 0.5)\n"
MENDED = CALL.replace("0.5)", "0.5, training=self.training)")


def mended(expression):
    """An expression in a method of a module, and what the fixes make of it."""
    text = HEAD + CALL.replace("F.dropout(x, 0.5)", expression)
    after, _ = fixed_text(text, fixable(check_text(text), unsafe=True))
    ast.parse(after)
    return after.rpartition("return ")[2].strip()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("F.dropout((x))", "F.dropout((x), training=self.training)"),
        ("F.dropout(x, p=((0.5)))", "F.dropout(x, p=((0.5)), training=self.training)"),
        ("F.dropout(x, (p := 0.5))", "F.dropout(x, (p := 0.5), training=self.training)"),
        ("F.dropout(y for y in x)", "F.dropout((y for y in x), training=self.training)"),
        (
            "F.dropout(\n x,  # a\n (\n .5\n ),  # b\n)",
            "F.dropout(\n x,  # a\n (\n .5\n ), training=self.training,  # b\n)",
        ),
        ("nn.Dropout((0.5))((x))", "F.dropout((x), (0.5), training=self.training)"),
        ("nn.Dropout(0.5)(y for y in x)", "F.dropout((y for y in x), 0.5, training=self.training)"),
        ("nn.Dropout(0.5)(*x)", "nn.Dropout(0.5)(*x)"),
        ("nn.Dropout(\n 0.5  # why\n)(x)", "nn.Dropout(\n 0.5  # why\n)(x)"),
        (
            "F.scaled_dot_product_attention(x, x, x, dropout_p=(self.a\n))",
            "F.scaled_dot_product_attention(x, x, x, dropout_p=(self.a\n) if self.training else 0.0)",
        ),
        ("nn.GRU(1, (2), dropout=(0.5))", "nn.GRU(1, (2))"),
    ],
)  # fmt: skip
def test_parentheses_stars_generators_and_comments(before, after):
    assert mended(before) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [("( m\n .eval\n)", "( m\n .eval\n)()"), ("m.eval; m.train", "m.eval(); m.train()")],
)
def test_methods_are_called_behind_their_parentheses(before, after):
    text = f"{before}  # dropout\n"
    assert fixed_text(text, check_text(text))[0] == f"{after}  # dropout\n"
    assert all("\n" not in finding.message for finding in check_text(text))


def test_keep_prob_in_parentheses():
    text = "import tensorflow as tf\ntf.nn.dropout(x, keep_prob=(0.5))\n"
    assert "tf.nn.dropout(x, rate=1 - ((0.5)))" in fixed_text(text, check_text(text, codes=["THN201"]))[0]


@pytest.mark.parametrize(
    "method", ["def forward(me, x)", "def forward(x)", "@staticmethod\n    def f(self, x)"]
)
def test_a_method_without_self_is_found_and_left(method):
    text = HEAD + CALL.replace("def forward(self, x)", method)
    [finding] = check_text(text)
    assert finding.code == "THN101"
    assert finding.fix is None


@pytest.mark.parametrize(
    ("before", "encoding"),
    [
        ("\x0c\n", "utf-8"),
        ('"""a\x0cb\x0bc\x1cd\u2028e\x85f"""\n', "utf-8"),
        ("s = '日本語😀'\r\n", "utf-8-sig"),
        ("s = 1\r", "utf-8"),
        ("# -*- coding: latin-1 -*-\ns = 'café'\n", "latin-1"),
    ],
    ids=["form feed", "separators", "byte order mark", "carriage return", "latin-1"],
)
def test_bytes_that_are_not_mended_stay(tmp_path, before, encoding):
    file = tmp_path / "a.py"
    raw = (before + HEAD + CALL).encode(encoding)
    file.write_bytes(raw)
    fixed = fixed_file(file, check([file]))
    assert fixed.after.encode(fixed.encoding) == raw.replace(CALL.encode(), MENDED.encode())
    silenced = (before + HEAD + CALL.replace("\n    def", "  # noqa\n    def")).encode(encoding)
    file.write_bytes(silenced.replace(b"0.5)\n", b"0.5)  # noqa: THN101\n"))
    assert check([file]) == []


def test_a_byte_order_mark_before_a_finding(tmp_path):
    file = tmp_path / "a.py"
    file.write_bytes(b"\xef\xbb\xbfmodel.eval  # dropout\n")
    fixed = fixed_file(file, check([file]))
    assert fixed.after.encode(fixed.encoding) == b"\xef\xbb\xbfmodel.eval()  # dropout\n"


@pytest.mark.parametrize(
    ("deep", "code"),
    [
        ("(" * 5000 + "1" + ")" * 5000, "THN000"),
        ("f(" * 201 + ")" * 201, "THN000"),
        ("[" * 90 + "]" * 90, "THN101"),
        ("a" + ".b()" * 250, "THN101"),
        (" + ".join("ab" * 1000), "THN101"),
        ("(" + "'a('\n" * 1000 + ")", "THN101"),
    ],
)
def test_deep_code_is_read_or_said_not_to_be(deep, code):
    assert [finding.code for finding in check_text(f"{HEAD}x = {deep}\n{CALL}")] == [code]


def test_what_is_no_file_is_passed_over(tmp_path):
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / ".#a.py").symlink_to("someone@somewhere")
    (tmp_path / "loop.py").symlink_to(tmp_path / "loop.py")
    (tmp_path / "again").symlink_to(tmp_path)
    assert check([tmp_path]) == []


def cell(source):
    return {"cell_type": "code", "source": source, "metadata": {}, "outputs": [], "execution_count": None}


@pytest.mark.parametrize(
    "other",
    ["x = (7\n  % 2)", "files = !ls *.py", "a, b = %who", "'''\n!dropout\n'''", "model?", "if x:\n    !ls"],
)
def test_what_ipython_adds_is_no_syntax_error(tmp_path, other):
    file = tmp_path / "a.ipynb"
    file.write_text(json.dumps({"cells": [cell(other), cell(HEAD + CALL)], "nbformat": 4}))
    [finding] = check([file])
    assert (finding.code, finding.cell, finding.start.line) == ("THN101", 2, 6)


@pytest.mark.parametrize("indent", [None, 1, 2, "\t"])
@pytest.mark.parametrize("as_lines", [True, False])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_notebook_keeps_its_layout(indent, as_lines, ascii_only):
    source = HEAD + "s = 'a\u2028é'\n" + CALL
    separators = (", ", ": ") if indent is None else (",", ": ")
    whole = {"cells": [cell(source.splitlines(True) if as_lines and ascii_only else source)], "nbformat": 4}
    text = json.dumps(whole, indent=indent, ensure_ascii=ascii_only, separators=separators)
    notebook = Notebook(text)
    after = notebook.with_cells({1: source.replace("0.5)", "0.25)")})
    if not as_lines or not ascii_only:
        assert after == text.replace("0.5)", "0.25)")
    assert json.loads(after)["nbformat"] == 4
    assert after.count("\n") >= text.count("\n") - 1
