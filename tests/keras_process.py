"""A Python of its own for each of Keras's backends, as a process can have but one."""

import os
import subprocess
import sys

BACKENDS = ["torch", "jax", "tensorflow"]


def python(backend, *arguments, path):
    """What it prints, with Keras on this backend and a folder to import from."""
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": str(path),
    }
    result = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-4000:]
    return result.stdout
