"""What CMake needs to compile for another platform by the compiler of the package ziglang.

The compiler has the headers and libraries of each system with it. Python's headers are those of an
interpreter of this machine: on systems with 64-bit pointers and longs they differ in nothing that the
kernel's module includes. Windows has other sizes, and links against a list of Python's names.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from targets import Target

# -Wl,@FILE tells Apple's linker which names Python brings; this compiler's linker takes -undefined. It dies
# of a bundle; Python loads a dynamic library as well.
COMPILER = """#!/bin/sh
for word; do
  shift
  case $word in
    -Wl,@*) ;;
    -bundle) set -- "$@" -dynamiclib ;;
    *) set -- "$@" "$word" ;;
  esac
done
exec "{python}" -m ziglang c++ -target {target} "$@"
"""
TOOL = """#!/bin/sh
exec "{python}" -m ziglang {tool} "$@"
"""
SETTINGS = """
set(CMAKE_SYSTEM_NAME {system})
set(CMAKE_SYSTEM_PROCESSOR {processor})
set(CMAKE_CXX_COMPILER "{folder}/c++")
set(CMAKE_AR "{folder}/ar")
set(CMAKE_RANLIB "{folder}/ranlib")
set(CMAKE_RC_COMPILER "{folder}/rc")
"""
APPLE = """
set(CMAKE_OSX_SYSROOT "")
set(CMAKE_INSTALL_NAME_TOOL true)
set(CMAKE_MODULE_LINKER_FLAGS_INIT "-undefined dynamic_lookup")
"""
# What Python's headers ask of Windows, and nothing of what they offer there beside it.
WINDOWS = """
#pragma once
#define MS_WINDOWS
#define MS_WIN32
#define MS_WIN64
#define NT_THREADS
#define WITH_THREAD
#define Py_ENABLE_SHARED
#define HAVE_DECLSPEC_DLL
#define HAVE_STDDEF_H 1
#define HAVE_SYS_TYPES_H 1
#define HAVE_WCHAR_H 1
#define SIZEOF_SHORT 2
#define SIZEOF_INT 4
#define SIZEOF_LONG 4
#define SIZEOF_LONG_LONG 8
#define SIZEOF_DOUBLE 8
#define SIZEOF_FLOAT 4
#define SIZEOF_SIZE_T 8
#define SIZEOF_TIME_T 8
#define SIZEOF_WCHAR_T 2
#define SIZEOF_VOID_P 8
#define SIZEOF_PID_T 4
#define ALIGNOF_SIZE_T 8
#define ALIGNOF_MAX_ALIGN_T 8
typedef long long Py_ssize_t;
#define HAVE_PY_SSIZE_T 1
#define PY_SSIZE_T_MAX 9223372036854775807LL
#define HAVE_LONG_LONG 1
#define DOUBLE_IS_LITTLE_ENDIAN_IEEE754 1
#define PLATFORM "win32"
#define PY_LLFORMAT "ll"
"""


def written(target: Target, folder: Path) -> Path:
    """Write the compiler's commands for a target and the file for CMake, which is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    _script(folder / "c++", COMPILER.format(python=sys.executable, target=target.zig))
    for tool in ("ar", "ranlib", "rc"):
        _script(folder / tool, TOOL.format(python=sys.executable, tool=tool))
    text = SETTINGS.format(folder=folder, **target._asdict())
    path = folder / "toolchain.cmake"
    path.write_text(text + (APPLE if target.system == "Darwin" else ""))
    return path


def headers(target: Target, python: str, folder: Path) -> Path:
    """Python's headers for a target, of an interpreter of this machine."""
    asked = "import sysconfig; print(sysconfig.get_path('include'))"
    here = Path(subprocess.check_output([python, "-c", asked], text=True).strip())
    if target.system != "Windows":
        return here
    there = folder / "include"
    shutil.copytree(here, there, dirs_exist_ok=True)
    (there / "pyconfig.h").write_text(WINDOWS)
    return there


def import_library(name: str, folder: Path, nanobind: Path) -> Path:
    """A library by which a module for Windows finds Python's names in `name`.dll."""
    names = re.findall(r"^-U _(\w+)$", (nanobind / "darwin-ld-cpython.sym").read_text(), re.MULTILINE)
    listed, made = folder / f"{name}.def", folder / f"{name}.lib"
    listed.write_text("\n".join([f"LIBRARY {name}.dll", "EXPORTS", *names, ""]))
    command = [sys.executable, "-m", "ziglang", "dlltool", "-m", "i386:x86-64"]
    subprocess.run([*command, "-d", listed, "-l", made, "-D", f"{name}.dll"], check=True)
    return made


def _script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
