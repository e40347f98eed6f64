"""A function runs here in its own process: Keras has one backend in each, JAX one set of devices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any


def answer(module: str, what: str, *arguments: str, **environment: str) -> Any:
    """Run a module's `main` in a process with these variables set besides, and read what it prints.

    Args:
        module: its `main` reads the arguments from `sys.argv`, and prints JSON as its last line.
        what: in words, for an error.
        arguments: for it.
        environment: variables.

    Raises:
        RuntimeError: what the process said, where it failed.
    """
    command = [sys.executable, "-c", f"from {module} import main; main()", *arguments]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, env=os.environ | quiet | environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{what} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])
