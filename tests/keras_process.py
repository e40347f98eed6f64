"""A Python of its own for each of Keras's backends, as a process can have but one."""

import json
import os
import subprocess
import sys
from pathlib import Path

BACKENDS = ["torch", "jax", "tensorflow"]


def run(backend, *arguments, path):
    """A process that has ended, with Keras on this backend and a folder to import from."""
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": str(path),
    }
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment)


def examined(backend, module, finder, checks, ignored, path):
    """What `keras_child.py` says of a module of ours: one process for all, as Keras takes 6 s to start.

    A process that broke off says no more than its report, which is what `test_checks` prints.
    """
    child = Path(__file__).with_name("keras_child.py")
    ignored = [word for warning in ignored for word in ("-W", warning)]
    files = [str(path / f"{name}.py") for name in checks]
    done = run(backend, str(child), module, finder, *ignored, *files, path=path)
    report = done.stdout[-8000:] + done.stderr[-4000:]
    said = {"checks": "broke off"} if done.returncode else json.loads(done.stdout.splitlines()[-1])
    return {**said, "report": report}
