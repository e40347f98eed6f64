"""Kernels are compiled here for GPUs that are not in the machine."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triton import knobs  # type: ignore[import-untyped]
from triton.backends.compiler import GPUTarget  # type: ignore[import-untyped]
from triton.runtime import driver  # type: ignore[import-untyped]
from triton.runtime.jit import JITFunction  # type: ignore[import-untyped]


class Absent:
    """The driver of a GPU that is not here."""

    def __init__(self, arch: int | str, backend: str = "cuda") -> None:
        self.arch = arch
        self.target: Any = GPUTarget(backend, arch, 32 if backend == "cuda" else 64)

    def get_current_device(self) -> int | str:
        """One of its own, or code for another would be found."""
        return self.arch

    def get_current_stream(self, device: Any) -> int:
        """The only one."""
        return 0

    def get_current_target(self) -> Any:
        """Gives what is compiled for."""
        return self.target


@dataclass(frozen=True)
class Launch:
    """A kernel, compiled, and its programs."""

    name: str
    programs: int
    kernel: Any


@contextmanager
def compiling(arch: int | str, backend: str = "cuda") -> Iterator[list[Launch]]:
    """The launches made within, none of which runs."""
    made: list[Launch] = []
    run = JITFunction.run

    def compile_only(self: Any, *arguments: Any, grid: Any, warmup: bool, **options: Any) -> None:
        kernel = run(self, *arguments, grid=grid, warmup=True, **options)
        made.append(Launch(self.fn.__name__, grid[0], kernel))

    JITFunction.run = compile_only
    driver.set_active(Absent(arch, backend))
    try:
        yield made
    finally:
        JITFunction.run = run
        driver.set_active(None)  # the next launch asks anew which GPU there is


def resources(kernel: Any) -> tuple[int, int]:
    """Registers of a thread, and bytes of its stack, of which each is a register's that was spilled."""
    if "cubin" not in kernel.asm:
        text = kernel.asm["amdgcn"]
        # Registers of a whole wave that are spilled go to lanes of vector registers, and not to memory.
        found = dict(re.findall(r"\.(vgpr_count|private_segment_fixed_size): +(\d+)", text))
        return int(found["vgpr_count"]), int(found["private_segment_fixed_size"])
    text = _tool(knobs.nvidia.cuobjdump.path, kernel, "--dump-resource-usage")
    found = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", text))
    return int(found["REG"]), int(found["STACK"]) + int(found["LOCAL"])


def assembly(kernel: Any) -> str:
    """Returns the assembler's output."""
    if "cubin" not in kernel.asm:
        return str(kernel.asm["amdgcn"])
    return _tool(knobs.nvidia.nvdisasm.path, kernel, "-c")


def _tool(path: str, kernel: Any, *options: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(kernel.asm["cubin"])
        return subprocess.run([path, *options, str(file)], capture_output=True, text=True, check=True).stdout
