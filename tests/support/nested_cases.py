"""A pytest plugin for a process that `nested.ran` started: a line of JSON for each case, in its file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A line for a case's call, and for what failed or skipped before or after it."""
    if report.when == "call" or not report.passed:
        case = {"name": report.nodeid, "outcome": report.outcome, "said": _said(report)}
        with Path(os.environ["NESTED_CASES"]).open("a") as file:
            file.write(json.dumps(case) + "\n")


def _said(report: pytest.TestReport) -> str:
    return report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longreprtext
