"""mypy accepts the lines of the README and the guides as users copy them."""

import doctest
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    page
    for page in (ROOT / "README.md", DOCS / "quickstart.md", *sorted((DOCS / "guides").glob("*.md")))
    if ">>> " in page.read_text()
]
# What these pages do with other libraries' types, and is right: a gradient is there, a layer has weights.
THEIRS = ("union-attr", "import-untyped", "import-not-found", "misc", "no-untyped-call", "no-untyped-def")


def script(page):
    """The examples of a page as one module: each `_ =` is a name of its own, as types may differ."""
    examples = doctest.DocTestParser().get_examples(page.read_text())
    code = "\n".join(example.source for example in examples)
    return re.sub(r"^(\s*)_ = ", r"\1", code, flags=re.MULTILINE)


@pytest.mark.full  # mypy reads the frameworks' types
def test_mypy_accepts_the_documents_lines(tmp_path):
    api = pytest.importorskip("mypy.api", reason="mypy is not installed")
    files = []
    for page in PAGES:
        files.append(tmp_path / f"{page.stem.replace('-', '_')}_page.py")
        files[-1].write_text(script(page))
    options = [
        "--config-file",
        str(ROOT / "pyproject.toml"),
        "--allow-redefinition",
        "--disable-error-code=" + ",".join(THEIRS),
        "--python-executable",
        sys.executable,
    ]
    said, _, status = api.run([*options, *map(str, files)])
    assert status == 0, said
