"""A result describes here the machine that it was measured on."""

from __future__ import annotations

import platform
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import cpuinfo  # type: ignore[import-untyped]
import psutil  # type: ignore[import-untyped]
import torch

from thinned import __version__, _kernel, get_num_threads
from thinned._installed import versions

_FACTS = ("level", "type", "size", "shared_cpu_list")


@dataclass(frozen=True)
class Machine:
    """The machine, and how busy it was when the run began.

    Args:
        processor: its name.
        architecture: its instruction set.
        cores: physical ones, as far as the system shows them.
        caches: one entry a level and kind; empty where the system does not tell.
        memory: bytes.
        system: name and version.
        path: the kernel's code path.
        paths: all code paths that this machine can run, fastest first.
        threads: that each competitor may use.
        load: load average over the minute before the run.
        date: when the run began, UTC.
        versions: of Python and of the packages compared.
        gpu: its name; empty where there is none.
    """

    processor: str
    architecture: str
    cores: int | None
    caches: tuple[str, ...]
    memory: int
    system: str
    path: str
    paths: tuple[str, ...]
    threads: int
    load: float
    date: str
    versions: dict[str, str]
    gpu: str = ""

    @property
    def name(self) -> str:
        """Names the machine in a few words."""
        return f"{self.processor}, {self.threads} threads, {self.path}"


def describe() -> Machine:
    """This machine, now."""
    packages = versions(("numpy", "torch", "triton", "jax", "flax", "tensorflow", "keras"))
    return Machine(
        processor=_processor(),
        architecture=platform.machine(),
        cores=psutil.cpu_count(logical=False),
        caches=_caches(),
        memory=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.release().split('-')[0]}",
        path=_kernel.path(),
        paths=tuple(_kernel.paths()),
        threads=get_num_threads(),
        load=round(psutil.getloadavg()[0], 2),
        date=datetime.now(UTC).isoformat(timespec="minutes"),
        versions={
            "python": platform.python_version(),
            **{name: number for name, number in packages.items() if number},
            "thinned": __version__,
        },
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else "",
    )


@lru_cache(None)
def _processor() -> str:
    """Its name; asking starts other programs, for a second."""
    return cpuinfo.get_cpu_info().get("brand_raw", "unknown")  # type: ignore[no-any-return]


def _caches() -> tuple[str, ...]:
    """Reads the caches from Linux: py-cpuinfo gives the second level's size for the third's on AMD."""
    found: Counter[tuple[str, str, str]] = Counter()
    seen = set()
    for cache in sorted(Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cache/index[0-9]*")):
        level, kind, size, shared = (_read(cache / name) for name in _FACTS)
        if kind != "Instruction" and (level, kind, shared) not in seen:
            seen.add((level, kind, shared))
            found[level, kind, size] += 1
    return tuple(
        f"L{level} {many} × {size.removesuffix('K')} KiB" for (level, _, size), many in sorted(found.items())
    )


def _read(path: Path) -> str:
    return path.read_text(encoding="ascii").strip() if path.exists() else "?"
