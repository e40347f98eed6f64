"""The platforms that `make cross-wheels` builds for, as the compiler, CMake and pip name them."""

from __future__ import annotations

from typing import NamedTuple

GLIBC = "2.17"
MACOS = "11.0"


class Target(NamedTuple):
    """One platform."""

    name: str
    zig: str  # the compiler's name of it
    system: str  # CMake's
    processor: str
    tag: str  # of the wheel
    soabi: str  # in the name of a module that serves one version of CPython, after the version
    form: str  # of its binaries, as lief names it
    machine: str
    needs: tuple[str, ...]  # beginnings of the names of libraries that are always there


_ELF = ("libc.so", "libm.so.6", "libpthread.so.0", "libdl.so.2", "ld-linux")
_WINDOWS = ("kernel32.dll", "ntdll.dll", "api-ms-win-crt-", "python3")


def _linux(processor: str, libc: str, machine: str) -> Target:
    glibc = libc == "gnu"
    tag = f"manylinux_{GLIBC.replace('.', '_')}_{processor}" if glibc else f"musllinux_1_2_{processor}"
    zig = f"{processor}-linux-{libc}" + (f".{GLIBC}" if glibc else "")
    return Target(
        f"linux-{processor}-{libc}", zig, "Linux", processor, tag, f"{processor}-linux-{libc}",
        "ELF", machine, _ELF if glibc else ("libc.so",),
    )  # fmt: skip


def _macos(processor: str, zig: str, machine: str) -> Target:
    tag = f"macosx_{MACOS.replace('.', '_')}_{processor}"
    return Target(
        f"macos-{processor}", f"{zig}-macos.{MACOS}", "Darwin", processor, tag, "darwin",
        "MACHO", machine, ("/usr/lib/libSystem.B.dylib", "/usr/lib/libc++"),
    )  # fmt: skip


TARGETS = (
    _linux("x86_64", "gnu", "X86_64"),
    _linux("x86_64", "musl", "X86_64"),
    _linux("aarch64", "gnu", "AARCH64"),
    _linux("aarch64", "musl", "AARCH64"),
    _macos("arm64", "aarch64", "ARM64"),
    _macos("x86_64", "x86_64", "X86_64"),
    Target(
        "windows-x86_64", "x86_64-windows-gnu", "Windows", "AMD64", "win_amd64", "win_amd64",
        "PE", "AMD64", _WINDOWS,
    ),
)  # fmt: skip
