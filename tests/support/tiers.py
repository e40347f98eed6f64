"""Which tests the quick tier leaves to the full one.

`full` marks a test or a case by hand. `covering` marks the cases of one test that a covering design does not
need. It is given the names of the parameters whose values cannot act on each other three at a time, or none
for all of them; of the others every combination is kept. The full tier runs every case.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from typing import Any

import pytest
from covering import covering

# Backends of torch.compile. Generated code takes a C++ compiler seconds for each function, and calls our
# operators as the graph of `aot_eager` does; in the quick tier test_one_mask.py has it.
BACKENDS = ["aot_eager", pytest.param("inductor", marks=pytest.mark.full)]


def mark_what_a_design_leaves(items: list[pytest.Item]) -> None:
    """Give `full` to the cases that no covering design needs; those that have it already are in no design."""
    families = defaultdict(list)
    for item in items:
        mark = item.get_closest_marker("covering")
        if mark is not None and item.get_closest_marker("full") is None:
            named, others = _values(item, mark.args)
            families[item.nodeid.partition("[")[0], others].append((item, named, mark.kwargs))
    for family in families.values():
        needed = covering([named for _, named, _ in family], **family[0][2])
        for number in set(range(len(family))) - set(needed):
            family[number][0].add_marker("full")


def _values(item: pytest.Item, names: tuple[str, ...]) -> tuple[tuple[Hashable, ...], tuple[Hashable, ...]]:
    """The values of the parameters named, and of the others.

    Not `callspec.indices`: of what is no fixture pytest numbers the cases there, not the values.
    """
    values = {name: _as_key(value) for name, value in item.callspec.params.items()}  # type: ignore[attr-defined]
    if unknown := set(names) - set(values):
        raise pytest.UsageError(f"{item.nodeid}: covering names {unknown}, which are no parameters of it")
    named = tuple(values.pop(name) for name in names or sorted(values))
    return named, tuple(values.values())


def _as_key(value: Any) -> Hashable:
    """What is equal for one value of a parameter, and tells 0 from False."""
    return (type(value), value) if isinstance(value, Hashable) else id(value)
