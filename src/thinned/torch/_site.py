"""A site is a place in a model that drops, with its probability, its key and its step."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from thinned.contract import Key, check_integer, check_probability
from thinned.torch import _compat, _key, _rate, _recomputed
from thinned.torch._counters import Bits, Clock, number
from thinned.torch._placement import Place, Rows
from thinned.torch._tools import Seen
from thinned.torch.schedules import Schedule

Probability = float | Tensor | Schedule
MaskKey = Key | Tensor | None

# What the layers call them.
RATES = ("p", "dropout_p", "weight_p", "input_p", "dropout", "output_p", "head_p", "hidden_p")


class Site(Seen):
    """The base class of every layer that drops: it holds p, the key and the step.

    Without a key each call draws one from torch's default CPU generator. `thinned.torch.keyed` gives a key;
    the mask is then that of `key.fold(step)`, and `set_step` sets the step. A site that is called twice in
    one step draws the same mask twice, unless each call says which it is, `layer(x, call=1)`, or
    `keyed(model, seed, calls="count")` counts them.

    Key and step are kept beside the module's state, not in it: `state_dict` is that of torch.nn.
    """

    # The bits are for graphs, which are to depend on no value; the key itself for the short way.
    key: Key | None = None
    _bits: Bits | None = None
    _clock: Clock | None = None
    rows: Rows | None = None
    _name = "the layer"
    # Whether a call has a mask of its own; what is drawn for a weight is one for the whole forward pass.
    _by_call: ClassVar[bool] = True
    # Whether evaluation is by p too, as an expectation.
    _evaluates_by_p: ClassVar[bool] = False
    # Attributes that a layer's text shows besides those of its torch class: always, or where they differ.
    _shown: ClassVar[tuple[str, ...]] = ()
    _shown_unless: ClassVar[tuple[tuple[str, Any], ...]] = ()

    def give_key(self, key: Key | None, clock: Clock | None, name: str | None = None) -> None:
        """Draw by this key, at the clock's step; without one, anew."""
        self.key = key
        self._bits = None if key is None else Bits(key)
        if clock is not None:
            self._clock = clock
        if name is not None:
            self._name = name

    @property
    def step(self) -> Tensor | None:
        """The step, which all sites of a model share (int64, no dimension)."""
        return None if self._clock is None else self._clock.step

    @step.setter
    def step(self, step: Tensor) -> None:
        self._clock = Clock() if self._clock is None else copy.copy(self._clock)
        self._clock.step = step

    def mask_key(
        self,
        call: int | None = None,
        input: Tensor | None = None,
        given: MaskKey = None,
        name: str = "key",
    ) -> MaskKey:
        """The key of this call's mask, a tensor in traced code; None where one is drawn, or none needed.

        Args:
            call: which of its calls in one step this is.
            input: what is dropped, where a mask that is drawn twice for it is worth a warning.
            given: the key that this call was given, in place of the layer's own.
            name: of the argument that gave it.

        Raises:
            TypeError: `key must be a thinned.Key, got …`; `pass key or call, not both …`.
        """
        if given is not None:
            given = check_given(given, call, name)
            return given if self.training else None
        if call is not None:
            _check_call(call)
        if not self.training:
            return None
        if traced():
            return self._traced_key(call)
        key: Key | Tensor | None = self.key
        clock = self._clock
        if key is None:
            return None
        if clock is not None:
            if call is None and clock.counting:
                step, call = clock.call(self._name, self._by_call)
                return _key.folded(_key.folded(key, step), call)
            if input is not None:
                self.notice(call, input)
            key = _key.folded(key, self._step(clock))
        return key if call is None else _key.folded(key, call)

    def notice(self, call: int | None, input: Tensor) -> None:
        """Warn, once for a model, where a call has the mask of one before it, and both want gradients."""
        if not input.requires_grad or not torch.is_grad_enabled():
            return
        clock = self._clock
        if self.key is None or clock is None or clock.counting or not self.training or traced():
            return
        if clock.again(self._name, call, input) and self._drops():
            clock.warn(self._name)

    def _step(self, clock: Clock) -> int:
        """The step of a call: the one that it had, where a checkpoint computes it again."""

        def now() -> int:
            return number(clock.step)

        return _recomputed.held((self, "step"), now, now)

    def _drops(self) -> bool:
        """Tells whether one of its rates is not 0."""
        rates = [vars(self)[name] for name in RATES if name in vars(self)]
        return not rates or any(isinstance(rate, Tensor) or rate != 0 for rate in rates)

    def _traced_key(self, call: int | None) -> Tensor | None:
        _refuse_per_sample()
        bits, clock = self._bits, self._clock
        if bits is None:
            return None
        with _compat.real_constants():
            key = bits.tensor if clock is None else _key.fold(bits.tensor, clock.step)
            if call is None and clock is not None and clock.counting:
                return _key.fold(key, clock.traced_call(self._name, self._by_call))
            return key if call is None else _key.fold(key, call)

    def extra_repr(self) -> str:
        """Shows what the layer was made with."""
        shown = [super().extra_repr(), *(f"{name}={getattr(self, name)}" for name in self._shown)]
        for name, default in self._shown_unless:
            if getattr(self, name) != default:
                shown.append(f"{name}={getattr(self, name)!r}")
        return ", ".join(filter(None, shown))

    @property
    def has_rows(self) -> bool:
        """Tells whether `set_rows` was ever called: a checkpoint may compute a call again that had rows."""
        return "rows" in vars(self)

    def place(self, input: Tensor, dim: int | None = None, shape: Sequence[int] | None = None) -> Place:
        """The place of the input's rows in the whole batch: arguments of a verb, none without `set_rows`.

        Args:
            input: what is dropped.
            dim: of the batch; the one that `set_rows` was told if not given.
            shape: of the mask, where it is not the input's.
        """
        if not self.training or not self.has_rows:
            return {}
        rows = self.rows
        if not traced():
            rows = _recomputed.held((self, "rows"), lambda: self.rows, lambda: None)
        if rows is None:
            return {}
        return rows.place(input.shape if shape is None else shape, rows.dim if dim is None else dim)

    def rate(self, p: Any) -> float | Tensor:
        """The drop probability now: a schedule's at this step, or p as it is."""
        if not isinstance(p, Schedule):
            return p  # type: ignore[no-any-return]
        if self._clock is None:
            if not self.training and not self._evaluates_by_p and getattr(self, "mode", None) != "classic":
                return 0.0  # evaluation asks for no p
            raise RuntimeError(f"p={p} needs a step: call thinned.torch.set_step(model, n) before the model")
        if not traced():
            return p(self._step(self._clock))
        with _compat.real_constants():
            return p(self._clock.step)


def traced() -> bool:
    """Tells whether a step is to stay a tensor: a graph is made, or a transform may hold many steps in it."""
    if torch.compiler.is_compiling() or _compat.transforms_active() or _compat.tracing_state() is not None:
        return True
    return bool(_compat.dispatch_modes()) and _compat.proxy_mode() is not None


def check_p(p: Any, name: str = "p") -> Any:
    """A probability as a number, or whatever else holds one: a floating tensor, a schedule."""
    if isinstance(p, Tensor) and p.is_floating_point():
        _rate.check_range(p, name)
        return p
    return p if isinstance(p, Schedule) else check_probability(p, name)


def check_given(key: MaskKey, call: int | None, name: str = "key") -> MaskKey:
    """The key that a call was given, which leaves its number nothing to tell apart."""
    if key is not None and call is not None:
        raise TypeError(
            f"pass {name} or call={call!r}, not both: a call's number is folded into the layer's own key"
        )
    return None if key is None else _key.check(key, name)


def _check_call(call: Any) -> None:
    if isinstance(call, Tensor):
        if call.dim() or call.is_floating_point() or call.is_complex() or call.dtype == torch.bool:
            raise TypeError(
                f"call must be an integer, got a tensor of shape {tuple(call.shape)} and {call.dtype}"
            )
    elif not 0 <= check_integer("call", call) < 2**60:
        raise ValueError(f"call must be in [0, 2^60), got {call}")


def _refuse_per_sample() -> None:
    """Refuse to compute a layer again for each sample in a backward pass, without the masks of the batch."""
    if _compat.transforms_active() and _compat.backward_task() != -1 and _compat.vmap_is_on():
        raise RuntimeError(
            "a layer that drops is computed again for each sample in a backward pass, as samplers of "
            "per-sample gradients do: its masks would not be those of the batch, nor the sum the gradient. "
            "Take torch.func.vmap(torch.func.grad(…)) of the whole model, or set its p to 0"
        )
