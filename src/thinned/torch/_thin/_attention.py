"""Heads: projections, attention, DropHead, projection, of which dropped heads are not computed."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from thinned.torch import functional, nn
from thinned.torch._site import MaskKey
from thinned.torch._thin import _groups
from thinned.torch._thin._few_functions import FewHeads, HeadsError
from thinned.torch._thin._kept import Kept, kept_of
from thinned.torch._thin._link import Link
from thinned.torch._thin._units import ThinSite, refuse_late
from thinned.torch.functional._heads_and_keys import heads_noise
from thinned.torch.nn._multihead import HEADS
from thinned.torch.nn._part_keys import is_off, part_key


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

    def begin(
        self, module: torch.nn.Module, size: int, like: Tensor, free: bool | None = None
    ) -> Kept | None:
        """Tells which rows of a map before the site are to be computed."""
        kept = super().begin(module, self.heads or size, like, free)
        if kept is None or not self.sources:
            return kept
        return kept.of(*self.layouts[next(n for n, one in enumerate(self.sources) if one is module)])

    def _is_static(self) -> bool:
        """Compiled code masks: the compiler knows not all operators of what stands for a tensor, as `@`."""
        return False

    def given(self, output: Tensor, kept: Kept) -> FewHeads:
        """Gives what a map's rows are."""
        shape = torch.Size((*output.shape[:-1], kept.size))
        assert kept.heads is not None
        return FewHeads(output, shape, output.dim() - 1, kept.outer, kept.inner, kept.heads)

    def read(self, module: torch.nn.Module, input: Any, size: int, free: bool | None = None) -> Kept | None:
        """Tells which columns of a map behind the site are in its input."""
        if not isinstance(input, FewHeads):
            return None
        if not input.dropped:
            raise HeadsError("a way around the site")
        input.check()
        return input.kept.of(input.outer, input.inner)


class ThinDropHead(ThinSite, nn.DropHead):
    """A layer that drops heads for the whole batch, or for each group of it."""

    link: HeadLink
    inplace = False

    def fits(self, input: Tensor) -> bool:
        """Tells whether a tensor can have a batch; one without rows is masked."""
        return input.dim() > 1 and input.numel() > 0

    def forward(self, input: Any, *, key: MaskKey = None, call: int | None = None) -> Any:
        """Let the kept heads pass, or take them out of all; or mask."""
        link = self.link
        if isinstance(input, FewHeads):
            link.end()
            refuse_late(key, call, "a thin site when its heads are")
            self.notice(None, input.part)
            if input.axis != self.dim % len(input.shape):
                raise RuntimeError(
                    f"dim={self.dim} is not that of the heads, {input.axis}: take unthin(model)"
                )
            return input.after_site()
        if link.sources:
            kept = link.at(self)
            link.end()
            if kept is not None and kept.whole:
                return input
            return self._mask(input, key, call)
        axis = self.dim % input.dim()
        kept = link.begin(self, input.shape[axis], input)
        link.end()
        if kept is None:
            return self._mask(input, key, call)
        refuse_late(key, call, "a thin site when its heads are")
        self.notice(None, input)
        part = _groups.columns(input, kept, axis)
        return FewHeads(part, input.shape, axis, 1, 1, kept, dropped=True)

    def _axis(self, input: Tensor) -> int:
        heads_noise(input, self.dim, True)
        return self.dim % input.dim()


class ThinMultiheadAttention(ThinSite, nn.MultiheadAttention):
    """Attention with projections of its own, of which the batch drops heads."""

    link: HeadLink
    inplace = False

    def fits(self, input: Tensor) -> bool:
        """Tells whether there is something to attend to."""
        return input.numel() > 0

    def is_off(self) -> bool:
        """Its several rates are looked at where they are used."""
        return False

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As `nn.MultiheadAttention`."""
        return nn.MultiheadAttention.forward(self, *args, **kwargs)

    def _attend(
        self,
        inputs: tuple[Tensor, Tensor, Tensor],
        masks: Any,
        need_weights: bool,
        average: bool,
        head_p: float | Tensor,
        key: MaskKey,
    ) -> tuple[Tensor, Tensor | None]:
        if is_off(head_p):
            return super()._attend(inputs, masks, need_weights, average, head_p, key)
        part = part_key(key, HEADS)
        single = not isinstance(head_p, Tensor) or head_p.numel() == 1
        if not single or not is_off(self.rate(self.dropout)) or not self.link._applies(inputs[0]):

            def drop(x: Tensor) -> Tensor:
                return functional.drop_head(x, head_p, True, shared=True, key=part)

            return self._attended(self, inputs, masks, need_weights, average, drop, key)
        ones = torch.ones(self.num_heads, dtype=torch.float64, device="cpu")
        kept = kept_of(functional.dropout(ones, head_p, True, key=part))
        return self._of_few(kept, inputs, masks, need_weights, average, key)

    def _of_few(
        self,
        kept: Kept,
        inputs: tuple[Tensor, Tensor, Tensor],
        masks: Any,
        need_weights: bool,
        average: bool,
        key: MaskKey,
    ) -> tuple[Tensor, Tensor | None]:
        numbers = kept.parts[0] if len(kept.parts[0]) else torch.zeros(1, dtype=torch.int64, device="cpu")
        attn_mask = masks[0]
        if attn_mask is not None and attn_mask.dim() == 3:
            wide = attn_mask.unflatten(0, (-1, self.num_heads))
            attn_mask = wide.index_select(1, numbers.to(wide.device)).flatten(0, 1)
        maps = _Few(self, kept)
        masks = (attn_mask, *masks[1:])
        output, weights = self._attended(maps, inputs, masks, need_weights, False, None, key)
        if weights is not None:
            at = -3
            shape = (*weights.shape[:at], self.num_heads, *weights.shape[at + 1 :])
            if not len(kept.parts[0]):
                weights = weights.new_zeros(shape)
            else:
                weights = weights.new_zeros(shape).index_add(
                    at, numbers.to(weights.device), weights * kept.scale
                )
            weights = weights.mean(at) if average else weights
        return output, weights


class _Few:
    """These are the projections of kept heads, as `nn.MultiheadAttention` holds them of all."""

    def __init__(self, whole: Any, kept: Kept) -> None:
        inner = whole.head_dim
        one, three = kept.of(1, inner), kept.of(3, inner)
        self.num_heads = kept.width
        self.embed_dim = self.num_heads * inner

        def rows(weight: Tensor | None, out: Kept) -> Tensor | None:
            return None if weight is None else _groups.block(weight, out, None, 0)

        self.in_proj_weight = rows(whole.in_proj_weight, three)
        self.in_proj_bias = rows(whole.in_proj_bias, three)
        for name in ("q_proj_weight", "k_proj_weight", "v_proj_weight"):
            setattr(self, name, rows(getattr(whole, name), one))
        for name in ("bias_k", "bias_v"):
            given = getattr(whole, name)
            setattr(self, name, None if given is None else rows(given.reshape(-1), one))
        self.add_zero_attn = whole.add_zero_attn
        self.out_proj = _Map(_groups.block(whole.out_proj.weight, None, one, 0), whole.out_proj.bias)


class _Map(NamedTuple):
    weight: Tensor
    bias: Tensor | None
