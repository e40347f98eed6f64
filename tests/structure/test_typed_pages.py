"""The lines of the README, the quickstart and the guides, as a type checker reads them."""

import doctest
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MYPY = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml"]
PAGES = [
    ROOT / "README.md",
    ROOT / "docs" / "quickstart.md",
    *sorted((ROOT / "docs" / "guides").glob("*.md")),
]
# A page gives a name another value further down, and its functions say no types, as most users' do.
AS_USERS_WRITE = [
    "--allow-redefinition",
    "--allow-untyped-defs",
    "--allow-incomplete-defs",
    "--allow-untyped-calls",
    "--allow-subclassing-any",
]
# Faults of the frameworks' own types: the line's beginning, and the error. mypy says which are none any more.
# Flax gives `apply` the type of what it returns with `mutable=`, too.
THEIRS = {"net.apply(variables, x, train=True": "union-attr"}


def lines_of(page):
    """What stands after `>>>`, with the page's line numbers."""
    lines = [""] * len(page.read_text().splitlines())
    for example in doctest.DocTestParser().get_examples(page.read_text()):
        for number, line in enumerate(example.source.splitlines(), example.lineno):
            codes = [code for start, code in THEIRS.items() if line.startswith(start)]
            lines[number] = line + "".join(f"  # type: ignore[{code}]" for code in codes)
    return lines


@pytest.mark.full
def test_a_type_checker_accepts_the_pages_lines(tmp_path):
    pytest.importorskip("mypy", reason="mypy is not installed")
    files = []
    for page in PAGES:
        if any(lines := lines_of(page)):
            # A module's name: unlike all others, and an identifier.
            module = page.relative_to(ROOT).with_suffix("").as_posix().replace("/", "_").replace("-", "_")
            files.append(tmp_path / f"page_{module}.py")
            files[-1].write_text("\n".join(lines) + "\n")
    assert len(files) > 10
    # A cache of its own: the options are others than those of `make lint`.
    cache = ROOT / ".mypy_cache" / "pages"
    done = subprocess.run(
        [*MYPY, "--cache-dir", cache, *AS_USERS_WRITE, *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
