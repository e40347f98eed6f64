"""Texts of Python files are decoded here as Python's tokenizer does, and deep ones parsed."""

from __future__ import annotations

import ast
import io
import re
import sys
import threading
import tokenize
import warnings
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

_LINE = re.compile(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+")
# What stands in strings and comments opens nothing.
_BRACKETS = re.compile(
    r'\"\"\"(?:[^\\]|\\.)*?\"\"\"' r"|'''(?:[^\\]|\\.)*?'''"
    r'|"(?:[^"\\\n]|\\.)*"' r"|'(?:[^'\\\n]|\\.)*'"
    r"|#[^\n]*|(?P<opens>[(\[{])|(?P<closes>[)\]}])",
    re.DOTALL,
)  # fmt: skip
_MOST_BRACKETS = 200  # Python's own bound
_STACK = 256 << 20  # bytes of address space; what is not used takes no memory
_CALLS = 20_000


def decoded(raw: bytes) -> tuple[str, str]:
    """A file's text and its encoding, by its byte order mark or its `coding` comment.

    Raises:
        SyntaxError: the encoding is unknown, or none was named and it is no UTF-8.
        UnicodeDecodeError: the bytes are not of the encoding.
    """
    encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
    return raw.decode(encoding), encoding


def parsed(text: str) -> ast.Module:
    """Python's own tree of a text; what it warns of, such as invalid escapes, is kept to itself.

    Raises:
        SyntaxError: the text is no Python.
        ValueError, RecursionError, MemoryError: it cannot be parsed either.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(text)


def comments(text: str) -> dict[int, str]:
    """The comment of each line that has one, as far as the text can be cut into tokens."""
    found: dict[int, str] = {}
    try:
        for token in tokenize.generate_tokens(iter(lines(text)).__next__):
            if token.type == tokenize.COMMENT:
                found[token.start[0]] = token.string
    except (tokenize.TokenError, SyntaxError, StopIteration):
        pass
    return found


def lines(text: str) -> list[str]:
    """Lines with their ends: a form feed or a Unicode separator, at which `splitlines` cuts, ends none."""
    return _LINE.findall(text)


def too_deep(text: str) -> bool:
    """Tells whether brackets are nested deeper than Python takes; libcst's parser ends the process there."""
    depth = 0
    for found in _BRACKETS.finditer(text):
        depth += (found["opens"] is not None) - (found["closes"] is not None)
        if depth > _MOST_BRACKETS:
            return True
    return False


def with_room(work: Callable[[], Result]) -> Result:
    """Run on a stack that long chains of calls and of operators fit into.

    Raises:
        RecursionError: they do not.
    """
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    limit, size = sys.getrecursionlimit(), threading.stack_size(_STACK)
    try:
        sys.setrecursionlimit(max(limit, _CALLS))
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(size)
        sys.setrecursionlimit(limit)
    if errors:
        raise errors[0]
    return results[0]
