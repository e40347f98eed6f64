"""A source is one file: its text, its tree, and what rules ask of them."""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any, NamedTuple, TypeVar

import libcst as cst
from libcst.metadata import (
    CodeRange,
    MetadataWrapper,
    PositionProvider,
    WhitespaceInclusivePositionProvider,
)

from thinned.audit._finding import Edit, Fix, Position
from thinned.audit._scopes import SCOPES, Scope, qualified

Node = TypeVar("Node", bound=cst.CSTNode)

# Node types that rules look at.
_KEPT = (
    cst.Call,
    cst.ClassDef,
    cst.FunctionDef,
    cst.For,
    cst.While,
    cst.Assign,
    cst.AnnAssign,
    cst.Expr,
    cst.If,
    cst.Comparison,
    cst.IndentedBlock,
)

_NO_CODE = re.compile(r"whitespace|lines|header|footer|[lr]par|comma|semicolon|operator|lbrac|rbrac|indent")


class Found(NamedTuple):
    """Holds what a rule yields: a node, what happens there, the remedy, and an edit where there is one."""

    node: cst.CSTNode
    what: str
    remedy: str
    fix: Fix | None = None


class Place(NamedTuple):
    """A node and the nodes around it, from the module inwards."""

    node: Any
    around: tuple[cst.CSTNode, ...]

    def within(self, *kinds: type[Node]) -> Node | None:
        """The nearest node around this one of such a kind; None where there is none."""
        return next((node for node in reversed(self.around) if isinstance(node, kinds)), None)

    @property
    def function(self) -> cst.FunctionDef | None:
        """The function that this stands in."""
        return self.within(cst.FunctionDef)

    @property
    def method_of(self) -> cst.ClassDef | None:
        """The class of which this stands in a method, not in a function inside one."""
        scopes = [
            node for node in self.around if isinstance(node, (cst.FunctionDef, cst.ClassDef, cst.Lambda))
        ]
        if (
            len(scopes) >= 2
            and isinstance(scopes[-1], cst.FunctionDef)
            and isinstance(scopes[-2], cst.ClassDef)
        ):
            return scopes[-2]
        return None


class Source:
    """A file that was parsed.

    Args:
        text: Python source.
        whole: that of the whole file, where `text` is an excerpt.

    Raises:
        libcst.ParserSyntaxError: where the text is no Python.
    """

    def __init__(self, text: str, whole: str | None = None) -> None:
        self.text = text if whole is None else whole
        self._wrapper = MetadataWrapper(cst.parse_module(text), unsafe_skip_copy=True)
        self.module = self._wrapper.module
        self._names: dict[cst.CSTNode, str] = {}

    # Each of these is a walk over the whole tree, of which a file without a finding needs the last one.
    @functools.cached_property
    def _positions(self) -> Any:
        return self._wrapper.resolve(PositionProvider)

    @functools.cached_property
    def _extents(self) -> Any:
        return self._wrapper.resolve(WhitespaceInclusivePositionProvider)

    @functools.cached_property
    def _walk(self) -> _Walk:
        return _Walk(self.module)

    @functools.cached_property
    def assigned(self) -> dict[tuple[cst.FunctionDef | None, str], list[cst.BaseExpression]]:
        """Return what each function assigns to each of its names; under None what stands in no function."""
        found: dict[tuple[cst.FunctionDef | None, str], list[cst.BaseExpression]] = defaultdict(list)
        for place in self.all(cst.Assign):
            for one in place.node.targets:
                if isinstance(one.target, cst.Name):
                    found[place.function, one.target.value].append(place.node.value)
        return found

    def all(self, kind: type[Node]) -> Sequence[Place]:
        """Every node of a kind, in the order of the text."""
        return self._walk.places[kind]

    @functools.cached_property
    def calls(self) -> list[tuple[Place, str]]:
        """Every call, with the qualified name of what is called."""
        return [(place, self.name(place.node.func)) for place in self.all(cst.Call)]

    def called(self, *names: str | frozenset[str]) -> Iterator[tuple[Place, str]]:
        """The calls of these."""
        wanted = frozenset().union(*({name} if isinstance(name, str) else name for name in names))
        return ((place, name) for place, name in self.calls if name in wanted)

    def name(self, node: cst.CSTNode) -> str:
        """The qualified name that an import gives an expression, in one spelling; empty where none does."""
        known = self._names.get(node)
        if known is None:
            scope = self._walk.scopes.get(node)
            known = self._names[node] = "" if scope is None else qualified(node, scope)  # type: ignore[arg-type]
        return known

    def range(self, node: cst.CSTNode) -> tuple[Position, Position]:
        """Return where a node begins and ends."""
        where: CodeRange = self._positions[node]
        return Position(where.start.line, where.start.column), Position(where.end.line, where.end.column)

    def extent(self, node: cst.BaseExpression) -> tuple[Position, Position]:
        """Return where an expression begins and ends with the parentheses around it."""
        where: CodeRange = self._extents[node]
        return Position(where.start.line, where.start.column), Position(where.end.line, where.end.column)

    def code(self, node: cst.CSTNode) -> str:
        """The text of a node."""
        return self.module.code_for_node(node)

    def operand(self, node: cst.BaseExpression) -> str:
        """The text of an expression as one argument of several: a generator needs parentheses there."""
        bare = isinstance(node, cst.GeneratorExp) and not node.lpar
        return f"({self.code(node)})" if bare else self.code(node)

    def replace(self, node: cst.BaseExpression, text: str) -> Edit:
        """An edit that puts a text in an expression's place, parentheses and all."""
        return Edit(*self.extent(node), text)

    def insert_argument(self, call: cst.Call, text: str) -> Edit:
        """An edit that adds an argument behind the others."""
        if call.args:
            last = call.args[-1].value
            start, end = self.extent(last)
            if self.operand(last) != self.code(last):
                return Edit(start, end, f"{self.operand(last)}, {text}")
            return Edit(end, end, f", {text}")
        _, end = self.range(call)
        before = Position(end.line, end.column - 1)
        return Edit(before, before, text)


class _Walk:
    """Every node that rules look at, with the nodes around it, and the scope of every name.

    LibCST's own visitors take several times as long: they enter the white space too.
    """

    def __init__(self, root: cst.CSTNode) -> None:
        self.places: dict[type, list[Place]] = defaultdict(list)
        self.scopes: dict[cst.CSTNode, Scope] = {}
        self._visit(root, (), Scope())

    def _visit(self, node: cst.CSTNode, around: tuple[cst.CSTNode, ...], scope: Scope) -> None:
        if isinstance(node, _KEPT):
            self.places[type(node)].append(Place(node, around))
        scope.bind(node)
        if isinstance(node, (cst.Name, cst.Attribute)):
            self.scopes[node] = scope
        if isinstance(node, SCOPES):
            scope = scope.inner(node)
        inner = (*around, node)
        for name in _fields(type(node)):
            held = getattr(node, name)
            for child in held if isinstance(held, (list, tuple)) else (held,):
                if isinstance(child, cst.CSTNode):
                    self._visit(child, inner, scope)


@functools.cache
def _fields(kind: type[cst.CSTNode]) -> tuple[str, ...]:
    """The fields of a node that hold code, and no white space, brackets or commas."""
    return tuple(one.name for one in fields(kind) if not _NO_CODE.search(one.name))
