"""`make cross-wheels`: wheels for other platforms, built and looked at on this machine.

For each target the kernel, its own test and the module are compiled by the compiler of the package ziglang,
once for CPython 3.11 and once with the stable ABI for 3.12 and later. Then the wheels are examined, and the
test runs where this machine has something that runs it. `cross.py WORDS` builds the targets whose names
hold all words; `cross.py --note` writes what was found into docs/releasing.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import assembled
import examined
import pages
import toolchain
from run import interpreter
from targets import TARGETS, Target

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "cross"

PAGE = ROOT / "docs" / "releasing.md"
HEAD = "target | wheels | examined | run | date"
VERSIONS = ("3.11", "3.12")


def main() -> None:
    """Build the targets that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="of the targets' names")
    parser.add_argument("--note", action="store_true", help="write the table of docs/releasing.md")
    options = parser.parse_args()
    chosen = [one for one in TARGETS if all(word in one.name for word in options.words)]
    plain = assembled.without_kernel(ROOT, BUILD / "plain")
    for target in chosen:
        began = time.monotonic()
        wheels = built(target, plain)
        cells = [", ".join(f"`{assembled.tag(one)}`" for one in wheels), *found(target, wheels)]
        print(" | ".join([target.name, *cells]), f"({time.monotonic() - began:.0f} s)", flush=True)
        if options.note:
            today = time.strftime("%Y-%m-%d")
            pages.note(PAGE, HEAD, [target.name, *cells, today], [one.name for one in TARGETS])


def built(target: Target, plain: Path) -> list[Path]:
    """The wheels of a target, under build/cross/wheels."""
    folder = BUILD / target.name
    settings = toolchain.written(target, folder)
    made = folder / "build"
    wheels = []
    for version in VERSIONS:  # one after the other in one folder: the kernel itself knows nothing of Python
        stable = version != VERSIONS[0]
        configure(made, settings, "-DTHINNED_SELFTEST=OFF", *of_python(target, version, folder))
        shutil.rmtree(folder / "installed", ignore_errors=True)
        run("cmake", "--build", made)
        run("cmake", "--install", made, "--prefix", folder / "installed")
        tags = f"cp312-abi3-{target.tag}" if stable else f"cp311-cp311-{target.tag}"
        wheels.append(assembled.wheel(plain, folder / "installed", tags, BUILD / "wheels"))
    if examined.runner(target) is not None:
        configure(made, settings, "-DTHINNED_SELFTEST=ON")
        run("cmake", "--build", made)
    return wheels


def of_python(target: Target, version: str, folder: Path) -> list[str]:
    """What CMake is told of the target's Python, as it cannot be asked."""
    python = interpreter(version)
    digits = version.replace(".", "")
    windows = target.system == "Windows"
    soabi = f"cp{digits}-{target.soabi}" if windows else f"cpython-{digits}-{target.soabi}"
    end = ".pyd" if windows else ".so"
    nanobind = subprocess.check_output([sys.executable, "-m", "nanobind", "--cmake_dir"], text=True).strip()
    told = {
        "Python_EXECUTABLE": python,
        "Python_INCLUDE_DIR": toolchain.headers(target, python, folder / version),
        "nanobind_DIR": nanobind,
        "SKBUILD_SOABI": soabi,
        "SKBUILD_SOSABI": "" if windows else "abi3",
        "NB_SUFFIX": f".{soabi}{end}",
        "NB_SUFFIX_S": end if windows else f".abi3{end}",
    }
    if windows:
        names = {"Python_LIBRARY": f"python{digits}", "Python_SABI_LIBRARY": "python3"}
        for variable, name in names.items():
            told[variable] = toolchain.import_library(name, folder / version, Path(nanobind))
    return ["-UPython_*", "-U_Python*", "-UNB_*", *(f"-D{name}={value}" for name, value in told.items())]


def configure(folder: Path, settings: Path, *options: str) -> None:
    """Tell CMake what to build."""
    run("cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", f"-DCMAKE_TOOLCHAIN_FILE={settings}", *options)


def run(*command: str | Path) -> None:
    """A program of this environment; what it prints is shown where it fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, "PATH": path}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{done.stdout}\n{' '.join(map(str, command))} failed")


def found(target: Target, wheels: list[Path]) -> list[str]:
    """What the wheels hold, and what their test said, in words."""
    held = [examined.wheel(target, one) for one in wheels]
    return [held[0] if held[0] == held[1] else "; ".join(held), examined.test(target, BUILD / target.name)]


if __name__ == "__main__":
    main()
