"""The path of somebody who has a wheel and the documents, and nothing else of this repository.

`run.py [WHEEL]`: in a fresh folder and environment, the examples of the pages as they stand; a small GPT that
is killed and resumed; a script of TensorFlow 1; a Keras LSTM; scanned layers of nnx; Monte Carlo dropout.
Without a wheel one is built. It takes some minutes and gigabytes.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
EXTRAS = "cli,flax,keras,mc"
PAGES = [
    "quickstart.md",
    "why-2.md",
    "guides/torch.md",
    "guides/resume.md",
    "guides/accumulate.md",
    "guides/tensorflow1.md",
    "guides/keras.md",
    "guides/flax.md",
    "guides/few-samples.md",
    "guides/regression-intervals.md",
]
READ = """
import doctest, sys
for page in sys.argv[1:]:
    result = doctest.testfile(page, module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    print(page, f"{result.attempted} examples", flush=True)
    assert result.attempted and not result.failed, page
"""


def run(python: Path, *arguments: object, **environment: str) -> str:
    """A command of the stranger's, in their folder; its output. Where the command fails, so does this."""
    command = [str(python), *map(str, arguments)]
    folder = python.parents[2]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)[:200]} ended with {done.returncode}\n{done.stdout}")
    return done.stdout


def prepare(folder: Path, wheel: Path) -> Path:
    """An environment with the wheel, and copies of the pages and scripts; its Python."""
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    constraints = ["--constraint", ROOT / "constraints.txt"]
    run(python, "-m", "pip", "install", "-q", *constraints, f"{wheel}[{EXTRAS}]", "tensorflow-cpu>=2.21")
    for page in PAGES:
        if (ROOT / "docs" / page).exists():
            shutil.copy(ROOT / "docs" / page, folder / page.replace("/", "-"))
    for script in HERE.glob("*.py"):
        shutil.copy(script, folder)
    return python


def killed_and_resumed(python: Path, folder: Path, steps: int = 12) -> None:
    """The GPT in one go, and the GPT that is killed after some steps and started again: equal weights."""
    one, two = folder / "one", folder / "two"
    one.mkdir()
    two.mkdir()
    whole = run(python, "gpt.py", one, steps).split()
    with subprocess.Popen([python, "gpt.py", two, str(steps)], cwd=folder, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(steps // 3):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "it ended before it was killed"
    resumed = run(python, "gpt.py", two, steps).split()
    assert len(resumed) < len(whole), "it began anew"
    assert whole[-1] == resumed[-1], "the resumed run has other weights"
    print(f"GPT: killed, resumed at step {int(resumed[0]) - 1}, equal to the bit")


def main() -> None:
    """The whole path."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if len(sys.argv) > 1:
            wheel = Path(sys.argv[1]).resolve()
        else:
            subprocess.run(
                [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", name, ROOT], check=True
            )
            (wheel,) = folder.glob("*.whl")
        began = time.monotonic()
        python = prepare(folder, wheel)
        print(f"installed in {time.monotonic() - began:.0f} s")
        (folder / "read.py").write_text(READ)
        for backend, pages in (
            ("torch", [page for page in PAGES if "tensorflow" not in page]),
            ("tensorflow", ["guides/tensorflow1.md"]),
        ):
            there = [page.replace("/", "-") for page in pages if (ROOT / "docs" / page).exists()]
            print(run(python, "read.py", *there, KERAS_BACKEND=backend), end="")
        killed_and_resumed(python, folder)
        for script, backend in (
            ("tf1.py", "tensorflow"),
            ("keras_lstm.py", "torch"),
            ("keras_lstm.py", "jax"),
            ("nnx_scan.py", "jax"),
        ):
            print(run(python, script, KERAS_BACKEND=backend), end="")
    print("the whole path")


if __name__ == "__main__":
    main()
