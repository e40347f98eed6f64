"""Chooses from a product of parameters the cases that the quick tier runs.

A covering design of strength 2 has every value of one parameter together with every value of another. What
three values do together is left to the full tier, which runs all cases.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import combinations

Case = Sequence[Hashable]


def covering(cases: Sequence[Case], strength: int = 2) -> list[int]:
    """Numbers of cases that have all combinations of `strength` values which the cases have, in order.

    Greedy: the next case is the first of those that bring the most combinations that none has had yet.
    Cases with one value each are all needed, and so is a case that alone has a combination.
    """
    has = [_combinations(case, strength) for case in cases]
    left = set().union(*has)
    chosen = []
    while left:
        best = max(range(len(cases)), key=lambda number: len(has[number] & left))
        chosen.append(best)
        left -= has[best]
    return sorted(chosen)


def _combinations(case: Case, strength: int) -> set[tuple[tuple[int, Hashable], ...]]:
    return set(combinations(enumerate(case), min(strength, len(case))))
