"""This file tells which imported names a scope sees, and where another binding hides them.

LibCST's own ScopeProvider knows more, and takes four times as long as everything else together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import libcst as cst

from thinned.audit._names import STARRED, canonical

# Nodes that begin a scope of their own.
SCOPES = (
    cst.FunctionDef,
    cst.ClassDef,
    cst.Lambda,
    cst.ListComp,
    cst.SetComp,
    cst.DictComp,
    cst.GeneratorExp,
)


@dataclass
class Scope:
    """The names that a module, a class, a function or a comprehension binds.

    Args:
        parent: the scope around it; None for a module.
        is_class: whether functions inside it do not see its names.
        imports: what imports bind: name to qualified names.
        stars: modules of which everything is imported.
        others: names that are bound to anything else.
    """

    parent: Scope | None = None
    is_class: bool = False
    imports: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    stars: list[str] = field(default_factory=list)
    others: set[str] = field(default_factory=set)

    def inner(self, node: cst.CSTNode) -> Scope:
        """The scope that a node begins inside this one, with its parameters or its loops' variables."""
        function = not isinstance(node, cst.ClassDef)
        parent = self.parent if self.is_class and function else self
        scope = Scope(parent, is_class=not function)
        if isinstance(node, (cst.FunctionDef, cst.Lambda)):
            parameters = node.params
            every = (*parameters.posonly_params, *parameters.params, *parameters.kwonly_params)
            stars = (parameters.star_arg, parameters.star_kwarg)
            scope.others |= {one.name.value for one in (*every, *stars) if isinstance(one, cst.Param)}
        return scope

    def bind(self, node: cst.CSTNode) -> None:
        """Take in what a statement or an expression binds here."""
        if isinstance(node, cst.Import):
            for alias in node.names:
                whole = _dotted(alias.name)
                first = whole.partition(".")[0]
                self.imports[_bound(alias) or first].add(whole if alias.asname else first)
        elif isinstance(node, cst.ImportFrom):
            module = "." * len(node.relative) + (_dotted(node.module) if node.module else "")
            if isinstance(node.names, cst.ImportStar):
                self.stars.append(module)
            else:
                for alias in node.names:
                    self.imports[_bound(alias) or _dotted(alias.name)].add(f"{module}.{_dotted(alias.name)}")
        elif isinstance(node, (cst.FunctionDef, cst.ClassDef)):
            self.others.add(node.name.value)
        elif isinstance(node, (cst.AssignTarget, cst.AnnAssign, cst.For, cst.CompFor, cst.NamedExpr)):
            self.others.update(_names(node.target))
        elif isinstance(node, cst.AsName):
            self.others.update(_names(node.name))

    def meaning(self, name: str) -> str:
        """The qualified name that an import gives a name; empty where none does, or something hides it."""
        scope: Scope | None = self
        stars: list[str] = []
        while scope is not None:
            if name in scope.imports:
                return min(scope.imports[name])
            if name in scope.others:
                return ""
            stars += scope.stars
            scope = scope.parent
        return next((whole for star in stars if canonical(whole := f"{star}.{name}") in STARRED), "")


def _dotted(node: cst.BaseExpression) -> str:
    if isinstance(node, cst.Attribute):
        before = _dotted(node.value)
        return before and f"{before}.{node.attr.value}"
    return node.value if isinstance(node, cst.Name) else ""


def _bound(alias: cst.ImportAlias) -> str:
    return "" if alias.asname is None else _dotted(alias.asname.name)


def _names(target: cst.CSTNode) -> Iterator[str]:
    """The names that an assignment to a target binds."""
    if isinstance(target, cst.Name):
        yield target.value
    elif isinstance(target, (cst.Tuple, cst.List)):
        for element in target.elements:
            yield from _names(element.value)


def qualified(node: cst.BaseExpression, scope: Scope) -> str:
    """The qualified name of `a` or of `a.b.c`, in one spelling; empty where no import gives one."""
    first, dot, rest = _dotted(node).partition(".")
    meaning = scope.meaning(first) if first else ""
    return canonical(f"{meaning}{dot}{rest}") if meaning else ""
