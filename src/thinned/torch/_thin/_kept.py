"""What one call of a thin site keeps, and the switch back to masks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from thinned.torch._observers import SWITCH


@dataclass(eq=False)
class Kept:
    """The kept units, channels or samples of one call, and what they are multiplied by.

    Attributes:
        parts: for each group of the batch its ascending numbers, int64 on the CPU.
        size: how many there are in all.
        scale: 1/(1−p), or 1 for classic dropout.
        outer, inner: of features, which are those of heads: each of `outer` parts has `inner` of each head.
        heads: that these features are of.
        channels_last: whether a module before the site brought its input into this layout.
        width: units of a thinned tensor: the most of a group, at least 1; where one keeps fewer, the rest is
            0.
        empty: whether a group keeps none.
        whole: whether nothing is to be done: p is 0.
    """

    parts: tuple[Tensor, ...]
    size: int
    scale: float
    outer: int = 1
    inner: int = 1
    heads: Kept | None = None
    channels_last: bool = False
    _features: dict[tuple[int, int], Kept] | None = None
    _elsewhere: dict[torch.device, tuple[Tensor, ...]] | None = None

    def __post_init__(self) -> None:
        """Look at sizes once: each module around a site asks for them."""
        counts = [part.numel() for part in self.parts]
        self.width = max(self.outer * self.inner, *counts)
        self.empty = not all(counts)
        self.whole = self.scale == 1.0 and min(counts) == self.size

    def same(self, other: Kept) -> bool:
        """Whether another call, as one that a checkpoint computes again, keeps the same."""
        return self is other or all(map(torch.equal, self.parts, other.parts))

    def of(self, outer: int, inner: int) -> Kept:
        """What is kept of features: of `outer` parts, in each of which each of these has `inner` of them."""
        if self._features is None:
            self._features = {}
        if (outer, inner) not in self._features:
            within, size = torch.arange(inner, device="cpu"), self.size * inner
            begin = torch.arange(outer, device="cpu")[:, None, None] * size
            parts = tuple((begin + part[:, None] * inner + within).reshape(-1) for part in self.parts)
            self._features[outer, inner] = Kept(parts, outer * size, self.scale, outer, inner, self)
        return self._features[outer, inner]

    def beside(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """The numbers on a tensor's device."""
        return self.parts if tensor.is_cpu else self.on(tensor.device)

    def on(self, device: torch.device) -> tuple[Tensor, ...]:
        """The numbers where a weight is."""
        if device.type == "cpu":
            return self.parts
        if self._elsewhere is None:
            self._elsewhere = {}
        if device not in self._elsewhere:
            self._elsewhere[device] = tuple(part.to(device, non_blocking=True) for part in self.parts)
        return self._elsewhere[device]


def kept_of(values: Tensor) -> Kept:
    """From what dropout makes of ones: of shape (n,), or (groups, n)."""
    rows = values if values.dim() == 2 else values.unsqueeze(0)
    parts = tuple(row.nonzero().squeeze(1) for row in rows)
    return Kept(parts, values.shape[-1], float(values.max()) if values.numel() else 1.0)


@contextmanager
def masked() -> Iterator[None]:
    """Compute the whole network and mask it, wherever `thin` made sites thin: the same masks, nothing saved.

    It is the reference that the thinned computation is compared with. It counts for the thread that enters
    it, a checkpoint's recomputation too as long as that runs inside.

    Example:
        >>> import torch, thinned
        >>> layers = [torch.nn.Linear(8, 64), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(64, 2)]
        >>> model = torch.nn.Sequential(*layers)
        >>> _ = thinned.torch.thin(model), thinned.torch.keyed(model, seed=1)
        >>> x = torch.randn(5, 8)
        >>> with masked(), torch.no_grad():
        ...     expected = model(x)
        >>> torch.allclose(model(x), expected, atol=1e-6)
        True
    """
    SWITCH.masks += 1
    try:
        yield
    finally:
        SWITCH.masks -= 1
