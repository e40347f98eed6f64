"""A run holds a model that is traced once for each input shape, and predicts batches."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thinned.contract import Key
from thinned.mc._collect import WITHOUT_EFFECT, check_last
from thinned.mc.torch import _data_dependence, _inputs_and_outputs
from thinned.mc.torch._active import unreached
from thinned.mc.torch._batch import Direct, Integers, Traced
from thinned.mc.torch._inputs_and_outputs import of_one
from thinned.mc.torch._program import Program
from thinned.mc.torch._sampling import Sampling
from thinned.mc.torch._training_flags import Also, switched
from thinned.torch import _compat, _key
from thinned.torch._draws import watching


class Run:
    """Samples of many batches of one model, whose parameters do not change meanwhile.

    Args:
        model: any module.
        key: of the masks.
        samples: S, of each input at most.
        shared: one thinned network for all inputs.
        batch_dim: dimension of the inputs.
        memory: bytes that the computation may take.
        also: modules that drop only in training.
        seen: how many inputs came before.
    """

    rows = 1024  # inputs at a time by default

    def __init__(
        self,
        model: torch.nn.Module,
        key: Key,
        *,
        samples: int,
        shared: bool = False,
        batch_dim: int = 0,
        memory: int = 2**30,
        also: Also = (),
        seen: int = 0,
    ) -> None:
        self.model, self.key, self.also, self.seen = model, key, also, seen
        self.samples, self.shared, self.batch_dim, self.memory = samples, shared, batch_dim, memory
        self.draws = Sampling(model)
        # False while every input's trace is without a site: then nothing can spread, whatever else comes.
        self.may_draw = False
        self.reads = False  # whether a trace holds for these values of the parameters alone
        self._programs: dict[Any, Program | None] = {}

    @contextmanager
    def active(self) -> Iterator[None]:
        """While it is entered batches can be opened, and drawn from."""
        with ExitStack() as stack:
            stack.enter_context(switched(self.model, self.also))
            stack.enter_context(watching())
            stack.enter_context(_compat.compiled_code_may_be_traced())
            stack.enter_context(torch.no_grad())
            stack.enter_context(_math_attention())
            yield

    def open(self, call: Any, rows: int, numbers: Integers | None = None) -> Iterator[Traced | Direct]:
        """The parts of a batch that memory allows.

        Args:
            call: positional and keyword arguments, as `_inputs_and_outputs.batches` gives them.
            rows: how many inputs they hold.
            numbers: of the inputs, int64 of shape (rows,); those that follow what was seen if None.
        """
        if not rows:
            return
        leaves, spec = _inputs_and_outputs.flat(call)
        program = self._program(leaves, spec, rows)
        if numbers is None:
            check_last(self.seen, rows)
            numbers = np.arange(self.seen, self.seen + rows)
            self.seen += rows
        if program is None:
            yield Direct(self._forward(spec, leaves), leaves, numbers, self)
            return
        most = Traced.most_rows(program, self.samples, self.memory)
        for begin in range(0, rows, most):
            stop = min(begin + most, rows)
            whole = (begin, stop) == (0, rows)
            part = leaves if whole else _inputs_and_outputs.cut(leaves, begin, stop, self.batch_dim)
            yield Traced(program, part, numbers[begin:stop], self)

    def _forward(self, spec: Any, leaves: list[Any]) -> Callable[..., Tensor]:
        """The model as a function of tensors with a batch of one, and a key."""
        fixed = {k: one for k, one in enumerate(leaves) if not isinstance(one, Tensor)}

        def forward(*tensors_and_key: Any) -> Tensor:
            *tensors, key = tensors_and_key
            given = iter(tensors)
            full = [fixed[k] if k in fixed else next(given) for k in range(len(leaves))]
            args, kwargs = _compat.pytree.tree_unflatten(full, spec)
            self.draws.start(key)
            with self.draws:
                return of_one(self.model(*args, **kwargs), self.batch_dim)

        return forward

    def _program(self, leaves: list[Any], spec: Any, rows: int) -> Program | None:
        """The trace for inputs of such shapes; None where there can be none."""
        name = _inputs_and_outputs.kind(leaves, spec, self.batch_dim)
        if name not in self._programs:
            self._programs[name] = self._traced(leaves, spec, rows)
        return self._programs[name]

    def _traced(self, leaves: list[Any], spec: Any, rows: int) -> Program | None:
        forward = self._forward(spec, leaves)
        tensors = [one for one in leaves if isinstance(one, Tensor)]
        one = _inputs_and_outputs.cut(tensors, 0, 1, self.batch_dim)
        last = _inputs_and_outputs.cut(tensors, rows - 1, rows, self.batch_dim)
        key = _key.key_to_tensor(self.key)
        self.draws.watches = True
        wanted = forward(*last, key)  # the model's own error, if it has one
        self.draws.watches = False  # which takes 25 µs a pass
        if self.draws.unkeyed:
            _warn("what it draws is not taken over")
            return None
        self.may_draw |= bool(self.draws.found)
        try:
            self.reads |= _data_dependence.check(self.model, forward, one, key)
            program = Program(forward, one, key)
            if Traced.agrees(program, last, key, wanted):
                return program
            why = "what it computes depends on values that a trace cannot see"
        except Exception as error:
            why = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        self.may_draw = True  # or it is not known
        _warn(why)
        return None

    def silence(self) -> str:
        """Tells why all samples are equal."""
        reached = "; ".join(map(str, self.draws.found)) or "none"
        missing = unreached(self.model, self.draws.found)
        not_reached = "; ".join(map(str, missing)) or "none"
        if not missing and not self.draws.found:
            return (
                f"all samples of all inputs are equal: {type(self.model).__name__} has nothing that drops. "
                "No call in its forward pass draws, and no module holds a rate. Name what drops in also="
            )
        remedy = "name the modules that drop in also=" if missing or not self.draws.found else WITHOUT_EFFECT
        return (
            f"all samples of all inputs are equal. Sites that drew: {reached}. Rates that were not used: "
            f"{not_reached}: {remedy}"
        )


def _warn(why: str) -> None:
    warnings.warn(
        f"model cannot be traced for many samples at once, and runs input by input, sample by sample: {why}",
        stacklevel=10,  # who called predict
    )


@contextmanager
def _math_attention() -> Iterator[None]:
    """Attention without dropout by operators that vmap batches: torch's fused one has no rule."""
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        yield
