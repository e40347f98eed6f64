"""One case of the fuzz: what is asked for, and what the contract says it has to give."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from fuzz.layouts import DTYPES

from thinned import Key, contract

PROBABILITIES = (0.0, 1.0, 0.5, 0.1, 0.9, 2.0**-16, 2.0**-32, 2.0**-33, 1e-300, 1 - 2.0**-32, 1 - 2.0**-34)


@dataclass
class Case:
    shape: tuple[int, ...]
    dtype: np.dtype
    key: Key
    p: float
    inverted: bool
    training: bool
    place: dict[str, Any] = field(default_factory=dict)  # noise_shape, global_shape, start, step

    def words(self) -> dict[str, Any]:
        """Arguments as every front end has them."""
        mode = "inverted" if self.inverted else "classic"
        return {"p": self.p, "key": self.key, "training": self.training, "mode": mode, **self.place}

    def positions(self) -> np.ndarray:
        """The position of each element, from the definition: the C-order index in the mask array."""
        whole = self.place.get("global_shape", self.shape)
        start = self.place.get("start", (0,) * len(whole))
        step = self.place.get("step", (1,) * len(whole))
        noise = self.place.get("noise_shape") or (None,) * len(whole)
        shared = [n == 1 for n in noise]
        mask = [1 if one else size for one, size in zip(shared, whole, strict=True)]
        position = np.zeros((1,) * len(whole), np.uint64)
        for axis, size in enumerate(self.shape):
            index = [0 if shared[axis] else start[axis] + k * step[axis] for k in range(size)]
            steps = np.array([k * math.prod(mask[axis + 1 :]) for k in index], np.uint64)
            position = position + steps.reshape((-1,) + (1,) * (len(whole) - axis - 1))
        return position

    def expected(self, x: np.ndarray) -> np.ndarray:
        """What the plain reference makes of x."""
        drop = contract.threshold(self.p)
        if not self.training:
            q = contract.keep_probability(drop)
            if self.inverted or drop == 0:
                return x.copy()
            return contract.multiply(x, q) if drop < 2**32 else np.zeros_like(x)
        factor = contract.inverse_scale(drop) if self.inverted else 1.0
        if not x.size:
            return x.copy()
        kept = contract.keep(self.key, self.positions(), drop)
        return contract.apply_mask(x, np.broadcast_to(kept, x.shape), factor)


def draw(rng: np.random.Generator, *, steps: bool) -> Case:
    """A case: shapes small and, one in two hundred, large enough for threads."""
    large = rng.random() < 0.005
    rank = int(rng.integers(1, 4)) if large else int(rng.choice([0, 1, 1, 2, 2, 2, 3, 3, 4, 5, 8]))
    if large:
        side = [40_000, 220, 35][rank - 1]
        shape = tuple(int(n) for n in rng.integers(side // 2, side, rank))
    else:
        most = [1, 400, 40, 14, 8, 5, 4, 3, 3][rank]
        few = rng.random(rank) < 0.1
        shape = tuple(int(rng.integers(0, 3)) if one else int(rng.integers(1, most + 1)) for one in few)
    words = [int(n) for n in rng.integers(0, 2**64 - 1, 2, dtype=np.uint64, endpoint=True)]
    p = float(rng.choice(PROBABILITIES)) if rng.random() < 0.5 else float(rng.random())
    made = Case(
        shape,
        DTYPES[str(rng.choice(list(DTYPES)))],
        Key(*words),
        p,
        inverted=bool(rng.random() < 0.8),
        training=bool(rng.random() < 0.9),
    )
    if rank and rng.random() < 0.35:
        made.place["noise_shape"] = tuple([1, None, n][int(rng.integers(0, 3))] for n in shape)
    if rank and rng.random() < 0.35:
        _shard(rng, made, steps)
    return made


def _shard(rng: np.random.Generator, case: Case, steps: bool) -> None:
    far = int(rng.choice([0, 0, 3, 2**20]))
    start = tuple(int(rng.integers(0, far + 3)) for _ in case.shape)
    step = (
        tuple(int(rng.choice([1, 1, 2, 3, 9, 70])) for _ in case.shape) if steps else (1,) * len(case.shape)
    )
    whole = [
        begin + max(size - 1, 0) * by + 1 + int(rng.integers(0, far + 2))
        for begin, size, by in zip(start, case.shape, step, strict=True)
    ]
    if math.prod(whole) > 2**63:
        return
    if rng.random() < 0.1:  # far out, where a counter word turns
        turn = int(rng.choice([2**32, 2**35, 2**60]))
        inner = math.prod(whole[1:])
        start = (max(turn // max(inner, 1) - int(rng.integers(0, 9)), 0), *start[1:])
        whole[0] = start[0] + max(case.shape[0] - 1, 0) * step[0] + 1
        if math.prod(whole) > 2**63:
            return
    case.place["global_shape"], case.place["start"] = tuple(whole), start
    if steps:
        case.place["step"] = step
