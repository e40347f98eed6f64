"""A suite that needs a process of its own, and its cases one by one in the process that started it.

`ran` starts `python -m pytest -p nested_cases …`, or a program that does the same. `show` makes each case a
subtest.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def ran(
    command: list[str], environment: dict[str, str], path: list[Path], limit: float | None = None
) -> dict[str, Any]:
    """A process that has ended: its cases, what it printed, and how it broke off where no case says so."""
    outer = filter(None, [os.environ.get("PYTHONPATH")])  # where tests/sabotage has its copy of the package
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cases"
        file.touch()
        done = subprocess.run(
            [sys.executable, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=limit,
            env={
                **os.environ,
                **environment,
                "NESTED_CASES": str(file),
                "PYTHONPATH": os.pathsep.join(map(str, [*path, HERE, *outer])),
            },
        )
        cases = [json.loads(line) for line in file.read_text().splitlines()]
    explained = done.returncode == 0 or any(case["outcome"] == "failed" for case in cases)
    broke = None if explained else f"it ended with {done.returncode}:\n{done.stdout[-8000:]}"
    return {"cases": cases, "broke": broke, "printed": done.stdout}


def show(done: dict[str, Any], subtests: pytest.Subtests) -> None:
    """Each case is a subtest."""
    for case in done["cases"]:
        with subtests.test(case["name"]):
            if case["outcome"] == "failed":
                pytest.fail(case["said"], pytrace=False)
            if case["outcome"] == "skipped":
                pytest.skip(case["said"])
    assert done["broke"] is None, done["broke"]
    assert done["cases"], f"no case ran:\n{done['printed'][-8000:]}"
