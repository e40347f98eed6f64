"""A pytest plugin: kernels are compiled for GPUs that are not here, and what they take is read."""

import re
import subprocess

import pytest
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction


class Absent:
    """The driver of a GPU that is not here."""

    def __init__(self, capability):
        self.capability = capability

    def get_current_device(self):
        return self.capability  # a device of its own, or code for another would be found

    def get_current_stream(self, device):
        return 0

    def get_current_target(self):
        return GPUTarget("cuda", self.capability, 32)


@pytest.fixture
def made(request, monkeypatch, tmp_path):
    """The kernels made, in order of their launches; for a capability of 9.0 if no other is asked for."""
    kernels = []
    run = JITFunction.run

    def compile_only(self, *arguments, grid, warmup, **options):
        kernels.append(run(self, *arguments, grid=grid, warmup=True, **options))

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(JITFunction, "run", compile_only)
    before = driver._active
    driver.set_active(Absent(getattr(request, "param", 90)))
    yield kernels
    driver._active = before


def resources(kernel, folder):
    """Registers, and bytes of stack, of which each is a register's that was spilled."""
    file = folder / "kernel.cubin"
    file.write_bytes(kernel.asm["cubin"])
    command = [knobs.nvidia.cuobjdump.path, "--dump-resource-usage", str(file)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", text))
    return int(found["REG"]), int(found["STACK"]) + int(found["LOCAL"])


def instructions(kernel, folder):
    """Names of the instructions that the assembler made."""
    file = folder / "kernel.cubin"
    file.write_bytes(kernel.asm["cubin"])
    text = subprocess.run(
        [knobs.nvidia.nvdisasm.path, "-c", str(file)], capture_output=True, text=True, check=True
    ).stdout
    return re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?([A-Z0-9_.]+)", text, re.MULTILINE)
