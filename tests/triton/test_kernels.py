"""The checks of this folder: under Triton's interpreter, and of what its compiler makes of the kernels.

Triton reads whether to interpret when it is imported, and its driver is the whole process's. So each runs in
a process of its own, where torch's compiler meets neither.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed: it is for Linux alone"
)

HERE = Path(__file__).parent
# What shares a process takes about as long as each of the others.
CHECKS = {"dropout": ("defects", "layouts", "masks"), "norms": ("norms",), "operators": ("operators",)}
# torch's own, where a derivative of its own is compiled.
WARNINGS = ["-W", "ignore:.torch.jit.script. is deprecated:DeprecationWarning"]


def python(*arguments, **environment):
    """What a Python of its own prints."""
    paths = os.pathsep.join([str(HERE), str(HERE.parent)])
    result = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, **environment},
    )
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-4000:]
    return result.stdout


@pytest.mark.parametrize("name", CHECKS)
def test_interpreted(name):
    files = ("-p", "interpreted", *(str(HERE / f"{check}.py") for check in CHECKS[name]))
    print(python("-m", "pytest", "-q", "--no-header", *WARNINGS, *files, TRITON_INTERPRET="1"))


def test_compiled():
    print(python("-m", "pytest", "-q", "--no-header", str(HERE / "machine_code.py"), TRITON_INTERPRET="0"))
