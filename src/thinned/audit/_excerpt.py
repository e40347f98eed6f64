"""The part of a file that rules look at is cut out here, with its line numbers kept.

LibCST takes about a millisecond a line, Python's own parser a fiftieth of it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable

from thinned.audit._rule import Rule
from thinned.audit._text import lines, parsed

_LONG = 100  # lines of a statement: a longer one is a table


def excerpt(text: str, rules: Iterable[Rule]) -> str:
    """A text in which definitions that no rule could find anything in are empty lines.

    Short statements that define nothing stay, such as imports, what calls a function that stays, and of every
    class its name and its bases.

    Args:
        text: Python source; one that Python cannot parse is given back as it is.
        rules: the first word of each says what a definition must hold.
    """
    try:
        tree = parsed(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return text
    words = [rule.words[0] for rule in rules]
    all_lines = lines(text)
    covered: set[int] = set()
    kept: set[int] = set()
    classes: dict[int, str] = {}
    others: list[range] = []
    functions: list[str] = []
    for node in tree.body:
        begin = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))]) - 1
        span = range(begin, node.end_lineno or node.lineno)
        covered.update(span)
        found = any(word.search("".join(all_lines[begin : span.stop])) for word in words)
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
            if found and _imports(node):  # under another name, which may be used anywhere
                return text
            found = found or len(span) <= _LONG or _imports(node)
        if found:
            kept.update(span)
            functions += [node.name] if isinstance(node, ast.FunctionDef) else []
            continue
        others.append(span)
        if isinstance(node, ast.ClassDef):
            bases = ", ".join(ast.unparse(base) for base in node.bases)
            classes[begin] = f"class {node.name}({bases}): ..."
    calls = re.compile(rf"\b({'|'.join(map(re.escape, functions))})\s*\(") if functions else None
    for span in others:
        if calls and calls.search("".join(all_lines[span.start : span.stop])):
            kept.update(span)
    return "".join(
        line if number in kept or number not in covered else classes.get(number, "") + "\n"
        for number, line in enumerate(all_lines)
    )


def _imports(node: ast.stmt) -> bool:
    """Tells whether a statement holds an import."""
    return any(isinstance(inner, (ast.Import, ast.ImportFrom)) for inner in ast.walk(node))
