"""Heads: projections, attention, DropHead, projection, of which dropped heads are not computed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thinned.torch import nn
from thinned.torch._site import MaskKey
from thinned.torch._thin import _groups
from thinned.torch._thin._few_heads import FewHeads
from thinned.torch._thin._kept import Kept
from thinned.torch._thin._link import Link
from thinned.torch._thin._units import ThinSite, refuse_late
from thinned.torch.functional._head import heads_noise


class HeadLink(Link):
    """A site of heads with the maps whose rows are heads', and those whose columns are.

    What is between has a `FewHeads` in a tensor's place, which says itself what it holds.

    Attributes:
        layouts: of each source's rows: in how many parts heads stand, and how many rows each has in one.
        heads: how many there are; 0 where the site alone knows.
    """

    def __init__(
        self,
        site: Any,
        sources: tuple[torch.nn.Module, ...],
        sinks: tuple[torch.nn.Module, ...],
        layouts: tuple[tuple[int, int], ...],
        heads: int,
    ) -> None:
        super().__init__(site, sources, sinks)
        self.layouts, self.heads = layouts, heads

    def begin(self, module: torch.nn.Module, size: int, like: Tensor) -> Kept | None:
        """Which rows of a map before the site are to be computed."""
        kept = super().begin(module, self.heads or size, like)
        if kept is None or not self.sources:
            return kept
        return kept.of(*self.layouts[next(n for n, one in enumerate(self.sources) if one is module)])

    def given(self, output: Tensor, kept: Kept) -> FewHeads:
        """What a map's rows are."""
        shape = torch.Size((*output.shape[:-1], kept.size))
        assert kept.heads is not None
        return FewHeads(output, shape, output.dim() - 1, kept.outer, kept.inner, kept.heads)

    def read(self, module: torch.nn.Module, input: Any, size: int) -> Kept | None:
        """Which columns of a map behind the site are in its input."""
        if not isinstance(input, FewHeads):
            return None
        return input.kept.of(input.outer, input.inner)


class ThinDropHead(ThinSite, nn.DropHead):
    """A layer that drops heads for the whole batch, or for each group of it."""

    link: HeadLink
    inplace = False

    def fits(self, input: Tensor) -> bool:
        """Whether a tensor can have a batch; one without rows is masked."""
        return input.dim() > 1 and input.numel() > 0

    def forward(self, input: Any, *, key: MaskKey = None, call: int | None = None) -> Any:
        """Let the kept heads pass, or take them out of all; or mask."""
        link = self.link
        if isinstance(input, FewHeads):
            link._now.kept = None
            refuse_late(key, call, "a thin site when its heads are")
            self.notice(None, input.part)
            if input.axis != self.dim % len(input.shape):
                raise RuntimeError(
                    f"dim={self.dim} is not that of the heads, {input.axis}: take unthin(model)"
                )
            return input.after_site()
        if link.sources:
            kept = link.at(self)
            link._now.kept = None
            if kept is not None and kept.whole:
                return input
            return self._mask(input, key, call)
        axis = self.dim % input.dim()
        kept = link.begin(self, input.shape[axis], input)
        link._now.kept = None
        if kept is None:
            return self._mask(input, key, call)
        refuse_late(key, call, "a thin site when its heads are")
        self.notice(None, input)
        part = _groups.columns(input, kept, axis)
        return FewHeads(part, input.shape, axis, 1, 1, kept, dropped=True)

    def _axis(self, input: Tensor) -> int:
        heads_noise(input, self.dim, True)
        return self.dim % input.dim()
