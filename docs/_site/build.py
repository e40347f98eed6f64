"""Build the documentation site into build/docs/site: `build.py`, or `build.py --stage` for the pages alone.

The Markdown files of docs/ stay as a code forge shows them. What differs on the site is changed in a copy:
links that leave docs/, equations, prompts, and names of the interface, which become links to the reference.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from posixpath import relpath

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "docs"
PAGES = BUILD / "pages"
FORGE = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Source"] + "/blob/main/"
# Files outside docs/ that are pages of the site.
BROUGHT = {"CONTRACT.md": "contract.md", "CHANGELOG.md": "changelog.md"}
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
CODE = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.DOTALL | re.MULTILINE)
EXACT_NAME = re.compile(r"(?<![\[`])`(thinned(?:\.\w+)+)`(?![`\]])")


def public_names() -> dict[str, list[str]]:
    """Public modules with their `__all__`, read from the sources: nothing is imported."""
    import ast

    found = {}
    for file in sorted((ROOT / "src").rglob("*.py")):
        parts = file.relative_to(ROOT / "src").with_suffix("").parts
        if any(part.startswith("_") for part in parts if part != "__init__"):
            continue
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.Assign | ast.AnnAssign) and ast.unparse(node).startswith("__all__"):
                module = ".".join(part for part in parts if part != "__init__")
                found[module] = sorted(ast.literal_eval(node.value))
    return {module: names for module, names in found.items() if not module.startswith("thinned.cli")}


def targets(public: dict[str, list[str]]) -> set[str]:
    """Every name that the reference has an anchor for."""
    return {f"{module}.{name}" for module, names in public.items() for name in names} | set(public)


def on_the_site(page: str, text: str, names: set[str]) -> str:
    """A page's Markdown with what differs on the site; `page` is its path in docs/ or in the repository."""
    pieces = CODE.split(text)
    for place, piece in enumerate(pieces):
        if piece.startswith("```"):
            pieces[place] = example(piece)
        elif not piece.startswith("`"):
            pieces[place] = LINK.sub(
                lambda link: link[1] + leading(page, link[2]) + link[3], equations(piece)
            )
    return "\n".join(linked(line, names) for line in "".join(pieces).split("\n"))


def linked(line: str, names: set[str]) -> str:
    """Names of the interface become links to the reference, but in headings and in links."""
    if line.startswith(("#", "    ", ">>>", "...")) or "](" in line:
        return line
    return EXACT_NAME.sub(lambda name: f"[`{name[1]}`][{name[1]}]" if name[1] in names else name[0], line)


def example(block: str) -> str:
    """A fence with prompts is a session of Python's, whose prompts are coloured as such."""
    if block.startswith("```python\n") and "\n>>> " in block:
        block = block.replace("```python\n", "```pycon\n", 1)
    return re.sub(r"\n\n```$", "\n```", block)


def equations(text: str) -> str:
    """Equations of TeX as MathML, which browsers draw without a script."""
    from latex2mathml.converter import convert

    def block(tex: str) -> str:
        return "".join(convert(part, display="block") for part in parts(tex))

    text = re.sub(
        r"\$\$(.+?)\$\$",
        lambda tex: f'<div class="equation">{block(tex[1])}</div>',
        text,
        flags=re.DOTALL,
    )
    # In a span: a line that begins with <math> would be a block of HTML to Markdown.
    return re.sub(r"(?<![\\$\w])\$([^$\n]+?)\$(?![\w$])", lambda tex: f"<span>{convert(tex[1])}</span>", text)


def parts(equation: str) -> list[str]:
    """The parts of an equation between wide spaces, which stand below each other where the page is narrow."""
    found = [part.strip() for part in equation.split(r"\qquad")]
    whole = all(part.count("{") == part.count("}") and r"\begin" not in part for part in found)
    return [part for part in found if part] if whole else [equation.strip()]


def leading(page: str, link: str) -> str:
    """Where a link of this page leads on the site; files that are no page are shown by the forge."""
    if re.match(r"[a-z]+:|#", link):
        return link
    path, mark, anchor = link.partition("#")
    target = (ROOT / page).parent.joinpath(path).resolve().relative_to(ROOT).as_posix()
    if target in BROUGHT:
        there = BROUGHT[target]
    elif (
        target.startswith("docs/") and (ROOT / target).suffix in (".md", ".svg") and (ROOT / target).is_file()
    ):
        there = target.removeprefix("docs/")
    else:
        return FORGE + target + mark + anchor
    here = BROUGHT.get(page, page.removeprefix("docs/"))
    return relpath(there, Path(here).parent.as_posix()) + mark + anchor


def stage() -> None:
    """Copy what the site is made of, changed for the site."""
    shutil.rmtree(BUILD, ignore_errors=True)
    ignored = shutil.ignore_patterns("*.py", "*.yml", "__pycache__")
    shutil.copytree(ROOT / "docs", PAGES, ignore=ignored)
    public = public_names()
    names = targets(public)
    for file in sorted(PAGES.rglob("*.md")):
        page = "docs/" + file.relative_to(PAGES).as_posix()
        file.write_text(on_the_site(page, file.read_text(), names))
    for source, page in BROUGHT.items():
        (PAGES / page).write_text(on_the_site(source, (ROOT / source).read_text(), names))
    sources(names)
    configure(reference(public))


def sources(names: set[str]) -> None:
    """Copy the sources, whose docstrings become the reference."""
    shutil.copytree(
        ROOT / "src" / "thinned", BUILD / "sources" / "thinned", ignore=shutil.ignore_patterns("*.so")
    )
    for file in (BUILD / "sources").rglob("*.py"):
        text = re.sub(r"^( +)Example:$", r"\1Examples:", file.read_text(), flags=re.MULTILINE)
        file.write_text(
            EXACT_NAME.sub(lambda name: f"[`{name[1]}`][{name[1]}]" if name[1] in names else name[0], text)
        )


def reference(public: dict[str, list[str]]) -> list[str]:
    """Write a page for each public module, and the index of all names; return the pages."""
    folder = PAGES / "api"
    folder.mkdir(exist_ok=True)
    index = (folder / "README.md").read_text().rstrip() + "\n\n"
    pages = []
    for module, names in public.items():
        inside = [other for other in public if other.rpartition(".")[0] == module]
        if not names and not inside:
            continue
        here = [name for name in names if f"{module}.{name}" not in public]
        listed = "".join(f"\n        - {name}" for name in here)
        text = f"::: {module}\n    options:\n      members:{listed or ' []'}\n"
        inner = [f"[`{other}`]({other}.md)" for other in inside]
        (folder / f"{module}.md").write_text(
            text + ("\nModules: " + ", ".join(inner) + "\n" if inner else "")
        )
        listed = [f"[`{one}`][{module}.{one}]" for one in here] or inner
        index += f"- [{module}]({module}.md): " + ", ".join(listed) + "\n"
        pages.append(f"api/{module}.md")
    (folder / "README.md").write_text(index)
    return pages


def configure(pages: list[str]) -> None:
    """The configuration, with the pages that were made in its nav."""
    text = (Path(__file__).parent / "mkdocs.yml").read_text()
    rules = sorted(file.relative_to(PAGES).as_posix() for file in (PAGES / "audit").glob("THN*.md"))
    for index, made in (("api/README.md", pages), ("audit/README.md", rules)):
        listed = "".join(f"\n      - {Path(page).stem}: {page}" for page in made)
        text = text.replace(f"      - {index}", f"      - {index}{listed}")
    (BUILD / "mkdocs.yml").write_text(text)


def build() -> int:
    """Run the generator: a warning is an error."""
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    return subprocess.run(command, cwd=BUILD, check=False).returncode


if __name__ == "__main__":
    stage()
    if "--stage" not in sys.argv:
        sys.exit(build())
