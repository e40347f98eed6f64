"""The base class of this file is a layer that calls one function of `thinned.torch.functional`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor

from thinned.torch._site import MaskKey, Probability, Site, check_p


class VerbLayer(Site):
    """A layer with a rate p that is its verb with some of the arguments given.

    Attributes:
        _verb: called as `verb(input, p, training=…, key=…, **options)`.
        _options: names of the layer's attributes that the verb takes too.
        _batch: the dimension of the batch; None where `set_rows` says it.
    """

    _verb: ClassVar[Callable[..., Tensor]]
    _options: ClassVar[tuple[str, ...]] = ()
    _batch: ClassVar[int | None] = 0
    _shown: ClassVar[tuple[str, ...]] = ("p",)

    def __init__(self, p: Probability, **options: Any) -> None:
        super().__init__(**options)
        self.p = check_p(p)

    def forward(self, input: Tensor, *, key: MaskKey = None, call: int | None = None) -> Tensor:
        """Drop in training, by `key` if given; `call` tells calls of a keyed layer in one step apart."""
        return type(self)._verb(
            input,
            self.rate(self.p),
            training=self.training,
            key=self.mask_key(call, input, key),
            **{name: getattr(self, name) for name in self._options},
            **self.place(input, self._batch),
        )


class InPlace(VerbLayer):
    """The base of layers that derive from a layer of torch.nn and share its `inplace`."""

    _options = ("inplace",)
    _shown = ()

    def __init__(self, p: Probability = 0.5, inplace: bool = False) -> None:
        super().__init__(p, inplace=inplace)
