"""What a release says of itself: one version, links that work from outside the repository, and workflows."""

import re
import tomllib
from pathlib import Path

import thinned

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_file_names_one_version():
    version = PROJECT["project"]["version"]
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert cited is not None
    assert (thinned.__version__, cited[1]) == (version, version)


def test_a_package_index_shows_no_relative_link_and_no_equation():
    text = (ROOT / "README.md").read_text()
    relative = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith(("http", "#"))]
    (change,) = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]
    shown = re.sub(change["pattern"], change["replacement"], text)
    base = PROJECT["project"]["urls"]["Source"] + "/blob/main/"
    assert relative
    assert re.findall(rf"\]\({re.escape(base)}([^)]+)\)", shown) == relative
    assert not re.search(r"\]\((?!https?://|#)", shown)
    assert "$$" not in text


def test_the_tested_versions_are_the_declared_ones():
    shown = {
        name.removeprefix("Programming Language :: Python :: ")
        for name in PROJECT["project"]["classifiers"]
        if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", name)
    }
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert set(re.findall(r'"(3\.\d+)"', workflow)) == shown
    assert PROJECT["project"]["requires-python"] == f">={min(shown, key=lambda one: int(one[2:]))}"
