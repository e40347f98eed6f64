"""Break the code on purpose, one place after another: each break has to turn a test of the quick tier red.

    python tests/sabotage/run.py [--only WORDS] [--python | --native] [--control]

A break is made in a copy of the sources, never in these, and the copy is imported in place of the installed
package. A native break is compiled first, in a folder where only what it touches is made again. `--control`
runs the same tests without a break first, which have to be green. The table has for each break the seconds
and the test that saw it.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from breaks import NATIVE, ROOT, Break
from breaks_python import PYTHON

import thinned._native

GREEN, RED = 0, 1  # pytest's own codes; others are no verdict


class Copy:
    """A copy of the package that Python imports, with compiled code of its own."""

    def __init__(self, folder: Path) -> None:
        self.sources, self._build = folder / "src", folder / "build"
        self._folder = folder
        shutil.copytree(ROOT / "src", self.sources, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("native", "CMakeLists.txt", "CONTRACT.md", "pyproject.toml", "README.md"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, folder / name)
        self._installed = Path(thinned._native.__file__).parent
        self.restore_native()
        # What an editable install imports at start, to have its sources in front: here nothing.
        (self.sources / "_editable_skbc_thinned.py").write_text("")

    def restore_native(self) -> None:
        """The compiled code as it is installed."""
        for built in [*self._installed.glob("_native*.*"), *self._installed.glob("_operators/*.so")]:
            if built.suffix in (".so", ".pyd"):
                target = self.sources / "thinned" / built.relative_to(self._installed)
                target.parent.mkdir(exist_ok=True)
                shutil.copy(built, target)

    def file(self, name: str) -> Path:
        """Where a file of the repository is in this copy."""
        return self._folder / name

    def compile(self) -> None:
        """Build the native module of this copy and put it where Python finds it."""
        nanobind = subprocess.check_output(
            [sys.executable, "-m", "nanobind", "--cmake_dir"], text=True
        ).strip()
        cmake = shutil.which("cmake", path=Path(sys.executable).parent) or "cmake"
        ninja = ["-G", "Ninja"] if shutil.which("ninja") else []
        options = [f"-DPython_EXECUTABLE={sys.executable}", f"-Dnanobind_DIR={nanobind}"]
        if not (self._build / "CMakeCache.txt").exists():
            _quietly([cmake, "-S", str(self._folder), "-B", str(self._build), *ninja, *options])
        _quietly([cmake, "--build", str(self._build)])
        (built,) = self._build.glob("_native*.so")
        installed = next(self._installed.glob("_native*.so"))
        shutil.copy(built, self.sources / "thinned" / installed.name)

    def tested(self, tests: tuple[str, ...]) -> tuple[int, str]:
        """Pytest's code and what it printed, of tests below tests/ with this copy imported."""
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "not full", "-p", "no:cacheprovider"]
        files = [str(ROOT / "tests" / test) for test in tests]
        path = os.pathsep.join(filter(None, [str(self.sources), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [*command, *files], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    def imported(self) -> Path:
        """The package that Python finds."""
        environment = {**os.environ, "PYTHONPATH": str(self.sources)}
        code = "import thinned, thinned._native; print(thinned.__file__, thinned._native.__file__, sep='\\n')"
        found = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True).splitlines()
        return Path(os.path.commonpath(found))


def _quietly(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-4000:]}{done.stderr[-4000:]}")


def first_red(printed: str) -> str:
    """The test that pytest's summary names first; a nested case rather than the test around it."""
    found = re.findall(r"^(?:SUBFAILED\[(.*?)\] |FAILED |ERROR )(\S.*?)(?: - .*)?$", printed, re.MULTILINE)
    return next((case or test for case, test in found), "?")


def check(copy: Copy, one: Break) -> tuple[bool, str]:
    """Whether a break is seen, and by which test or what happened instead."""
    file = copy.file(one.file)
    whole = file.read_text()
    file.write_text(one.applied(whole))
    try:
        if one.native:
            copy.compile()
        code, printed = copy.tested(one.tests)
    finally:
        file.write_text(whole)
        if one.native:
            copy.restore_native()
    if code == RED:
        return True, first_red(printed)
    return (
        False,
        "no test is red" if code == GREEN else f"no verdict, pytest ended with {code}:\n{printed[-2000:]}",
    )


def control(copy: Copy, breaks: list[Break]) -> None:
    """All tests without a break, once each."""
    tests = tuple(dict.fromkeys(test for one in breaks for test in one.tests))
    code, printed = copy.tested(tests)
    if code != GREEN:
        raise SystemExit(f"without a break the tests are not green:\n{printed[-4000:]}")
    print(f"without a break all of {len(tests)} are green", flush=True)


def main() -> int:
    """The table, and 1 where a break was not seen."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="breaks whose name or file has these words")
    parser.add_argument("--python", action="store_true", help="breaks of Python sources alone")
    parser.add_argument("--native", action="store_true", help="breaks of the kernel alone")
    parser.add_argument("--control", action="store_true", help="run the tests without a break first")
    chosen = parser.parse_args()
    breaks = [*([] if chosen.native else PYTHON), *([] if chosen.python else NATIVE)]
    breaks = [one for one in breaks if chosen.only in one.name or chosen.only in one.file]
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(Path(folder) / "thinned")
        if not copy.imported().is_relative_to(copy.sources):
            raise SystemExit(f"Python imports {copy.imported()}, not the copy")
        if chosen.control:
            control(copy, breaks)
        for one in breaks:
            begin = time.monotonic()
            seen, by = check(copy, one)
            missed += not seen
            print(
                f"{'red ' if seen else 'MISSED'} {time.monotonic() - begin:6.1f} s  {one.name}: {by}",
                flush=True,
            )
    print(f"{len(breaks)} breaks, {missed} missed")
    return 1 if missed or not breaks else 0


if __name__ == "__main__":
    sys.exit(main())
