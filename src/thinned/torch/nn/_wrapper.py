"""TensorFlow's DropoutWrapper is written here for torch's cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from thinned import _states
from thinned.contract import Key, check_integer, check_probability, fold_number
from thinned.torch import functional
from thinned.torch._counters import Clock
from thinned.torch._site import MaskKey, Probability, check_given, check_p
from thinned.torch.nn._cells import CellSite, advance, is_lstm
from thinned.torch.nn._part_keys import is_off, part_key

_KEEP = ("input_keep_prob", "output_keep_prob", "state_keep_prob")
_CELL, _INPUT, _OUTPUT, _STATE = (fold_number(name) for name in ("cell", "input", "output", "state"))


class DropoutWrapper(CellSite):
    """Dropout of a recurrent cell's input, output and state, as TensorFlow's wrapper of this name has it.

    Its probabilities are those to **keep**. A step is `output, state = wrapper(input, state)`; a sequence is
    `wrapper.unroll(inputs)`. What the state keeps is the next step's; the output is that of before. An
    LSTM's c is never dropped by default.

    With `variational_recurrent` the same masks serve all times, and all samples: a mask has one entry a
    feature. A loop by hand then runs inside `with wrapper.sequence():`, which draws the masks' key, unless
    the wrapper has one. Without it, each time has its own masks: a wrapper that has a key needs to be told
    which time it is, `wrapper(input, state, time=t)`; it draws the same masks twice otherwise.

    TensorFlow's has no training flag and drops wherever it is built; this one drops in training.

    Args:
        cell: nn.RNNCell, nn.GRUCell, nn.LSTMCell, or a module that is called with (input, state) and returns
            its state, a tensor, or a pair of its output and state.
        input_keep_prob: probability in [0, 1] to keep an input feature; or a tensor, or a schedule of it.
        output_keep_prob: the same for the output.
        state_keep_prob: the same for the state.
        variational_recurrent: one mask for all times and samples.
        input_size: features of the input, an integer or a shape without the batch. It need not be given;
            it is checked if it is.
        dtype: torch dtype of the input, likewise.
        seed: integer in [0, 2^64): draw by `Key(seed)`, folded by the step that `set_step` sets, until
            `thinned.torch.keyed` gives another key. As there, one step has one set of masks.
        dropout_state_filter_visitor: a function of the state, and in turn of the parts of it that it says
            True of: True to drop, False to leave, or a structure of such for its parts. By default, all
            but an LSTM's c (of (h, c), or a named tuple's field `c`) and what is no floating tensor.

    Raises:
        TypeError: `input_keep_prob must be a real number, got …`; `cell must be a torch.nn.Module …`; in a
            call, `input must be of dtype …`, `cell must return …`.
        ValueError: `input_keep_prob must be in [0, 1], got …`; in a call, `input must be of input_size …`.
        RuntimeError: in a call, `variational_recurrent=True needs one key for the sequence: …`.

    Source:
        `tf.compat.v1.nn.rnn_cell.DropoutWrapper`; Gal and Ghahramani, "A Theoretically Grounded Application
        of Dropout in Recurrent Neural Networks", NeurIPS 2016.

    Example:
        >>> import torch
        >>> cell = DropoutWrapper(torch.nn.GRUCell(4, 8), output_keep_prob=0.5, variational_recurrent=True)
        >>> outputs, state = cell.unroll(torch.randn(10, 3, 4))
        >>> dropped = outputs[0] == 0
        >>> bool((outputs[:, dropped] == 0).all()), bool((dropped == dropped[0]).all())
        (True, True)
    """

    returns_state = False

    def __init__(
        self,
        cell: torch.nn.Module,
        input_keep_prob: Probability = 1.0,
        output_keep_prob: Probability = 1.0,
        state_keep_prob: Probability = 1.0,
        variational_recurrent: bool = False,
        input_size: int | tuple[int, ...] | None = None,
        dtype: torch.dtype | None = None,
        seed: int | None = None,
        dropout_state_filter_visitor: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(cell)
        for name, keep in zip(_KEEP, (input_keep_prob, output_keep_prob, state_keep_prob), strict=True):
            setattr(self, name, check_p(keep, name))
        if not isinstance(variational_recurrent, bool):
            raise TypeError(f"variational_recurrent must be True or False, got {variational_recurrent!r}")
        if dtype is not None and not isinstance(dtype, torch.dtype):
            raise TypeError(f"dtype must be a torch.dtype, got {dtype!r}")
        if dropout_state_filter_visitor is not None and not callable(dropout_state_filter_visitor):
            raise TypeError(
                f"dropout_state_filter_visitor must be a function, got {dropout_state_filter_visitor!r}"
            )
        self.variational_recurrent = variational_recurrent
        self.input_size = None if input_size is None else _as_size(input_size)
        self.dtype = dtype
        self.dropout_state_filter_visitor = dropout_state_filter_visitor
        if seed is not None:
            self.give_key(Key(seed), Clock())

    def forward(
        self,
        input: Tensor,
        state: Any = None,
        *,
        time: int | None = None,
        key: MaskKey = None,
        call: int | None = None,
    ) -> tuple[Tensor, Any]:
        """Output and new state of one step, by `key` if given; `time` tells steps apart, `call` sequences."""
        self._check(input)
        drop_input, drop_output, drop_state = self._rates()
        inner = part_key(check_given(key, call), _CELL)
        key = self._masks_key(time, call, key) if self._on() else None
        input = self._drop(input, drop_input, part_key(key, _INPUT))
        output, state = advance(self.cell, input, state, time, call, inner)
        if self.training and not is_off(drop_state):
            state = self._drop_state(state, drop_state, part_key(key, _STATE))
        return self._drop(output, drop_output, part_key(key, _OUTPUT)), state

    def extra_repr(self) -> str:
        """Return what differs from the defaults."""
        keeps = [(name, getattr(self, name)) for name in _KEEP]
        shown = [f"{name}={keep}" for name, keep in keeps if isinstance(keep, Tensor) or keep != 1]
        return ", ".join(shown + ["variational_recurrent=True"] * self.variational_recurrent)

    def _masks_key(self, time: int | None, call: int | None, given: MaskKey) -> Any:
        if not self.variational_recurrent:
            return self._step_key(time, call, given)
        held = self._sequence if given is None else None
        key = self.mask_key(call, given=given) if held is None else held
        if key is None:
            raise RuntimeError(
                "variational_recurrent=True needs one key for the sequence: call wrapper.unroll(inputs), "
                "loop inside `with wrapper.sequence():`, or give a key with thinned.torch.keyed(model, seed)"
            )
        return key

    def _rates(self) -> list[Any]:
        keeps = [(name, self.rate(getattr(self, name))) for name in _KEEP]
        return [1.0 - (k if isinstance(k, Tensor) else check_probability(k, name)) for name, k in keeps]

    def _drop(self, x: Tensor, p: Any, key: Any) -> Tensor:
        shared = self.variational_recurrent and x.dim() > 1
        noise = (1, *(None,) * (x.dim() - 1)) if shared else None
        return functional.dropout(x, p, self.training, key=key, noise_shape=noise, **self.place(x, 0))

    def _drop_state(self, state: Any, p: Any, key: Any) -> Any:
        visitor = self.dropout_state_filter_visitor
        if visitor is None:
            visitor = _all_but_c_of_a_pair if is_lstm(self.cell) else _all_but_c

        def drop(part: Tensor, index: int) -> Tensor:
            return self._drop(part, p, part_key(key, index))

        return _change(state, visitor, drop)

    def _check(self, input: Tensor) -> None:
        if self.dtype is not None and input.dtype != self.dtype:
            raise TypeError(f"input must be of dtype {self.dtype}, as given, got {input.dtype}")
        if self.input_size is not None and tuple(input.shape[-len(self.input_size) :]) != self.input_size:
            raise ValueError(
                f"input must be of input_size {self.input_size}, as given, got shape {tuple(input.shape)}"
            )


def _as_size(size: Any) -> tuple[int, ...]:
    sizes = size if isinstance(size, (tuple, list)) else (size,)
    return tuple(check_integer("input_size", one, "an integer or a shape") for one in sizes)


def _change(state: Any, visitor: Callable[[Any], Any], by: Callable[[Tensor, int], Tensor]) -> Any:
    """The state with `by(leaf, index)` for each leaf that is wanted."""
    flags = _states.wanted(state, visitor)
    kept = enumerate(zip(_states.leaves(state), flags, strict=True))
    return _states.replaced(state, [by(leaf, index) if yes else leaf for index, (leaf, yes) in kept])


def _all_but_c(part: Any) -> Any:
    """Floating tensors, but no field c of a named tuple."""
    return _states.all_but_c(part, part.is_floating_point() if isinstance(part, Tensor) else None)


def _all_but_c_of_a_pair(part: Any) -> Any:
    """The same for a cell whose state is torch's (h, c)."""
    return (True, False) if isinstance(part, tuple) and len(part) == 2 else _all_but_c(part)
