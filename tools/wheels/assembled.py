"""Wheels from two parts: one without the kernel, and what CMake installed for a target."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path


def without_kernel(root: Path, folder: Path) -> Path:
    """The wheel of the sources alone."""
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    settings = ["-C", "wheel.cmake=false", "-C", "wheel.py-api=py3"]
    subprocess.run([*command, *settings, "-w", folder, root], check=True)
    return next(folder.glob("*.whl"))


def wheel(plain: Path, installed: Path, tags: str, folder: Path) -> Path:
    """The wheel for a platform, in a folder: the sources and the compiled parts."""
    work = folder.parent / "unpacked"
    shutil.rmtree(work, ignore_errors=True)
    _wheel("unpack", plain, "--dest", work)
    inside = next(work.iterdir())
    shutil.copytree(installed, inside, dirs_exist_ok=True)
    about = next(inside.glob("*.dist-info/WHEEL"))
    lines = [line for line in about.read_text().splitlines() if line.strip() and not line.startswith("Tag: ")]
    lines = ["Root-Is-Purelib: false" if line.startswith("Root-Is-Purelib") else line for line in lines]
    about.write_text("\n".join([*lines, f"Tag: {tags}", ""]))
    folder.mkdir(parents=True, exist_ok=True)
    _wheel("pack", inside, "--dest-dir", folder)
    return next(folder.glob(f"*-{tags}.whl"))


def tag(path: Path) -> str:
    """A wheel's tags."""
    return path.stem.split("-", 2)[2]


def _wheel(*words: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "wheel", *words], check=True, stdout=subprocess.DEVNULL)
