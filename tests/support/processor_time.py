"""Writes what each test, and each file's collection, costs: seconds of processor time, children included.

`PROCESSOR_TIME=folder PYTEST_ADDOPTS="-p processor_time" PYTHONPATH=tests/support make test` writes a file for each
process of the run, nested suites' included; `python tests/support/processor_time.py folder` adds them up.
"""

from __future__ import annotations

import json
import os
import resource
import sys
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
    write("start", " ".join(sys.argv[:3]), *spent())


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[Any]:
    return (yield from measured("collect", collector.nodeid))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[Any]:
    return (yield from measured("test", item.nodeid))


def pytest_unconfigure() -> None:
    write("end", "", *spent())
