"""A site: a place in a model where it drops, with its probability, its key and its step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from thinned.contract import Key, check_probability
from thinned.torch import _key, _rate
from thinned.torch._place import Place
from thinned.torch._rows import Rows
from thinned.torch._tools import Seen
from thinned.torch.schedules import Schedule

Probability = float | Tensor | Schedule


class Site(Seen):
    """What every layer that drops is, beside its own kind.

    Without a key each call draws one from torch's default CPU generator. `thinned.torch.keyed` gives a key;
    the mask is then that of `key.fold(step)`, and `set_step` sets the step. A site that is called twice in
    one step draws the same mask twice, unless each call says which it is: `layer(x, call=1)`.

    Key and step are kept beside the module's state, not in it: `state_dict` is that of torch.nn.
    """

    # The tensors are for graphs, which are to depend on no value; the key itself for the short way.
    key: Key | None = None
    _bits: Tensor | None = None
    step: Tensor | None = None
    rows: Rows | None = None

    def give_key(self, key: Key | None, step: Tensor | None) -> None:
        """Draw by this key, at the step that the tensor holds (int64, no dimension); without one, anew."""
        self.key = key
        self._bits = None if key is None else _key.key_to_tensor(key)
        if step is not None:
            self.step = step

    def mask_key(self, call: int | None = None) -> Key | Tensor | None:
        """The key of this call's mask, a tensor in traced code; None where one is drawn, or none needed."""
        key = self._bits if traced() else self.key
        if key is None or not self.training:
            return None
        for number in (self.step, call):
            key = key if number is None else _key.folded(key, number)
        return key

    def place(self, input: Tensor, dim: int | None = None, shape: Sequence[int] | None = None) -> Place:
        """Where the input's rows stand in the whole batch: arguments of a verb, none where nobody said.

        Args:
            input: what is dropped.
            dim: of the batch; the one that `set_rows` was told if not given.
            shape: of the mask, where it is not the input's.
        """
        if self.rows is None or not self.training:
            return {}
        return self.rows.place(input.shape if shape is None else shape, self.rows.dim if dim is None else dim)

    def rate(self, p: Any) -> float | Tensor:
        """The drop probability now: a schedule's at this step, or p as it is."""
        if not isinstance(p, Schedule):
            return p  # type: ignore[no-any-return]
        if self.step is None:
            raise RuntimeError(f"p={p} needs a step: call thinned.torch.set_step(model, n) before the model")
        return p(self.step) if traced() else p(int(self.step))


def traced() -> bool:
    """Whether a step is to stay a tensor: a graph is made, or a transform may hold many steps in it."""
    return (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or torch._C._get_tracing_state() is not None
    )


def check_p(p: Any, name: str = "p") -> Any:
    """A probability as a number, or whatever else holds one: a floating tensor, a schedule."""
    if isinstance(p, Tensor) and p.is_floating_point():
        _rate.check_range(p, name)
        return p
    return p if isinstance(p, Schedule) else check_probability(p, name)
