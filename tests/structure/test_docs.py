"""The documents: linked; and the pages of docs/torch: complete, and with pictures that their script draws."""

import importlib
import re
from importlib.metadata import version
from pathlib import Path

import pytest
from gpu_page import kernels
from public_names import public_names

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "torch"
PAGES = sorted(FOLDER.glob("*.md"))
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# What is about all families, and not one of them.
GENERAL = {
    "README",
    "compile",
    "convert",
    "cuda",
    "differences",
    "distributed",
    "flex",
    "integrations",
    "keys",
    "schedules",
    "thin-cost",
    "thin-fixed",
    "thin-from",
    "tools",
    "transformers",
}
FAMILIES = [page for page in PAGES if page.stem not in GENERAL]
# Public names, and the folder whose pages have them.
MODULES = {
    "thinned.equinox": "equinox",
    "thinned.flax.linen": "flax",
    "thinned.flax.nnx": "flax",
    "thinned.jax": "jax",
    "thinned.keras": "keras",
    "thinned.mc": "mc",
    "thinned.mc.ray": "mc",
    "thinned.tensorflow.compat.v1.layers": "tensorflow",
    "thinned.tensorflow.compat.v1.nn": "tensorflow",
    "thinned.tensorflow.nn": "tensorflow",
    "thinned.torch": "torch",
    "thinned.torch.flex": "torch",
    "thinned.torch.functional": "torch",
    "thinned.torch.nn": "torch",
    "thinned.torch.schedules": "torch",
}
HEADINGS = ["Example", "Arguments worth knowing", "Cost", "What others do differently", "Source"]


def name_of(path):
    return path.stem


@pytest.fixture(scope="module")
def pictures():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        yield importlib.import_module("pictures")


@pytest.mark.parametrize("page", FAMILIES, ids=name_of)
def test_a_familys_page_has_its_parts_in_order(page):
    text = page.read_text()
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS
    head, example, *_, source = re.split(r"^## .+$", text, flags=re.MULTILINE)
    equation, picture = head.index("\n$$\n"), re.search(r"^!\[[^\]]{20,}\]\((.+\.svg)\)$", head, re.MULTILINE)
    assert picture, "no picture before the example, or one without words"
    assert equation < picture.start()
    assert ">>> " in example
    assert re.search(r"\b(19|20)\d\d\b", source), "a source has a year"
    assert "../../CONTRACT.md" in source
    assert 35 <= len(text.splitlines()) <= 100


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_in_the_pages(module):
    text = "\n".join(page.read_text() for page in (ROOT / "docs" / MODULES[module]).glob("*.md"))
    names = importlib.import_module(module).__all__
    missing = [name for name in names if not re.search(rf"(?<!\w){name}(?!\w)", text)]
    assert not missing


def test_every_verb_and_layer_has_a_row_of_the_gpus_page():
    """Which kernel it has there, tests/triton/census.py sees."""
    public = public_names()
    verbs = [*public["thinned.torch.functional"], *public["thinned.torch.flex"]]
    layers = [name for name in public["thinned.torch.nn"] if name[0].isupper()]
    assert {name.partition(" ")[0] for name in kernels()} == {*verbs, *layers}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_equations_are_what_github_draws(page):
    """Markdown takes a backslash off before punctuation, and GitHub refuses the macro below."""
    for equation in re.findall(r"\$\$(.*?)\$\$", page.read_text(), re.DOTALL):
        assert not re.search(r"\\[^A-Za-z\s\\]|\\operatorname", equation), equation
        assert equation.count("{") == equation.count("}")


def test_every_page_is_in_the_index():
    index = (FOLDER / "README.md").read_text()
    assert [page.name for page in PAGES if page.stem != "README" and f"]({page.name})" not in index] == []


def test_links_lead_somewhere():
    for document in DOCUMENTS:
        text = re.sub(r"```.*?```|\$\$.*?\$\$|`[^`\n]*`", "", document.read_text(), flags=re.DOTALL)
        links = re.findall(r"\]\(([^)\s]+)\)", text)
        relative = [link.partition("#")[0] for link in links if not re.match(r"https?:|#", link)]
        assert [link for link in relative if not (document.parent / link).exists()] == [], document


def test_no_empty_line_cuts_a_table():
    """A table's first row has a rule of dashes below it; a row after an empty line would be plain text."""
    for document in DOCUMENTS:
        lines = ["", *document.read_text().split("\n")]
        for above, line, below in zip(lines, lines[1:], lines[2:], strict=False):
            if line.startswith("|") and not above.startswith("|"):
                assert re.fullmatch(r"\|[\s:|-]+\|", below), f"{document}: {line}"


def test_a_fence_closes_after_an_empty_line():
    """Else doctest takes it for output, and a page whose last line prints cannot pass."""
    for page in PAGES:
        for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
            assert block.endswith("\n\n") or ">>> " not in block, page.name


def test_pictures_have_a_function_each_and_a_page(pictures):
    drawn = pictures.PICTURES
    assert list(drawn) == sorted(drawn)
    assert sorted(drawn) == sorted(file.stem for file in FOLDER.glob("*.svg"))
    text = "\n".join(page.read_text() for page in PAGES)
    assert [name for name in drawn if f"]({name}.svg)" not in text] == []


@pytest.mark.full  # drawing all takes four seconds, and no code depends on it
def test_pictures_are_what_the_script_draws(pictures):
    """To the byte, where the drawing library is the one that drew them."""
    pinned = re.search(r"^matplotlib==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]
    if version("matplotlib") != pinned:
        pytest.skip(f"matplotlib {version('matplotlib')} is not the {pinned} of constraints.txt")
    stale = [name for name in pictures.PICTURES if pictures.svg(name) != (FOLDER / f"{name}.svg").read_text()]
    assert not stale, "run `make pictures`"
