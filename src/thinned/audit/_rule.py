"""A rule is declared here: its code, and the function that finds what it is about."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from thinned.audit._source import Found, Source


@dataclass(frozen=True)
class Rule:
    """One mistake that can be seen in a file.

    Args:
        code: `THN` and a number that is never given to another rule.
        name: in a few words, with hyphens.
        words: what a file that has the mistake must hold, all of them; others are not parsed for it.
        find: yields what it finds in a parsed file.
        default: whether it is on where no rules are selected.
    """

    code: str
    name: str
    words: tuple[re.Pattern[str], ...]
    find: Callable[[Source], Iterable[Found]]
    default: bool = True

    def may_find(self, text: str) -> bool:
        """Tells whether the text holds all that the mistake needs."""
        return all(word.search(text) for word in self.words)


def rule(
    code: str, name: str, *words: str, default: bool = True
) -> Callable[[Callable[[Source], Iterable[Found]]], Rule]:
    """Make a rule of the function that finds it."""
    patterns = tuple(re.compile(word, re.MULTILINE) for word in words)
    return lambda find: Rule(code, name, patterns, find, default)
