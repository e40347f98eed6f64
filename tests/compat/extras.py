"""`make install-table`: what each extra costs, and whether its documented command works.

Each extra gets a fresh environment with a wheel of these sources, which is removed afterwards, and a line of
the table in docs/install.md. `extras.py NAME …` examines these alone. Measured are the time, the
bytes and the packages of its installation; `also` is installed after that.
"""

from __future__ import annotations

import datetime
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pages
import run

PAGE = run.ROOT / "docs" / "install.md"
HEAD = "extra | packages | MB | seconds | tried | found | date"
TESTS = run.ROOT / "tests"
READ = """
import doctest, sys
for page in sys.argv[1:]:
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    result = doctest.testfile(page, module_relative=False, optionflags=flags)
    assert result.attempted and not result.failed, page
"""
COUNT = """
import importlib.metadata as m
print(len({one.name for one in m.distributions()} - {"pip", "setuptools"}))
"""


class Extra(NamedTuple):
    """An extra, and what is tried: pages whose examples run, and command lines."""

    name: str
    pages: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()  # arguments of Python
    refused: str = ""  # arguments that end with a line that names this extra, which it needs:
    needs: str = ""
    also: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    label: str = ""  # in place of the name


SMALL = f"{TESTS}/compat/small.py"
PYTEST = f"-m pytest -q -c {run.ROOT}/pyproject.toml"
ROWS = [
    Extra(
        "",
        commands=("-c 'import numpy, thinned; thinned.keep_mask((2, 5), 0.5, key=thinned.Key(0))'",),
        refused="-m thinned info",
        needs="cli",
        label="none",
    ),
    Extra(
        "cli", commands=("-m thinned info", "-m thinned mask 1000 -p 0.1", "-m thinned averages --masks 10")
    ),
    Extra("audit", commands=(f"-m thinned audit {run.ROOT}/examples",)),
    Extra("torch", ("quickstart.md", "torch/convert.md", "torch/keys.md", "torch/path.md")),
    Extra("transformers", ("torch/transformers.md",)),
    Extra("integrations", ("torch/integrations.md",), also=("scikit-learn",)),
    Extra("jax", ("jax/README.md",)),
    Extra("flax", ("flax/README.md",)),
    Extra("equinox", ("equinox/README.md",)),
    Extra("tensorflow", ("tensorflow/README.md", "guides/tensorflow1.md")),
    Extra("keras", refused="-c 'import thinned.keras'", needs="keras,jax"),
    Extra("keras,jax", ("keras/README.md",), environment=(("KERAS_BACKEND", "jax"),)),
    Extra(
        "mc",
        ("mc/README.md", "mc/predictor.md", "mc/regression.md", "mc/compare.md", "guides/few-samples.md"),
        (SMALL, f"-m thinned mc compare {SMALL}:make data.npz --samples 4"),
    ),
    Extra(
        "ray", commands=(SMALL, f"-m thinned mc predict {SMALL}:make data.npz --out predictions --workers 1")
    ),
    Extra("demo", commands=("-m thinned demo --quick", "-m thinned conformance --help")),
    Extra("bench", commands=("-m thinned bench --quick",)),
    Extra("check", commands=(f"{PYTEST} {TESTS}/contract/test_contract.py",)),
    Extra("docs", commands=(f"{run.ROOT}/docs/_site/build.py --stage",)),
    Extra("test", commands=(f"{PYTEST} -m 'not full' {TESTS}/numpy",)),
    Extra("dev", commands=("-m ruff --version", "-m mypy --version")),
]


def main() -> None:
    """Examine the extras that were named, or all."""
    chosen = [row for row in ROWS if not sys.argv[1:] or (row.label or row.name) in sys.argv[1:]]
    for row in chosen:
        name = row.label or f"`{row.name}`".replace(",", "`, `")
        cells = examined(row)
        today = datetime.date.today().isoformat()
        order = [one.label or f"`{one.name}`".replace(",", "`, `") for one in ROWS]
        pages.note(PAGE, HEAD, [name, *cells, today], order)
        print(" | ".join([name, *cells]), flush=True)


def examined(row: Extra) -> list[str]:
    """Packages, megabytes, seconds, what was tried, and what was found."""
    place = run.BUILD / "extra"
    shutil.rmtree(place, ignore_errors=True)
    try:
        python = run.created(place, sys.executable)
        forget_an_older_wheel()
        wheel = run.wheel(python)
        before, began = size(place), time.monotonic()
        error = run.install(
            python,
            "--constraint",
            str(run.ROOT / "constraints.txt"),
            f"{wheel}[{row.name}]".removesuffix("[]"),
        )
        seconds = time.monotonic() - began
        if error:
            return ["", "", "", "", error]
        counted = [packages(python), f"{(size(place) - before) / 1e6:,.0f}", f"{seconds:.0f}"]
        if row.also and (error := run.install(python, *row.also)):
            return [*counted, "", error]
        return [*counted, *tried(python, row, place)]
    finally:
        shutil.rmtree(place, ignore_errors=True)


def forget_an_older_wheel() -> None:
    """Remove wheels that were built before a source was changed."""
    sources = [run.ROOT / "pyproject.toml", *(run.ROOT / "native").iterdir(), *run.ROOT.glob("src/**/*.py")]
    newest = max(file.stat().st_mtime for file in sources)
    for wheel in run.BUILD.glob("*/*.whl"):
        if wheel.stat().st_mtime < newest:
            wheel.unlink()


def size(place: Path) -> int:
    """The bytes of all files below."""
    return sum(file.lstat().st_size for file in place.rglob("*"))


def packages(python: str) -> str:
    """How many packages there are, but for what every environment has."""
    return subprocess.check_output([python, "-c", COUNT], text=True).strip()


def tried(python: str, row: Extra, place: Path) -> list[str]:
    """What was tried, in words, and what came of it."""
    (place / "read.py").write_text(READ)
    commands = [[python, "read.py", str(run.ROOT / "docs" / page)] for page in row.pages]
    commands += [[python, *shlex.split(command)] for command in row.commands]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **dict(row.environment)}
    wrong = []
    for command, words in zip(commands, [*row.pages, *row.commands], strict=True):
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
        if done.returncode:
            (run.BUILD / f"extra-{row.name}.txt").write_text(done.stdout + done.stderr)
            wrong.append(f"{words} failed: {(done.stderr or done.stdout).strip().splitlines()[-1][:200]}")
    if row.refused:
        done = subprocess.run(
            [python, *shlex.split(row.refused)], cwd=place, env=environment, capture_output=True, text=True
        )
        last = (done.stderr.strip().splitlines() or [""])[-1]
        if not done.returncode or f"thinned[{row.needs}]" not in last:
            wrong.append(f"`{row.refused}` said: {last[:200]}")
    return [shown(row), "; ".join(wrong).replace("|", "/") or "works"]


def shown(row: Extra) -> str:
    """What is tried, as short as a cell has to be: pages, and commands without their arguments."""
    pages = ", ".join(page.removesuffix(".md").removesuffix("/README") for page in row.pages)
    parts = [f"examples of {pages}"] if pages else []
    parts += [f"`{short(command)}`" for command in row.commands if command != SMALL]  # which makes a file
    if row.refused:
        parts.append(f"`{short(row.refused)}` names the extra `{row.needs}`")
    return "; ".join(parts)


def short(command: str) -> str:
    """A command line up to its first argument; `thinned` is what `python -m thinned` is."""
    first, *others = shlex.split(command)
    if first == "-c":
        return f"python -c '{others[0].partition(';')[0]}{'; …' if ';' in others[0] else ''}'"
    if first != "-m":
        return f"python {first}".replace(f"{run.ROOT}/", "")
    return " ".join(itertools.takewhile(lambda word: re.fullmatch(r"[a-z]+", word), others))


if __name__ == "__main__":
    main()
