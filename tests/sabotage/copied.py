"""A copy of the package that Python imports in place of the installed one, with compiled code of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from breaks import ROOT, Break
from filelock import FileLock

import thinned._native

# What was compiled is kept for later runs.
FOLDER = ROOT / ".pytest_cache" / "sabotage"
NATIVE_SOURCES = ("native", "CMakeLists.txt", "CONTRACT.md", "pyproject.toml", "README.md")


class Copy:
    """The sources in `FOLDER`, made anew; objects of the kernel stay there from one run to the next."""

    def __init__(self) -> None:
        self.sources, self._build, self._whole = FOLDER / "src", FOLDER / "build", FOLDER / "whole"
        shutil.rmtree(self.sources, ignore_errors=True)
        shutil.copytree(ROOT / "src", self.sources, ignore=shutil.ignore_patterns("__pycache__"))
        for name in NATIVE_SOURCES:
            source, target = ROOT / name, FOLDER / name
            if source.is_dir():
                shutil.rmtree(target, ignore_errors=True)
                shutil.copytree(source, target)
            else:
                shutil.copy2(source, target)
        # Bits do not depend on it, and compiling takes half the time.
        cmake = FOLDER / "CMakeLists.txt"
        if (plain := cmake.read_text().replace(" -O3 ", " -O1 ")) != cmake.read_text():
            times = cmake.stat()
            cmake.write_text(plain)
            os.utime(cmake, ns=(times.st_atime_ns, times.st_mtime_ns))
        self._installed = Path(thinned._native.__file__).parent
        self._restore_native()
        # What an editable install imports at start, to have its sources in front: here nothing.
        (self.sources / "_editable_skbc_thinned.py").write_text("")
        self._compiled = False

    @classmethod
    @contextlib.contextmanager
    def held(cls) -> Iterator[Copy]:
        """The copy, while no other run has it."""
        FOLDER.mkdir(parents=True, exist_ok=True)
        with FileLock(FOLDER / "lock"):
            copy = cls()
            if not copy.imported().is_relative_to(copy.sources):
                raise SystemExit(f"Python imports {copy.imported()}, not the copy")
            yield copy

    @contextlib.contextmanager
    def broken(self, one: Break) -> Iterator[None]:
        """The copy with a break in it; compiled first where it is a native one."""
        file = FOLDER / one.file
        if one.native and not self._compiled:
            self._compile_whole()
        whole, times = file.read_text(), file.stat()
        file.write_text(one.applied(whole))
        try:
            if one.native:
                self._compile()
            yield
        finally:
            file.write_text(whole)
            os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
            if one.native:
                self._restore_native()

    def _restore_native(self) -> None:
        """The compiled code as it is installed."""
        for built in [*self._installed.glob("_native*.*"), *self._installed.glob("_operators/*.so")]:
            if built.suffix in (".so", ".pyd"):
                target = self.sources / "thinned" / built.relative_to(self._installed)
                target.parent.mkdir(exist_ok=True)
                shutil.copy(built, target)

    def _compile_whole(self) -> None:
        """Objects without a break, of which every break takes what it does not touch."""
        shutil.rmtree(self._build, ignore_errors=True)
        if self._whole.exists():
            shutil.copytree(self._whole, self._build)
        nanobind = subprocess.check_output(
            [sys.executable, "-m", "nanobind", "--cmake_dir"], text=True
        ).strip()
        ninja = ["-G", "Ninja"] if shutil.which("ninja") else []
        options = [f"-DPython_EXECUTABLE={sys.executable}", f"-Dnanobind_DIR={nanobind}"]
        _quietly([_cmake(), "-S", str(FOLDER), "-B", str(self._build), *ninja, *options])
        _quietly([_cmake(), "--build", str(self._build)])
        shutil.rmtree(self._whole, ignore_errors=True)
        shutil.copytree(self._build, self._whole)
        self._compiled = True

    def _compile(self) -> None:
        """Build what the break touches, and put the module where Python finds it."""
        shutil.rmtree(self._build)
        shutil.copytree(self._whole, self._build)
        _quietly([_cmake(), "--build", str(self._build), "--target", "_native"])
        (built,) = self._build.glob("_native*.so")
        installed = next(self._installed.glob("_native*.so"))
        shutil.copy(built, self.sources / "thinned" / installed.name)

    def tested(self, tests: tuple[str, ...], *options: str) -> tuple[int, str]:
        """Pytest's code and what it printed, of tests below tests/ with this copy imported."""
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "not full", "-p", "no:cacheprovider"]
        files = [str(ROOT / "tests" / test) for test in tests]
        done = subprocess.run(
            [*command, *options, *files],
            cwd=ROOT,
            env={**self._environment(), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def imported(self) -> Path:
        """The package that Python finds."""
        code = "import thinned, thinned._native; print(thinned.__file__, thinned._native.__file__, sep='\\n')"
        found = subprocess.check_output([sys.executable, "-c", code], env=self._environment(), text=True)
        return Path(os.path.commonpath(found.splitlines()))

    def _environment(self) -> dict[str, str]:
        path = filter(None, [str(self.sources), os.environ.get("PYTHONPATH")])
        return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


def _cmake() -> str:
    return shutil.which("cmake", path=Path(sys.executable).parent) or "cmake"


def _quietly(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
