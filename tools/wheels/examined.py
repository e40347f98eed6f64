"""What a wheel for another platform holds, and whether its kernel is right where something can run it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path

import lief
from targets import GLIBC, MACOS, Target

lief.logging.disable()  # it warns of indices that it then does not need
# A code path that was compiled has its name in the module.
PATHS = {"x86_64": (b"avx512", b"avx2", b"baseline", b"portable"), "arm": (b"baseline", b"portable")}


def wheel(target: Target, path: Path) -> str:
    """Say what was examined, or end with what is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        zipfile.ZipFile(path).extractall(folder)
        modules = [one for one in Path(folder).rglob("*") if one.suffix in (".so", ".pyd", ".dylib", ".dll")]
        wanted = 1 if target.system == "Windows" else 2  # TensorFlow's operators
        _same(path, "compiled files", len(modules), wanted)
        for module in modules:
            _binary(target, module)
    return f"{target.form}, {target.machine}; what it exports and needs; code paths"


def _binary(target: Target, path: Path) -> None:
    binary = lief.parse(str(path))
    _same(path, "format", binary.format.name, target.form)
    header = binary.header
    machine = {"ELF": "machine_type", "MACHO": "cpu_type", "PE": "machine"}[target.form]
    _same(path, "machine", getattr(header, machine).name, target.machine)
    strange = [name for name in _needed(binary) if not name.lower().startswith(_lower(target.needs))]
    _same(path, "libraries that a system may lack", strange, [])
    if target.form == "ELF" and "gnu" in target.zig:
        newer = {one for one in _glibc(binary) if _numbers(one) > _numbers(GLIBC)}
        _same(path, "names of a newer glibc", newer, set())
    if target.form == "MACHO":
        _same(path, "oldest macOS", _oldest(binary), _numbers(MACOS))
    if path.name.startswith("_native"):
        exported = {one.name.removeprefix("_") for one in binary.exported_functions} | {
            one.name.removeprefix("_") for one in getattr(binary, "exported_symbols", [])
        }
        _same(path, "PyInit", {one for one in exported if "PyInit" in one}, {"PyInit__native"})
        kind = "x86_64" if target.processor in ("x86_64", "AMD64") else "arm"
        held = path.read_bytes()
        absent = [name for name in PATHS[kind] if name + b"\0" not in held]
        _same(path, "code paths that are absent", absent, [])


def _needed(binary: lief.Binary) -> list[str]:
    if binary.format.name == "MACHO":
        own = binary.libraries[0].name if binary.header.file_type.name == "DYLIB" else None
        return [one.name for one in binary.libraries if one.name != own]
    return [str(one) for one in binary.libraries]


def _glibc(binary: lief.Binary) -> list[str]:
    libraries = binary.symbols_version_requirement
    names = [entry.name for one in libraries for entry in one.get_auxiliary_symbols()]
    return [name.removeprefix("GLIBC_") for name in names if re.fullmatch(r"GLIBC_[\d.]+", name)]


def _oldest(binary: lief.Binary) -> tuple[int, ...]:
    stated = binary.build_version.minos if binary.has_build_version else binary.version_min.version
    return tuple(stated)[:2]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(one) for one in version.split("."))


def _lower(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name.lower() for name in names)


def _same(path: Path, what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise SystemExit(f"{path.name}: {what}: {found}, and not {wanted}")


def test(target: Target, folder: Path) -> str:
    """What the kernel's own test said, by whatever of this machine runs it."""
    if (by := runner(target)) is None:
        return "not run: nothing here runs it"
    program = next(one for one in folder.glob("build/thinned_selftest*") if one.suffix in ("", ".exe"))
    done = subprocess.run([*by, str(program), "40"], capture_output=True, text=True)
    said = [line for line in done.stdout.splitlines() if line.strip()]
    if done.returncode or not said:
        raise SystemExit(f"{done.stdout}{done.stderr}\n{program} failed")
    by_what = f" by {Path(by[0]).name}" if by else ""
    return f"the kernel's test{by_what}: {said[-2].strip()}; {said[-1].strip()}"


def runner(target: Target) -> list[str] | None:
    """The command that runs a target's programs on this machine; None if there is none."""
    same = target.processor == platform.machine()
    loader = f"ld-{'linux' if 'gnu' in target.zig else 'musl'}-{target.processor}.so.1"
    if target.system == "Linux":
        if same and ("gnu" in target.zig or Path("/lib", loader).exists()):
            return []
        emulator = shutil.which(f"qemu-{target.processor}") or shutil.which(f"qemu-{target.processor}-static")
        for root in (os.environ.get("QEMU_LD_PREFIX", "/"), f"/usr/{target.processor}-linux-gnu"):
            if emulator and Path(root, "lib", loader).exists():
                return [emulator, "-L", root]
    if target.system == "Windows" and (wine := shutil.which("wine")):
        return [wine]
    return None
