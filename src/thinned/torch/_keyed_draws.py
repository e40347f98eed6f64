"""A context gives whatever a model draws in training a key of seed, name and step."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor

from thinned.contract import Key, check_integer
from thinned.torch import _compat
from thinned.torch._draws import HANDLERS, Draw, Watched, watching


class Keys(Watched):
    """Holds what `keys` gives.

    Attributes:
        step: number of the step, by which a module's key is folded; it may be set.
        unkeyed: what moved a generator in the last call of the model.

    Example:
        >>> import torch, thinned.torch
        >>> from thinned import results
        >>> with thinned.torch.keys(torch.nn.Dropout(0.5), 0) as held:
        ...     held.step = 3
        >>> isinstance(held, results.Keys), held.sites
        (True, [])
    """

    unreached = (
        "numbers were drawn under thinned.torch.keys that no key reaches, so this model is no function of "
        "seed, name and step: {}"
    )

    def __init__(self, model: torch.nn.Module, root: Key, step: int) -> None:
        super().__init__(model, HANDLERS)
        self.root, self.step = root, step
        self._counts: Counter[str] = Counter()
        self._with_grad = False

    @property
    def sites(self) -> list[Draw]:
        """The calls that drew in the last call of the model, in order of execution."""
        return list(self.found)

    def begin(self) -> None:
        """A call of the model begins."""
        super().begin()
        self._counts.clear()
        self._with_grad = torch.is_grad_enabled()

    def next_key(self, name: str) -> Key:
        """`root.fold(name).fold(step)`; from the second call on folded by how many went before."""
        if self._with_grad and not torch.is_grad_enabled() and not self.computes_again:
            function = _compat.autograd_function()
            if function is not None:
                warnings.warn(_FUNCTION.format(function), stacklevel=2)
        key = self.root.fold(name).fold(check_step(self.step))
        count = self._counts[name]
        self._counts[name] += 1
        return key.fold(count) if count else key

    def takes(self, training: Any, key: Any) -> bool:
        """Tells whether a draw is taken over: a call that was given a key keeps it."""
        return key is None and self.drops(training)

    def key_of_parts(self, site: Any, call: int | None = None, key: Any = None) -> Key | Tensor:
        """The key that the call was given, or the layer's own, if there is one."""
        own: Key | Tensor | None = site.mask_key(call, given=key)
        kind = type(site).__name__
        return self.site(kind.lower(), math.nan, (), f"the module {kind}") if own is None else own

    def again(self) -> Self:
        """The state as it is now."""
        other = super().again()
        other._counts = self._counts.copy()
        return other


_FUNCTION = (
    "the autograd function {} draws in its forward: if it computes that again in its backward pass, no key "
    "reaches it there, and the numbers are others. Recompute by torch.utils.checkpoint.checkpoint"
)


@contextmanager
def keys(model: torch.nn.Module, seed: int | Key, *, step: int | Tensor = 0) -> Iterator[Keys]:
    """Key whatever a model draws in training: its numbers are a function of seed, name and step.

    It needs no change to the model. Inside, what would be drawn from torch's generator is drawn by a key:
    torch's dropout modules and functions, the probabilities of `scaled_dot_product_attention`, the numbers
    that `MultiheadAttention`, `LSTM`, `GRU` and `RNN` hold, our layers without a key, and random numbers that
    a forward pass draws itself. What is told that it evaluates does not drop; a key that is given is kept.

    The key of a module's first draw in a call of the model is `Key(seed).fold(qualified name).fold(step)`, as
    of the same layer after `convert` and `keyed`; of draw number k, from 1 on, `.fold(k)` of that. Every call
    of the model begins anew: two calls at one step have the same masks. A pass that is to have others gets
    another key, `keys(model, Key(seed).fold(1), step=n)`.

    What `torch.utils.checkpoint` computes again, in either of its ways, draws as in the forward pass, also in
    a backward pass after the context was left. Compiled code runs as it was written.

    Args:
        model: any module, in training as a rule. Pass the innermost: names are those of its `named_modules`.
        seed: integer in [0, 2^64), or a Key, which then stands for Key(seed).
        step: integer in [0, 2^60), or an integer tensor of no dimension.

    Yields:
        `Keys`: `step`, which may be set; `sites`, the calls that drew in the last call of the model; and
        `unkeyed`, what drew from a generator all the same.

    Raises:
        TypeError: `model must be a torch.nn.Module, got …`; `step must be an integer, got …`.
        ValueError: `step must be in [0, 2^60), got …`.

    Warns:
        UserWarning: where a generator moved: numbers that no key reaches, with the modules that drew them;
            where an autograd function draws that may compute its forward again in a way of its own.

    Source:
        CONTRACT.md, section 5.

    Example:
        >>> import torch, thinned
        >>> model = torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        >>> x = torch.ones(2, 3, 8)
        >>> with thinned.torch.keys(model, seed=7, step=0) as run:
        ...     a, b = model(x), model(x)
        ...     run.step = 1
        ...     c = model(x)
        >>> torch.equal(a, b), torch.equal(a, c)
        (True, False)
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    root = seed if isinstance(seed, Key) else Key(seed)
    run = Keys(model, root, check_step(step))
    with watching(), run:
        yield run


def check_step(step: Any) -> int:
    """The number of a step."""
    number = check_integer("step", step.item() if isinstance(step, Tensor) and step.dim() == 0 else step)
    if not 0 <= number < 2**60:
        raise ValueError(f"step must be in [0, 2^60), got {number}")
    return number
