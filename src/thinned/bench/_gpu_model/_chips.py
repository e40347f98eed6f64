"""The published figures of each GPU stand here, with the model's assumptions."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Chip:
    """A GPU, its numbers for one of its multiprocessors ("SM", AMD: compute unit) and one clock.

    Args:
        name: the product.
        backend: of Triton, cuda or hip.
        arch: as Triton wants it.
        lanes: threads of a warp.
        units: multiprocessors.
        clock: Hz, the highest published: then the generator is best off, and so is memory worst off.
        bandwidth: bytes a second, published. A copy moves some 90 % of it; the model grants a copy all of it.
        issue: instructions of a thread that are issued.
        pipes: results of each pipe.
        registers: of 32 bits.
        threads: the most that are resident.
        programs: the most that are resident.
        latency: clocks from a load to its data under load; assumed, about twice what is measured idle.
        tensor: operations of its dense products of bfloat16.
    """

    name: str
    backend: str
    arch: int | str
    lanes: int
    units: int
    clock: float
    bandwidth: float
    issue: int
    registers: int
    threads: int
    programs: int
    latency: int
    tensor: int
    pipes: dict[str, float] = field(default_factory=dict)

    def bytes_a_clock(self) -> float:
        """Gives what memory moves for one multiprocessor in a clock."""
        return self.bandwidth / self.units / self.clock


# CUDA C++ programming guide, "Throughput of native arithmetic instructions": int32 add, compare, logic, shift
# and multiply-add 64 a clock for 8.0 and 9.0; float32 64 and 128; conversions to other widths 16 and 64, here
# 16; 32 lanes of loads, stores and shuffles. 10.0 is taken as 9.0. A product of 64 bits is in no table: it is
# counted as two of 32.
_NVIDIA: dict[str, float] = {
    "logic": 64,
    "multiply": 64,
    "float": 128,
    "double": 64,
    "convert": 16,
    "memory": 32,
}

A100 = Chip(
    "A100 SXM 80 GB",
    "cuda",
    80,
    32,
    108,
    1.41e9,
    2.039e12,
    128,
    65536,
    2048,
    32,
    800,
    2048,
    _NVIDIA | {"float": 64.0, "double": 32.0},
)
H100 = Chip("H100 SXM", "cuda", 90, 32, 132, 1.98e9, 3.35e12, 128, 65536, 2048, 32, 1000, 4096, _NVIDIA)
B200 = Chip("B200", "cuda", 100, 32, 148, 1.965e9, 8.0e12, 128, 65536, 2048, 32, 1200, 8192, _NVIDIA)
# AMD, "CDNA 3 ISA" and the data sheet: four SIMDs of 16 lanes; products of 32 and 64 bits a quarter of that.
MI300X = Chip(
    "MI300X",
    "hip",
    "gfx942",
    64,
    304,
    2.1e9,
    5.3e12,
    128,
    131072,
    2048,
    32,
    1600,
    2048,
    {"logic": 64, "multiply": 16, "float": 64, "double": 64, "convert": 16, "memory": 16},
)
CHIPS = {"sm_80": A100, "sm_90": H100, "sm_100": B200, "gfx942": MI300X}
