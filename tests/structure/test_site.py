"""The documentation site, as far as it shows without building it: its nav, its links, its reference."""

import ast
import importlib.util
import re
from functools import cache
from pathlib import Path

from public_names import public_names

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SOURCES = ROOT / "src"
PAGES = sorted(DOCS.rglob("*.md"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRACT.md", ROOT / "CHANGELOG.md", *PAGES]
NAV = (DOCS / "_site" / "mkdocs.yml").read_text().partition("\nnav:\n")[2].partition("\nextra:")[0]


def built():
    """The script that builds the site, as a module; what it needs to build is not imported."""
    spec = importlib.util.spec_from_file_location("site_build", DOCS / "_site" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def in_nav():
    return re.findall(r"^ +- (?:[^#\n]+: )?(\S+\.md)$", NAV, re.MULTILINE)


def test_the_nav_names_every_page_once_and_no_other():
    brought = set(built().BROUGHT.values())
    pages = {page.relative_to(DOCS).as_posix() for page in PAGES}
    rules = {page for page in pages if page.startswith("audit/THN")}
    assert sorted(in_nav()) == sorted((pages - rules) | brought)


def test_the_reference_has_every_public_name():
    """Those of test_public.py, which asks for docstrings too; build.py reads them from the sources."""
    named = built().public_names()
    missing = {module: set(names) - set(named.get(module, ())) for module, names in public_names().items()}
    assert not any(missing.values()), missing


def test_the_reference_names_no_private_file():
    """What is for readers of the sources is a comment."""
    for module in built().public_names():
        path = SOURCES / module.replace(".", "/")
        tree = ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text())
        for node in (tree, *(one for one in tree.body if isinstance(one, ast.ClassDef | ast.FunctionDef))):
            assert not re.findall(r"`_[a-z]\w*", ast.get_docstring(node) or ""), module


@cache
def anchors(page):
    """The anchors of a page's headings, as a code forge makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def test_anchors_of_links_are_headings():
    for document in DOCUMENTS:
        text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
        for path, anchor in re.findall(r"\]\(([^)\s#:]*)#([^)\s]+)\)", text):
            target = (document.parent / path).resolve() if path else document
            assert anchor in anchors(target), f"{document}: {path}#{anchor}"


def test_what_differs_on_the_site():
    build = built()
    names = {"thinned.torch.convert"}
    page = "docs/torch/keys.md"
    assert build.leading(page, "../../CONTRACT.md#3-the-mask") == "../contract.md#3-the-mask"
    assert build.leading(page, "../../examples/data_parallel.py").startswith("https://")
    assert build.leading(page, "convert.md") == "convert.md"
    shown = build.linked("use `thinned.torch.convert` or `thinned.torch._site`", names)
    assert shown == "use [`thinned.torch.convert`][thinned.torch.convert] or `thinned.torch._site`"
    assert build.linked("## `thinned.torch.convert`", names) == "## `thinned.torch.convert`"
    assert build.example("```python\n>>> 1\n1\n\n```") == "```pycon\n>>> 1\n1\n```"


def test_an_equation_is_cut_at_wide_spaces_alone():
    parts = built().parts
    assert parts(r"a = \frac{b}{c} \qquad d") == [r"a = \frac{b}{c}", "d"]
    assert parts(r"\begin{aligned} a \qquad b \end{aligned}") == [r"\begin{aligned} a \qquad b \end{aligned}"]


def test_a_package_whose_names_are_in_its_modules_has_a_page():
    public = built().public_names()
    assert public["thinned.torch.integrations"] == []
    assert public["thinned.torch.integrations.lightning"]
