"""`make compat`: the core of the quick tier on the oldest and newest versions, one environment after another.

Each row of `rows.py` gets an environment of its own under build/, which is removed after its tests, and a
line of the table in docs/compatibility.md. `run.py WORDS` examines the rows whose names hold all words.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pages
from rows import ROWS, Row

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "compatibility.md"
BUILD = ROOT / "build" / "compat"
HEAD = "environment | installed | found | date"
SHOWN = ("numpy", "jax", "flax", "equinox", "keras", "tensorflow_cpu", "torch", "triton")
CHECKS = ("pytest>=9", "pytest-timeout", "hypothesis", "ml-dtypes", "filelock", "flatbuffers", "scikit-learn")


def main() -> None:
    """Examine the rows that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="of the rows' names")
    words = [word.lower() for word in parser.parse_args().words]
    chosen = [row for row in ROWS if all(word in row.name.lower() for word in words)]
    shutil.rmtree(BUILD, ignore_errors=True)  # the wheel is to be of the sources as they are
    for row in chosen:
        started = time.monotonic()
        versions, found = examined(row)
        note(row, versions, found)
        print(f"{row.name}: {versions or '–'}: {found} ({time.monotonic() - started:.0f} s)", flush=True)


def examined(row: Row) -> tuple[str, str]:
    """The versions that were installed, and what the tests said."""
    if row.unavailable:
        return ", ".join(row.packages), f"not installed: {row.unavailable}"
    place = BUILD / "environment"
    shutil.rmtree(place, ignore_errors=True)
    try:
        python = created(place, interpreter(row.python))
        error = install(python, str(wheel(python)), *row.packages, *CHECKS)
        if error:
            return ", ".join(row.packages), f"not installable: {error}"
        return installed(python), tested(python, row)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def interpreter(version: str) -> str:
    """A Python of this version: on the path, or of pyenv."""
    kept = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    found = shutil.which(f"python{version}") if not kept else str(kept[-1])
    if found is None:
        raise SystemExit(f"Python {version} is needed, and is neither on the path nor one of pyenv's")
    return found


def created(place: Path, python: str) -> str:
    """The Python of a fresh environment."""
    uv = shutil.which("uv")
    maker = [uv, "venv", "--quiet", "--python", python] if uv else [python, "-m", "venv"]
    subprocess.run([*maker, str(place)], check=True)
    return str(place / "bin" / "python")


def install(python: str, *what: str) -> str:
    """Nothing, or the last line of what the installer said where it failed."""
    uv = shutil.which("uv")
    command = [uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install"]
    done = subprocess.run([*command, "-q", *what], capture_output=True, text=True)
    lines = [line for line in done.stderr.splitlines() if "ERROR" in line or "error" in line]
    return "" if done.returncode == 0 else (lines or ["the installer failed"])[-1].strip()


def wheel(python: str) -> Path:
    """This library built for a Python, once for each: the wheel of 3.12 serves every later one."""
    code = "import sys; print(min(sys.version_info[1], 12))"
    folder = BUILD / subprocess.check_output([python, "-c", code], text=True).strip()
    if not (made := list(folder.glob("*.whl"))):
        if error := install(python, "pip"):
            raise SystemExit(error)
        subprocess.run(
            [python, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)], check=True
        )
        made = list(folder.glob("*.whl"))
    return made[0]


def installed(python: str) -> str:
    """The versions of Python and of the packages that the table shows."""
    code = (
        "import importlib.metadata as m, json, platform; "
        "print(json.dumps([['Python', platform.python_version()]] + "
        "[[d.metadata['Name'], d.version] for d in m.distributions()]))"
    )
    pairs = json.loads(subprocess.check_output([python, "-c", code], text=True))
    versions = {name.lower().replace("-", "_"): f"{name} {version}" for name, version in pairs}
    return ", ".join(versions[name] for name in ("python", *SHOWN) if name in versions)


def tested(python: str, row: Row) -> str:
    """How many tests passed, and the names of those that did not."""
    files = [str(ROOT / "tests" / name) for name in row.tests]
    options = ["-q", "--no-header", "-p", "no:cacheprovider", "-W", "default", "-m", "not full", "-rfE"]
    done = subprocess.run(
        [python, "-m", "pytest", *options, *files],
        cwd=ROOT,
        env={**os.environ, **dict(row.environment), "PYTHONPATH": str(ROOT / "tests" / "keras")},
        capture_output=True,
        text=True,
    )
    (BUILD / f"{row.name}.txt").write_text(done.stdout + done.stderr)
    last = re.findall(r"^(?:=+ )?(\d+ .+?) in [\d.]+s", done.stdout, re.MULTILINE)
    failed = re.findall(r"^(?:FAILED|ERROR|SUBFAILED\S*) (?:\S*tests/)?(\S+)", done.stdout, re.MULTILINE)
    said = last[-1] if last else "the tests did not start"
    names = ", ".join(sorted({name.partition("[")[0] for name in failed})[:3])
    return re.sub(r", \d+ (warnings?|deselected)", "", said) + (f": {names}" if names else "")


def note(row: Row, versions: str, found: str) -> None:
    """Put the row into the page's table, in the order of `rows.py`."""
    today = datetime.date.today().isoformat()
    pages.note(PAGE, HEAD, [row.name, versions, found, today], [one.name for one in ROWS])


if __name__ == "__main__":
    main()
