"""Layers that pass p and `inplace` on to one verb of `functional`."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from torch import Tensor

from thinned.torch._site import MaskKey, Probability, Site, check_p


class InPlace(Site):
    """The base of layers of torch.nn that differ in their verb alone.

    Attributes:
        _verb: called as `verb(input, p, training, inplace, key=…)`.
        _batch: the dimension of the batch, where the verb takes tensors without one too.
    """

    _verb: ClassVar[Callable[..., Tensor]]
    _batch: ClassVar[int | None] = None

    def __init__(self, p: Probability = 0.5, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)
        self.p = check_p(p)

    def forward(self, input: Tensor, *, key: MaskKey = None, call: int | None = None) -> Tensor:
        """Drop in training, by `key` if given; `call` tells calls of a keyed layer in one step apart."""
        return type(self)._verb(
            input,
            self.rate(self.p),
            self.training,
            self.inplace,
            key=self.mask_key(call, input, key),
            **self.place(input, self._batch),
        )
