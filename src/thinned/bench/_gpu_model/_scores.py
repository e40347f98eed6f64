"""Attention in the model: what a loop of its kernels does for a score, with the mask and without one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch

from thinned.bench._gpu_model._absent import Launch, assembly, compiling, resources
from thinned.bench._gpu_model._cases import CASES, KEY, Case
from thinned.bench._gpu_model._chips import CHIPS, Chip
from thinned.bench._gpu_model._code import around, by_pipe, width
from thinned.bench._gpu_model._row import Row, clocks, resident
from thinned.torch._triton import _launch_attention
from thinned.torch._triton._tiles import tile

_HEADS = 16
# Products of matrices by one head's width, of two operations each.
_PRODUCTS = {"forward": 2, "queries": 3, "keys_and_values": 4}
_TENSOR = ("HMMA", "HGMMA", "UTCHMMA")


@dataclass(frozen=True)
class Scores:
    """A kernel of attention, heads of a width, and no attn_mask; bfloat16, sequences of 4,096.

    Args:
        kernel: forward, queries, or keys_and_values.
        width: of a head.
    """

    kernel: str
    width: int
    dtype: torch.dtype = torch.bfloat16
    length: int = 4096

    @property
    def elements(self) -> int:
        """Scores of a call."""
        return _HEADS * self.length * self.length

    @property
    def name(self) -> str:
        return f"attention {self.width}, {self.kernel.replace('_', ' ')}"

    def label(self) -> dict[str, Any]:
        """Gives what it is, as a row begins."""
        return {"kernel": self.name, "dtype": "bfloat16", "elements": self.elements}

    def predict(self, arch: str) -> Row:
        """Its row: time is over that of the same kernel at p = 0, which draws no mask."""
        chip = CHIPS[arch]
        masked, plain = (self._compiled(chip, p) for p in (0.1, 0.0))
        (names, each), (others, other_each) = (self._loop(launch, chip) for launch in (masked, plain))
        pipes = by_pipe(names, chip.backend)
        taken, without = (self._clocks(*loop, chip) for loop in ((names, each), (others, other_each)))
        limit, most = max(taken.items(), key=lambda c: c[1])
        registers, spilled = resources(masked.kernel)
        warps = masked.kernel.metadata.num_warps
        programs = resident(chip, registers, warps, masked.kernel.metadata.shared)
        return Row(
            **self.label(), arch=arch, registers=registers, spilled=spilled, warps=warps,
            occupancy=programs * warps * chip.lanes / chip.threads, load=width(names, "load"), store=0,
            instructions=len(names) / each, pipes={name: n / each for name, n in sorted(pipes.items())},
            limit=limit, bound=most / max(without.values()),
            apart=(taken["issue"] + taken["tensor"]) / (without["issue"] + without["tensor"]),
            without=len(others) / other_each,
        )  # fmt: skip

    def on(self, device: str, p: float, small: bool = False) -> Callable[[], None]:
        """The call that launches it, and the way back's other kernel with it; of zeros."""
        shape = (1, *((1, 64) if small else (_HEADS, self.length)), self.width)
        q, k, v, out, *grads = (torch.zeros(shape, dtype=self.dtype, device=device) for _ in range(7))
        sums = torch.zeros(*shape[:-1], 2, device=device)
        p_ = torch.tensor(p, dtype=torch.float64)
        drop = SimpleNamespace(key=KEY, p=p_, global_shape=None, start=None, step=None)
        call = (q, k, v, None, False, None, drop, out, sums)
        if self.kernel == "forward":
            return lambda: _launch_attention.forward(*call)
        return lambda: _launch_attention.backward(out, *call, *grads)

    def _compiled(self, chip: Chip, p: float) -> Launch:
        with compiling(chip.arch, chip.backend) as made:
            self.on("meta", p)()
        return next(launch for launch in made if launch.name == self.kernel)

    def _loop(self, launch: Launch, chip: Chip) -> tuple[list[str], float]:
        """Instructions of a thread for a tile of scores, and how many of its scores are that thread's."""
        chosen = tile(self.kernel, self.width, self.dtype.itemsize)
        threads = launch.kernel.metadata.num_warps * chip.lanes
        return around(assembly(launch.kernel), chip.backend, _TENSOR), chosen.BM * chosen.BN / threads

    def _clocks(self, names: list[str], each: float, chip: Chip) -> dict[str, float]:
        """Of a multiprocessor for a score."""
        pipes: Counter[str] = by_pipe(names, chip.backend)
        operations = 2 * _PRODUCTS[self.kernel] * self.width
        return {
            **{name: n / each for name, n in clocks(pipes, chip).items()},
            "tensor": operations / chip.tensor,
        }


SCORES = [Scores(kernel, width) for width in (64, 128) for kernel in _PRODUCTS]
ALL: list[Case | Scores] = [*CASES, *SCORES]
ARCHS = ("sm_80", "sm_90", "sm_100")  # that the kernels serve
