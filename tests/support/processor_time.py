"""Writes what each test, and each file's collection, costs: seconds of processor time, children included.

    PROCESSOR_TIME=folder PYTEST_ADDOPTS="-p processor_time" PYTHONPATH=tests/support make test

writes a file for each process of the run, those of nested suites included.
`python tests/support/processor_time.py folder` adds them up by folder, and names the slowest tests.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def spent() -> tuple[float, float]:
    """Of this process, and of its children that it waited for: user and system."""
    both = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    own, children = (used.ru_utime + used.ru_stime for used in both)
    return own, children


def write(kind: str, name: str, own: float, children: float) -> None:
    path = Path(os.environ["PROCESSOR_TIME"]) / f"{os.getpid()}.jsonl"
    with path.open("a") as file:
        file.write(json.dumps([kind, name, round(own, 4), round(children, 4)]) + "\n")


def measured(kind: str, name: str) -> Iterator[Any]:
    before = spent()
    result = yield
    after = spent()
    write(kind, name, after[0] - before[0], after[1] - before[1])
    return result


def pytest_configure(config: pytest.Config) -> None:
    write("start", "nested" if config.pluginmanager.has_plugin("nested_cases") else "", *spent())


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[Any]:
    return (yield from measured("collect", collector.nodeid))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[Any]:
    return (yield from measured("test", item.nodeid))


def pytest_unconfigure() -> None:
    write("end", "", *spent())


def table(folder: Path) -> None:
    """By folder: seconds and tests, then the slowest; what a nested suite took is its starter's."""
    seconds: Counter[str] = Counter()
    tests: Counter[str] = Counter()
    slowest: Counter[str] = Counter()
    beside = 0.0
    for file in folder.glob("*.jsonl"):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        nested = lines[0][0] == "start" and lines[0][1] == "nested"
        for kind, name, own, children in lines:
            if kind == "test":
                slowest[name] += own + children
                if not nested:
                    seconds["/".join(name.split("/")[:2])] += own + children
                    tests["/".join(name.split("/")[:2])] += 1
        _, _, own, children = lines[-1]
        if not nested:  # the process that hands out tests has the workers for children
            beside += own + (children if len(lines) > 2 else 0)
    for name, spent_there in seconds.most_common():
        print(f"{spent_there:8.1f} s {tests[name]:6d} tests  {name}")
    of_tests = sum(seconds.values())
    print(f"{of_tests:8.1f} s {sum(tests.values()):6d} tests, and {beside - of_tests:.1f} s beside them")
    for name, spent_there in slowest.most_common(40):
        print(f"{spent_there:8.2f} s  {name}")


if __name__ == "__main__":
    table(Path(sys.argv[1]))
