"""The base of LSTM and GRU gives torch's fused kernels dropped weights, for one layer or all."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from thinned.contract import Key, check_probability, fold_number
from thinned.torch import _compat, functional
from thinned.torch._site import MaskKey, Site, check_given, check_p
from thinned.torch.nn import _hidden
from thinned.torch.nn._hidden import Run, State
from thinned.torch.nn._part_keys import call_key, is_off, part_key
from thinned.torch.nn._sequences import Sequences

_RATES = ("weight_p", "input_p", "dropout", "output_p", "hidden_p")

_SHOWN = {
    "proj_size": 0,
    "num_layers": 1,
    "bias": True,
    "batch_first": False,
    "dropout": 0,
    "bidirectional": False,
    "weight_p": 0,
    "input_p": 0,
    "output_p": 0,
    "hidden_p": 0,
    "locked": True,
}


class Recurrent(Site, torch.nn.RNNBase):
    """A torch.nn.RNNBase that drops recurrent weights, whole units, and features between its kernels."""

    hidden_p: Any = 0.0  # of what was pickled before there was one

    def __init__(
        self,
        *args: Any,
        dropout: Any,
        weight_p: Any,
        input_p: Any,
        output_p: Any,
        hidden_p: Any,
        locked: bool,
        **kwargs: Any,
    ) -> None:
        given = {"weight_p": weight_p, "input_p": input_p, "dropout": dropout, "output_p": output_p}
        given["hidden_p"] = hidden_p
        rates = {name: check_p(p, name) for name, p in given.items()}
        between = rates["dropout"]
        kwargs["dropout"] = between if isinstance(between, float) else 0.0
        super().__init__(*args, **kwargs)
        if self.proj_size and not is_off(rates["hidden_p"]):
            raise ValueError(
                f"hidden_p={hidden_p} drops units of a state that is not projected: proj_size must be 0, got "
                f"{self.proj_size}"
            )
        for name, p in rates.items():
            setattr(self, name, p)
        self.locked = locked
        layers = [f"layer{k}" for k in range(self.num_layers - 1)]
        weights = [name for name in self._weight_names() if name.startswith("weight_hh")]
        units = [name.replace("weight_hh", "hidden") for name in weights]
        # Hashed here, since a graph cannot.
        self._parts = {name: fold_number(name) for name in ("input", "output", *layers, *weights, *units)}

    def forward(self, input: Any, hx: Any = None, *, key: MaskKey = None, call: int | None = None) -> Any:
        """Output and last state, as torch's; `key` and `call` as in `Dropout`."""
        # Where dynamo refuses to trace a recurrent module it goes on to compile each function of it.
        if "torch._dynamo" in sys.modules and not torch.compiler.is_compiling():
            return _undivided()(self, input, hx, key, call)
        return self._forward(input, hx, key, call)

    def _forward(self, input: Any, hx: Any, key: MaskKey, call: int | None) -> Any:
        if not torch.compiler.is_compiling():  # there it would put a graph's stand-ins into the module
            _compat.flat_weights_updater(self)()
        packed = input if isinstance(input, PackedSequence) else None
        data, state, unbatched = self._open(input, packed, hx)
        rates = {name: self._rate_of(name) for name in _RATES}
        on = self.training and not all(is_off(p) for p in rates.values())
        if check_given(key, call) is None:
            self.notice(call, data)
        key = call_key(self, call, key) if on else None
        run = Run(rates, key, self._sequences(packed), packed)
        data, state = self._run(data, state, run)
        return self._close(data, state, packed, unbatched)

    def _sequences(self, packed: PackedSequence | None) -> Sequences:
        """Says how features of sequences are dropped."""
        return Sequences(self.batch_first, self.locked, packed, self.place)

    def _run(self, data: Tensor, state: State, run: Run) -> tuple[Tensor, State]:
        """The layers, with their masks."""
        rates = run.rates
        weights = self._drop_weights(rates["weight_p"], run.key)
        data = self._drop(data, "input_p", "input", run)
        hidden = self.training and not is_off(rates["hidden_p"])
        if hidden or (self.training and self.num_layers > 1 and not is_off(rates["dropout"])):
            data, state = self._by_layer(data, state, weights, run, hidden)
        else:
            chunk = run.key is not None and _needs_chunk(weights) and not is_off(rates["weight_p"])
            weights = _in_one_chunk(weights) if chunk else weights
            data, state = self._kernel(data, state, weights, self.num_layers, run.packed)
        return self._drop(data, "output_p", "output", run), state

    def _drop(self, x: Tensor, rate: str, part: str, run: Run) -> Tensor:
        return run.sequences.dropout(x, run.rates[rate], self.training, part_key(run.key, self._parts[part]))

    def _weight_names(self) -> list[str]:
        """The parameters' names, in the order in which torch's kernels take them."""
        kinds = ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if self.bias else ()))
        kinds += ("weight_hr",) if self.proj_size else ()
        directions = ("", "_reverse") if self.bidirectional else ("",)
        return [f"{kind}_l{k}{end}" for k in range(self.num_layers) for end in directions for kind in kinds]

    def _rate_of(self, name: str) -> float | Tensor:
        p = self.rate(getattr(self, name))
        return p if isinstance(p, Tensor) else check_probability(p, name)

    def _drop_weights(self, p: Any, key: Key | Tensor | None) -> list[Tensor]:
        names = self._weight_names()
        weights: list[Any] = [getattr(self, name) for name in names]
        for i, name in enumerate(names):
            if name.startswith("weight_hh"):
                part = part_key(key, self._parts[name])
                weights[i] = functional.dropout(weights[i], p, self.training, key=part)
        return weights

    def _by_layer(
        self, data: Tensor, state: State, weights: list[Tensor], run: Run, hidden: bool
    ) -> tuple[Tensor, State]:
        directions = 2 if self.bidirectional else 1
        each = len(weights) // self.num_layers
        last = []
        for k in range(self.num_layers):
            if k:
                data = self._drop(data, "dropout", f"layer{k - 1}", run)
            own = weights[k * each : (k + 1) * each]
            units = _hidden.Units(self, k, run) if hidden else None
            if units is not None:
                own = units.weights(own)
            own = _in_one_chunk(own) if _needs_chunk(own) else own
            first = tuple(s[k * directions : (k + 1) * directions] for s in state)
            data, after = self._kernel(data, first, own, 1, run.packed)
            if units is not None:
                data, after = units.outputs(data), tuple(map(units.states, after))
            last.append(after)
        return data, tuple(torch.cat(parts) for parts in zip(*last, strict=True))

    def _kernel(
        self, data: Tensor, state: tuple[Tensor, ...], weights: list[Tensor], layers: int, packed: Any
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        fused = getattr(torch, self.mode.lower())
        hx = state if len(state) > 1 else state[0]
        rest = (self.bias, layers, 0.0, self.training, self.bidirectional)
        if packed is None:
            result = fused(data, hx, weights, *rest, self.batch_first)
        else:
            result = fused(data, packed.batch_sizes, hx, weights, *rest)
        return result[0], tuple(result[1:])

    def _open(
        self, input: Any, packed: PackedSequence | None, hx: Any
    ) -> tuple[Tensor, tuple[Tensor, ...], bool]:
        """Input and state in the kernel's form, checked as torch checks them."""
        unbatched, sizes, order = False, None, None
        if packed is not None:
            input, sizes, order, _ = packed
        elif input.dim() not in (2, 3):
            raise ValueError(
                f"input must be (T, B, F), (B, T, F) with batch_first=True, or (T, F) for one sequence, got "
                f"shape {tuple(input.shape)}"
            )
        elif input.dim() == 2:
            unbatched, input = True, input.unsqueeze(0 if self.batch_first else 1)
        if hx is None:
            hx = self._zeros(input, sizes)
        else:
            hx = hx if isinstance(hx, tuple) else (hx,)
            hx = tuple(s.unsqueeze(1) for s in hx) if unbatched else hx
        self.check_forward_args(input, hx if len(hx) > 1 else hx[0], sizes)
        return input, self._permuted(hx, order), unbatched

    def _zeros(self, input: Tensor, sizes: Tensor | None) -> tuple[Tensor, ...]:
        return (input.new_zeros(self.get_expected_hidden_size(input, sizes)),)

    def _close(self, data: Tensor, state: Any, packed: PackedSequence | None, unbatched: bool) -> Any:
        output: Any = data
        if packed is not None:
            _, sizes, order, back = packed
            output, state = PackedSequence(data, sizes, order, back), self._permuted(state, back)
        elif unbatched:
            output = data.squeeze(0 if self.batch_first else 1)
            state = tuple(s.squeeze(1) for s in state)
        return output, state if len(state) > 1 else state[0]

    @staticmethod
    def _permuted(state: tuple[Tensor, ...], order: Tensor | None) -> tuple[Tensor, ...]:
        return state if order is None else tuple(s.index_select(1, order) for s in state)

    def extra_repr(self) -> str:
        """Show what differs from the defaults."""
        shown = f"{self.input_size}, {self.hidden_size}"
        for name, default in _SHOWN.items():
            value = getattr(self, name)
            if isinstance(value, Tensor) or value != default:
                shown += f", {name}={value}"
        return shown


@functools.cache
def _undivided() -> Callable[..., Any]:
    whole: Callable[..., Any] = torch.compiler.disable(Recurrent._forward)
    return whole


def _needs_chunk(weights: list[Tensor]) -> bool:
    """Tells whether these go to cuDNN, which copies, and warns, where they are not one piece of memory."""
    return weights[0].is_cuda and torch.backends.cudnn.is_acceptable(weights[0])


def _in_one_chunk(weights: list[Tensor]) -> list[Tensor]:
    """The same weights, and the way back for their gradients, side by side in fresh memory.

    cuDNN has all matrices first, then all biases. The trained weights keep their own memory: an optimizer
    or a captured graph holds its address.
    """
    order = sorted(range(len(weights)), key=lambda i: weights[i].dim() == 1)
    chunk = torch.cat([weights[i].reshape(-1) for i in order])
    pieces = chunk.split([weights[i].numel() for i in order])
    placed = dict(zip(order, pieces, strict=True))
    return [placed[i].view(weight.shape) for i, weight in enumerate(weights)]
