"""What the quick tier reaches of the sources, lines and branches, and what the full tier reaches beyond it.

    export PYTHONPATH=where/coverage/is
    python tests/support/covered.py build/covered quick tests/torch/thin
    python tests/support/covered.py build/covered full tests/torch/thin
    python tests/support/covered.py build/covered

Each of the first two runs the tests of these folders, the quick tier's or those that only the full tier has,
processes that they start included, and adds to what the folder has: a front end may be measured in parts. The
last prints a row for each package that the tests are of, by file the lines that only the full tier reaches,
and those that none does. Coverage is no dependency of the project: install it where you like.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import coverage

ROOT = Path(__file__).parents[2]
SETTINGS = """[run]
branch = true
parallel = true
source = {root}/src/thinned
data_file = {folder}/data
disable_warnings = no-data-collected, module-not-imported, module-not-measured, couldnt-parse
"""
MARKS = {"quick": "not full", "full": "full"}
Reached = dict[str, tuple[set[int], set[tuple[int, int]], int, set[int]]]


def measure(folder: Path, marks: str, tests: list[str]) -> None:
    """Run tests; each process of Python below writes a file of data, by what it imports at its start."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "settings"
    settings.write_text(SETTINGS.format(root=ROOT, folder=folder))
    (folder / "sitecustomize.py").write_text("import coverage\ncoverage.process_startup()\n")
    path = [
        str(folder),
        str(Path(coverage.__file__).parents[1]),
        *filter(None, [os.environ.get("PYTHONPATH")]),
    ]
    environment = {"COVERAGE_PROCESS_START": str(settings), "PYTHONPATH": os.pathsep.join(path)}
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", marks, "-p", "no:cacheprovider", *tests],
        env={**os.environ, **environment},
        cwd=ROOT,
        check=False,
    )


def reached(folders: list[Path]) -> Reached:
    """By file: its lines and branches that were reached, and how many of both it has."""
    whole = folders[0] / f"whole{len(folders)}"
    whole.unlink(missing_ok=True)
    found = coverage.Coverage(data_file=str(whole), config_file=str(folders[0] / "settings"))
    found.combine([str(file) for folder in folders for file in folder.glob("data.*")], keep=True)
    report = whole.with_suffix(".json")
    found.json_report(outfile=str(report), ignore_errors=True)
    files: dict[str, Any] = json.loads(report.read_text())["files"]
    return {
        name.partition("src/thinned/")[2]: (
            set(one["executed_lines"]),
            {tuple(branch) for branch in one["executed_branches"]},
            one["summary"]["num_statements"] + one["summary"]["num_branches"],
            set(one["missing_lines"]),
        )
        for name, one in files.items()
    }


def show(quick: Reached, whole: Reached) -> None:
    """A row for each package, then what the quick tier does not reach."""
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for name, (lines, branches, count, _) in whole.items():
        of_quick = quick.get(name, (set(), set()))
        package = _package(name)
        for at, number in enumerate((len(of_quick[0]) + len(of_quick[1]), len(lines) + len(branches), count)):
            sums[package][at] += number
    print("| package | quick tier | every test |\n| --- | --- | --- |")
    # Of other packages only imports are reached.
    meant = {package: of for package, of in sorted(sums.items()) if of[1] > 0.4 * of[2]}
    for package, (first, second, count) in meant.items():
        print(f"| {package} | {first / count:.1%} | {second / count:.1%} |")
    for name, (lines, _, _, missing) in sorted(whole.items()):
        later = sorted(lines - quick.get(name, (set(),))[0])
        if _package(name) in meant and (later or missing):
            print(f"{name}: full alone {later or 'none'}, never {sorted(missing) or 'none'}")


def _package(name: str) -> str:
    return "/".join(name.split("/")[:-1][:2]) or "thinned"


def main() -> None:
    """Measures, or shows what was measured."""
    folder = Path(sys.argv[1]).absolute()
    if len(sys.argv) > 2:
        measure(folder / sys.argv[2], MARKS[sys.argv[2]], sys.argv[3:])
    else:
        full = [folder / tier for tier in MARKS if (folder / tier).exists()]
        show(reached([folder / "quick"]), reached(full))


if __name__ == "__main__":
    main()
