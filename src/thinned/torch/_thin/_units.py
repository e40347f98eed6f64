"""Units: Linear, elementwise functions, dropout, Linear, of which dropped units are not computed."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from thinned.torch import _compat, _native, functional, nn
from thinned.torch._draws._mode import THREAD
from thinned.torch._fixed import fixed_dropout
from thinned.torch._site import MaskKey, Site
from thinned.torch._thin import _count, _groups, _whole
from thinned.torch._thin._kept import Kept, kept_of
from thinned.torch._thin._link import Link, is_on, unwatched
from thinned.torch._tools import Seen
from thinned.torch.nn._part_keys import is_off


class ThinSite(Site):
    """What a site is beside its own kind, once `thin` has connected it."""

    link: Link
    groups: int
    fixed = False  # how many units are kept
    _axes: ClassVar[int] = 0  # behind the units

    def fits(self, input: Tensor) -> bool:
        """Whether a tensor has units, or channels of a batch, where this site expects them."""
        return input.dim() == self._axes + 2 if self._axes else input.dim() > (self.groups > 1)

    def is_off(self) -> bool:
        """Whether this call drops nothing, as far as is known without a look at a tensor."""
        return is_off(self.rate(self.p))

    def draw(self, size: int, free: bool | None = None) -> Kept | None:
        """Which units this call keeps, of so many; None where p is not one number.

        Args:
            size: how many units there are.
            free: `unwatched()`, where it is known.
        """
        p: Any = self.rate(self.p)
        if isinstance(p, Tensor) and p.numel() != 1:
            return None
        self._check_rows()
        if self.fixed and not THREAD.entered:
            return _count.fixed(self.mask_key, p, self.groups, size, self._inverted)
        plain = self.training and not self.fixed and not isinstance(p, Tensor)
        if plain and (unwatched() if free is None else free):
            key = None if self.key is None else self.mask_key()
            return _count.drawn(key, p, self.groups, size, self._inverted)
        return kept_of(self._values(p, size, self.mask_key()))

    @property
    def _inverted(self) -> bool:
        return bool(getattr(self, "mode", "inverted") == "inverted")

    def _values(self, p: Any, size: int, key: MaskKey) -> Tensor:
        """What units are multiplied by, for each group."""
        ones = torch.ones(self.groups, size, dtype=torch.float64, device="cpu")
        mode: Any = getattr(self, "mode", "inverted")
        verb: Any = fixed_dropout if self.fixed else functional.dropout
        values: Tensor = verb(ones, p, self.training, key=key, mode=mode)
        return values

    def forward(self, input: Tensor, *, key: MaskKey = None, call: int | None = None) -> Tensor:
        """Let a thinned tensor pass, or take what is kept out of a whole one; or mask."""
        link = self.link
        kept = link.passed(self, input) if link.sources else link.begin(self, input.shape[link.axis], input)
        if kept is None:
            return self._mask(input, key, call)
        if key is not None or call is not None:
            refuse_late(key, call, "a thin site when its units are")
        _native.check_dtype(input)
        if self.key is not None:
            self.notice(None, input)
        if link.sources or kept.whole:
            return input
        return _groups.columns(input, kept, link.axis)

    def _mask(self, input: Tensor, key: MaskKey = None, call: int | None = None) -> Tensor:
        """The same decision by a mask: one for each group."""
        axis = self._axis(input)
        noise: list[int | None] = [1] * input.dim()
        noise[axis] = None
        p: Any = self.rate(self.p)
        mode: Any = getattr(self, "mode", "inverted")
        if self.groups == 1 and not self.fixed:
            key = self.mask_key(call, input, key)
            return functional.dropout(
                input, p, self.training, bool(self.inplace), key=key, noise_shape=tuple(noise), mode=mode
            )
        if self.groups > 1 and axis == 0:
            raise ValueError(
                f"groups={self.groups} are parts of a batch; input of shape {tuple(input.shape)} has none"
            )
        self._check_rows()
        _native.check_dtype(input, self.training)
        key = self.mask_key(call, input, key)
        if is_off(p):
            return input
        size = input.shape[axis]
        if not (is_on(self) or mode == "classic"):
            return input
        wide = torch.promote_types(input.dtype, torch.float32)
        factor = self._values(p, size, key).to(wide).to(input.device)
        if self.groups > 1:
            ends = torch.tensor(_whole.bounds(input.shape[0], self.groups), device="cpu")
            group = torch.repeat_interleave(ends[1:] - ends[:-1])
            factor = factor[group.to(input.device)]
        factor = factor.reshape(-1, *(size if at == axis else 1 for at in range(1, input.dim())))
        made = torch.where(factor == 0, 0.0, input.to(wide) * factor).to(input.dtype)
        return input.copy_(made) if self.inplace else made

    def _axis(self, input: Tensor) -> int:
        """The dimension that has the units."""
        return input.dim() - 1 - self._axes

    def _check_rows(self) -> None:
        if self.groups > 1 and self.training and self.has_rows and self.rows is not None:
            raise RuntimeError(
                f"set_rows with groups={self.groups}: a part of a batch does not tell in which group of the "
                "whole its rows are; take thin(model, groups=1)"
            )

    def extra_repr(self) -> str:
        """What it has become."""
        said = [super().extra_repr(), "thin", f"groups={self.groups}" if self.groups > 1 else ""]
        return ", ".join(filter(None, [*said, "fixed=True" if self.fixed else ""]))


class ThinDropout(ThinSite, nn.Dropout):
    """A dropout layer whose units are shared by the batch, or by each group of it."""


def refuse_late(key: MaskKey, call: int | None, where: str) -> None:
    """Refuse a key or a number of a call that says too late what was to be kept."""
    if key is not None or call is not None:
        raise RuntimeError(
            f"{'call=' if key is None else 'key='} reaches {where} already chosen: count calls by "
            'thinned.torch.keyed(model, seed, calls="count"), or take unthin(model)'
        )


class ThinLinear(Seen, torch.nn.Linear):
    """A linear layer beside thin sites: it computes what one keeps of what another kept."""

    out_link: Link | None = None
    in_link: Link | None = None
    sparse_rows = False  # of the gradient

    def forward(self, input: Tensor) -> Tensor:
        """`F.linear`, on what is kept."""
        free, before, behind = unwatched(), self.in_link, self.out_link
        inward = None if before is None else before.read(self, input, self.in_features, free)
        out = None if behind is None else behind.begin(self, self.out_features, input, free)
        read = _compat.parameter_of if free else getattr
        weight, bias = read(self, "weight"), read(self, "bias")
        if out is None and inward is None:
            return F.linear(input, weight, bias)
        part: Tensor = input if type(input) is Tensor else getattr(input, "part", input)
        made = _groups.linear(part, weight, bias, out, inward, self.sparse_rows)
        return made if out is None else self.out_link.given(made, out)  # type: ignore[union-attr]


class ThinEmbedding(Seen, torch.nn.Embedding):
    """A table before a thin site: kept columns are looked up."""

    out_link: Link | None = None

    def forward(self, input: Tensor) -> Tensor:
        """`F.embedding`, of a table of these columns where it has fewer rows than are looked up."""
        out = None if self.out_link is None else self.out_link.begin(self, self.embedding_dim, input)
        whole, padding, often = self.weight, self.padding_idx, self.scale_grad_by_freq
        if self.max_norm is not None or self.sparse:
            raise RuntimeError(
                f"max_norm={self.max_norm}, sparse={self.sparse} of an embedding at the thin site "
                f"{self.out_link.site._name!r}: "  # type: ignore[union-attr]
                "neither goes with kept columns; set them between unthin(model) and thin(model)"
            )
        if out is None or len(out.parts) > 1 or len(whole) > input.numel():
            found = F.embedding(input, whole, padding, scale_grad_by_freq=often)
            return found if out is None else _groups.columns(found, out, -1)
        table = _groups.block(whole, None, Kept(out.parts, out.size, 1.0), 0)
        return F.embedding(input, table, padding, scale_grad_by_freq=often)


class ThinLockedDropout(ThinSite, nn.LockedDropout):
    """Dropout of a sequence's features that the batch, or each group of it, shares."""

    inplace = False

    def forward(self, input: Any, *, key: MaskKey = None, call: int | None = None) -> Any:
        """Of a tensor; packed sequences are masked, each by itself."""
        if not isinstance(input, Tensor):
            return nn.LockedDropout.forward(self, input, key=key, call=call)
        return super().forward(input, key=key, call=call)
