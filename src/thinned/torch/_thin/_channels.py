"""Channels: Conv, functions of channels, dropout, Conv, of which dropped channels are not computed."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from thinned.torch import _compat, nn
from thinned.torch._site import traced
from thinned.torch._thin import _convolution, _groups
from thinned.torch._thin._link import Link
from thinned.torch._thin._units import ThinSite
from thinned.torch._tools import Seen


class ThinDropout1d(ThinSite, nn.Dropout1d):
    """Dropout of channels of one axis that the batch, or each group of it, shares."""

    _axes: ClassVar[int] = 1


class ThinDropout2d(ThinSite, nn.Dropout2d):
    """Dropout of channels of two axes that the batch, or each group of it, shares."""

    _axes: ClassVar[int] = 2


class ThinDropout3d(ThinSite, nn.Dropout3d):
    """Dropout of channels of three axes that the batch, or each group of it, shares."""

    _axes: ClassVar[int] = 3


# oneDNN takes 0.5 times as long for them as for torch's own layout where channels are no multiple of 16, and
# 0.7 times for 64: that it brings into a layout of its own before each convolution, and back.
_LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}


def _wants_channels_last(input: Tensor) -> bool:
    if not (input.is_cpu and input.dtype == torch.float32 and input.dim() in _LAYOUTS):
        return False
    if traced() or not torch.backends.mkldnn.is_available():
        return False
    return not input.is_contiguous(memory_format=_LAYOUTS[input.dim()])


class _ThinConv(Seen):
    out_link: Link | None = None
    in_link: Link | None = None
    sparse_rows = False  # of the gradient

    def forward(self, input: Tensor) -> Tensor:
        """The convolution, on what is kept."""
        conv: Any = self
        inward = None if self.in_link is None else self.in_link.read(self, input, conv.in_channels)
        out = None if self.out_link is None else self.out_link.begin(self, conv.out_channels, input)
        if out is None and inward is None:
            return _compat.convolution_of(conv)(input, conv.weight, conv.bias)  # type: ignore[no-any-return]
        if inward is not None:
            input = _groups.without_empty(input, inward)
        if not self.sparse_rows:
            made = _convolution.convolution(conv, input, out, inward)
            if made is not None:
                return made
        last = inward is not None and inward.channels_last
        if _wants_channels_last(input):
            input = input.contiguous(memory_format=_LAYOUTS[input.dim()])
            last |= self.in_link is None or inward is None or not self.in_link.sources
        if out is not None:
            out.channels_last = last

        def call(rows: Tensor, group: int) -> Tensor:
            weight = _groups.block(conv.weight, out, inward, group, self.sparse_rows)
            bias = None if conv.bias is None else _groups.block(conv.bias, out, None, group)
            return _compat.convolution_of(conv)(rows, weight, bias)  # type: ignore[no-any-return]

        made = _groups.each(input, _groups.groups_of(out, inward), call)
        as_it_would_be = out is None and last and conv.weight.is_contiguous()
        return made.contiguous() if as_it_would_be else made


class ThinConv1d(_ThinConv, torch.nn.Conv1d):
    """A convolution beside a thin site."""


class ThinConv2d(_ThinConv, torch.nn.Conv2d):
    """A convolution beside a thin site."""


class ThinConv3d(_ThinConv, torch.nn.Conv3d):
    """A convolution beside a thin site."""


class _ThinNorm(Seen):
    link: Link

    def forward(self, input: Tensor) -> Tensor:
        """Batch normalisation, of the channels that are kept; those are thinned in evaluation alone."""
        norm: Any = self
        kept = self.link.passed(self, input)
        if kept is None or kept.whole:
            return super().forward(input)  # type: ignore[no-any-return]

        def call(rows: Tensor, group: int) -> Tensor:
            given = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
            mean, variance, weight, bias = (
                None if one is None else _groups.block(one, kept, None, group) for one in given
            )
            missing = kept.width - len(kept.parts[group])
            if missing and variance is not None:  # a variance of 0 would give NaN where eps is 0
                variance = torch.cat([variance[:-missing], variance.new_ones(missing)])
            return F.batch_norm(rows, mean, variance, weight, bias, False, 0.0, norm.eps)

        return _groups.each(input, len(kept.parts), call)


class ThinBatchNorm1d(_ThinNorm, torch.nn.BatchNorm1d):
    """Batch normalisation between a convolution and its thin site."""


class ThinBatchNorm2d(_ThinNorm, torch.nn.BatchNorm2d):
    """Batch normalisation between a convolution and its thin site."""


class ThinBatchNorm3d(_ThinNorm, torch.nn.BatchNorm3d):
    """Batch normalisation between a convolution and its thin site."""
