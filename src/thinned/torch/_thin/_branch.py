"""Residual branches: one that stochastic depth drops is computed for the kept samples only."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thinned.contract import Key
from thinned.torch import _key, _recomputed, functional, nn
from thinned.torch._draws._mode import THREAD
from thinned.torch._fixed import fixed_dropout
from thinned.torch._observers import samples_are_drawn
from thinned.torch._placement import Rows
from thinned.torch._site import MaskKey, Site, traced
from thinned.torch._thin import _count
from thinned.torch._thin._graphs import drops
from thinned.torch._thin._kept import Kept, kept_of
from thinned.torch._thin._link import Link, is_on
from thinned.torch._thin._submatrix import spread, take
from thinned.torch._thin._units import ThinSite, refuse_late
from thinned.torch.nn._part_keys import is_off


class BranchLink(Link):
    """A branch from its first module to its site, along the batch.

    Attributes:
        others: sites inside. Those whose masks have a position for each sample let no branch be thinned
            while they drop.
        ranks: of the residual stream, in which each sample was seen to be computed from itself.
    """

    def __init__(
        self,
        site: Any,
        first: torch.nn.Module,
        others: tuple[torch.nn.Module, ...] = (),
        ranks: frozenset[int] = frozenset(),
    ) -> None:
        super().__init__(site, (first,), axis=0)
        self.others, self.ranks = others, ranks

    def begin(
        self, module: torch.nn.Module, size: int, like: Tensor, free: bool | None = None
    ) -> Kept | None:
        """Tells which samples the branch is to compute; a key that is drawn is drawn here, thinned or not."""
        site = self.site
        self._now.key = None
        in_graph = torch.compiler.is_dynamo_compiling()
        draws = site.training and site.key is None and not THREAD.entered and (in_graph or not traced())
        if draws and any(drops(other) and other.training for other in self.others):
            self._now.key = _key.draw() if in_graph else Key(*_key.as_words(None))
        return super().begin(module, size, like, free)

    def key_of_call(self) -> Any:
        """Gives what was drawn where this call began, or the one that a checkpoint computes again."""

        def now() -> Any:
            return self._now.key

        return now() if traced() else _recomputed.held((self, "key"), now, now)

    def forget_key(self) -> None:
        """Ends the branch: a later call of the site alone draws a mask of its own."""
        self._now.key = None

    def _applies(self, like: Tensor, free: bool = False) -> bool:
        return (
            super()._applies(like, free)
            and not samples_are_drawn()
            and not any(drops(other) and other.training for other in self.others if not is_shared(other))
        )


def is_shared(site: Any) -> bool:
    """Tells whether all samples share a site's decision."""
    return isinstance(site, ThinSite) and site.groups == 1 and not getattr(site, "dropout", 0.0)


class Enter:
    """A forward pre-hook of a branch's first module: it hands on the kept samples."""

    def __init__(self, link: BranchLink) -> None:
        self.link = link

    def __call__(self, module: torch.nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        kept = self.link.begin(module, args[0].shape[0], args[0])
        if kept is None or len(kept.parts[0]) == kept.size:
            return None
        return (take(args[0], kept.on(args[0].device)[0], None), *args[1:])


class ThinPath(Site):
    """DropPath and StochasticDepth become this: a site at the end of a branch that Enter has begun."""

    link: BranchLink
    fixed = False  # how many samples are kept

    def fits(self, input: Tensor) -> bool:
        """Tells whether the branch of such a tensor computes each sample from itself."""
        return input.dim() in self.link.ranks

    def mask_key(
        self,
        call: int | None = None,
        input: Tensor | None = None,
        given: MaskKey = None,
        name: str = "key",
    ) -> MaskKey:
        """Gives the key of this call's mask: the one that was drawn where the branch began."""
        early: MaskKey = self.link.key_of_call()
        elsewhere = traced() and isinstance(early, Key)  # of a step in front of this graph
        own = early is None or elsewhere or self.key is not None or given is not None
        return super().mask_key(call, input, given, name) if own else early

    def is_off(self) -> bool:
        """Tells whether this call drops nothing."""
        return is_off(self.rate(self.p))

    def draw(self, size: int, free: bool | None = None) -> Kept | None:
        """Tells which samples this call keeps."""
        p: Any = self.rate(self.p)
        if isinstance(p, Tensor) and p.numel() != 1:
            return None
        if self.fixed:
            self._check_rows()
            if not THREAD.entered:
                return _count.fixed(self.mask_key, p, 1, size, self._scaled)
            return kept_of(self._values(p, size, self.mask_key()))
        if getattr(self, "mode", "row") == "batch":
            one = torch.ones(1, dtype=torch.float64, device="cpu")
            value = functional.dropout(one, p, self.training, key=self.mask_key())
            return kept_of(value.expand(size))
        ones = torch.ones(size, dtype=torch.float64, device="cpu")
        rows: Rows | None = self.rows
        where = {} if rows is None else self.place(ones, 0)
        drawn = functional.drop_path(ones, p, self.training, self._scaled, key=self.mask_key(), **where)
        return kept_of(drawn)

    @property
    def _scaled(self) -> bool:
        return bool(getattr(self, "scale_by_keep", True))

    def _values(self, p: Any, size: int, key: MaskKey) -> Tensor:
        """Gives what the samples are multiplied by."""
        ones = torch.ones(1, size, dtype=torch.float64, device="cpu")
        values: Tensor = fixed_dropout(ones, p, self.training, key=key)[0]
        return values if self._scaled else (values != 0).double()

    def _mask(self, input: Tensor, key: MaskKey = None, call: int | None = None) -> Tensor:
        """A fixed number of samples by a mask."""
        self._check_rows()
        p: Any = self.rate(self.p)
        if is_off(p) or not is_on(self):
            return input
        wide = torch.promote_types(input.dtype, torch.float32)
        factor = self._values(p, input.shape[0], self.mask_key(call, input, key)).to(wide).to(input.device)
        factor = factor.reshape(-1, *(1,) * (input.dim() - 1))
        return torch.where(factor == 0, 0.0, input.to(wide) * factor).to(input.dtype)

    def _check_rows(self) -> None:
        if self.training and self.has_rows and self.rows is not None:
            raise RuntimeError(
                "set_rows with fixed=True: a part of a batch does not tell how many of its samples the whole "
                "keeps; take thin(model), which decides sample by sample"
            )

    def forward(self, input: Tensor, *, key: MaskKey = None, call: int | None = None) -> Tensor:
        """Gives the branch of all samples, that of the dropped ones 0."""
        kept = self.link.at(self)
        self.link.end()
        if kept is None or input.shape[0] != len(kept.parts[0]):
            masks: Any = self._mask if self.fixed else super().forward
            output: Tensor = masks(input, key=key, call=call)
            self.link.forget_key()
            return output
        self.link.forget_key()
        refuse_late(key, call, "a thin branch when its samples are")
        self.notice(None, input)
        if kept.whole:
            return input
        if len(kept.parts[0]) == kept.size:
            return input * kept.scale
        shape = (kept.size, *input.shape[1:])
        return spread(input, kept.on(input.device)[0], None, kept.scale, shape)


class ThinDropPath(ThinPath, nn.DropPath):
    """Stochastic depth of a branch that is computed for the kept samples only."""


class ThinStochasticDepth(ThinPath, nn.StochasticDepth):
    """Stochastic depth of a branch that is computed for the kept samples only."""
