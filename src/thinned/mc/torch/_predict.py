"""Monte Carlo prediction: many thinned networks' outputs for each input, and their statistics."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from thinned._arguments import check_key
from thinned.contract import Key
from thinned.mc import _progress
from thinned.mc._collect import check_at_least_1, check_samples, collect
from thinned.mc._prediction import Outputs, Prediction, check_outputs
from thinned.mc.torch import _inputs
from thinned.mc.torch._active import check_model, handlers, unreached
from thinned.mc.torch._batch import Direct, Traced
from thinned.mc.torch._draws import Draws
from thinned.mc.torch._outputs import of_one
from thinned.mc.torch._program import Program
from thinned.mc.torch._switch import Also, switched
from thinned.torch import _key


def predict(
    model: torch.nn.Module,
    x: Any,
    *,
    samples: int = 100,
    key: Key | None = None,
    outputs: Outputs = "values",
    shared: bool = False,
    batch_size: int | None = None,
    batch_dim: int = 0,
    memory: int = 2**30,
    tolerance: float | None = None,
    keep: bool = False,
    also: Also = (),
    progress: bool = False,
) -> Prediction:
    """Average many thinned networks, and say how well the average is known.

    Sample k of input i draws its n-th mask by `key.fold(k).fold(i).fold(n)`, as a tensor with a batch of one
    has it: what it gives depends on nothing else, neither the batch, nor the memory, nor the number of
    samples, of which more extend fewer. What no mask enters is computed once for all samples: the model is
    traced in this call, with its parameters as they are, and run for many samples at once.

    Args:
        model: any module; it stays as it is. What draws, see `active`.
        x: inputs, n of them along `batch_dim`: a tensor or NumPy array; a tuple of them for several
            positional arguments, a mapping for keyword arguments; or a DataLoader or another iterable of
            such batches, of which a list or tuple gives its first entry. Input i is the i-th that comes.
        samples: S, at least 2: how many, or at most how many if there is a tolerance.
        key: of the masks. Without one, one is drawn from torch's default CPU generator.
        outputs: what the model returns: "values"; "logits" or "probabilities" of classes along the last
            dimension, which have entropies too. A dictionary or a dataclass gives its `logits`, a tuple its
            first entry.
        shared: one thinned network for all inputs: sample k draws by `key.fold(k).fold(n)`.
        batch_size: inputs at a time, of a tensor; if None as many as memory allows, at most 1024.
        batch_dim: dimension of the inputs, in x and in the output.
        memory: bytes that the computation may take beside model, inputs and result. Samples and, if one of
            each does not fit, inputs are divided accordingly.
        tolerance: stop for an input when its outputs' means have standard errors no larger than this; looked
            at after every 10 samples.
        keep: return the samples too.
        also: modules that drop only in training, by name or class: see `active`.
        progress: show a bar (needs rich).

    Returns:
        A `Prediction`: mean, standard deviation, predictive entropy, mutual information, variation ratio, and
        the standard error of each; arrays of n rows.

    Raises:
        SilentError: no output of any input has a spread, with the sites that were reached and were not.
        TypeError: `model must be a torch.nn.Module, got …`; `x must be …`; `the model must return …`.
        ValueError: `samples must be at least 2, got …`; `outputs must be …`; `memory=… bytes …`.

    Warns:
        UserWarning: the model cannot be traced, and runs input by input and sample by sample.

    Source:
        Gal and Ghahramani, "Dropout as a Bayesian Approximation", ICML 2016; Houlsby et al., "Bayesian Active
        Learning for Classification and Preference Learning", 2011 (mutual information).

    Example:
        >>> import torch, thinned
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 3))
        >>> found = predict(model, torch.randn(5, 4), samples=50, key=thinned.Key(0), outputs="logits")
        >>> found.mean.shape, found.mutual_information.shape, bool((found.standard_error.mean < 0.1).all())
        ((5, 3), (5,), True)
    """
    check_model(model)
    check_samples(samples, tolerance)
    check_outputs(outputs)
    root = Key(*_key.as_words(None)) if key is None else check_key(key)
    check_at_least_1("memory", memory)
    check_at_least_1("batch_size", 1 if batch_size is None else batch_size)
    draws = Draws(handlers())
    with switched(model, draws, also), torch.no_grad(), _math_attention():
        run = _Run(model, draws, root, samples, shared, batch_dim, memory)
        found = _inputs.batches(x, batch_size or run.rows, batch_dim, model)
        parts = (part for call, rows in found for part in run.open(call, rows))
        return collect(
            _progress.shown(parts, progress),
            samples=samples,
            tolerance=tolerance,
            outputs=outputs,
            keep=keep,
            silent=functools.partial(_silent, model, draws),
        )


class _Run:
    """One call of `predict`."""

    rows = 1024  # inputs at a time where nobody says

    def __init__(
        self,
        model: torch.nn.Module,
        draws: Draws,
        key: Key,
        samples: int,
        shared: bool,
        batch_dim: int,
        memory: int,
    ) -> None:
        self.model, self.draws, self.key = model, draws, key
        self.samples, self.shared, self.batch_dim, self.memory = samples, shared, batch_dim, memory
        self.seen = 0
        self.programs: dict[Any, Program | None] = {}

    def open(self, call: Any, rows: int) -> Iterator[Traced | Direct]:
        """The parts of a batch that memory allows."""
        if not rows:
            return
        leaves, spec = pytree.tree_flatten(call)
        program = self._program(leaves, spec, rows)
        first = self.seen
        self.seen += rows
        if program is None:
            yield Direct(self._forward(spec, leaves), leaves, rows, first, self)
            return
        most = Traced.most_rows(program, self.samples, self.memory)
        for begin in range(0, rows, most):
            stop = min(begin + most, rows)
            part = _inputs.cut(leaves, begin, stop, self.batch_dim)
            yield Traced(program, part, stop - begin, first + begin, self)

    def _forward(self, spec: Any, leaves: list[Any]) -> Callable[..., Tensor]:
        """The model as a function of tensors with a batch of one, and a key."""
        fixed = {k: one for k, one in enumerate(leaves) if not isinstance(one, Tensor)}

        def forward(*tensors_and_key: Any) -> Tensor:
            *tensors, key = tensors_and_key
            given = iter(tensors)
            full = [fixed[k] if k in fixed else next(given) for k in range(len(leaves))]
            args, kwargs = pytree.tree_unflatten(full, spec)
            self.draws.begin(key)
            with self.draws:
                return of_one(self.model(*args, **kwargs), self.batch_dim)

        return forward

    def _program(self, leaves: list[Any], spec: Any, rows: int) -> Program | None:
        """The trace for inputs of such shapes; None where there can be none."""
        name = repr(([_kind(one, self.batch_dim) for one in leaves], spec))
        if name not in self.programs:
            self.programs[name] = self._traced(leaves, spec, rows)
        return self.programs[name]

    def _traced(self, leaves: list[Any], spec: Any, rows: int) -> Program | None:
        forward = self._forward(spec, leaves)
        tensors = [one for one in leaves if isinstance(one, Tensor)]
        one = _inputs.cut(tensors, 0, 1, self.batch_dim)
        last = _inputs.cut(tensors, rows - 1, rows, self.batch_dim)
        key = _key.key_to_tensor(self.key)
        wanted = forward(*last, key)  # the model's own error, if it has one
        try:
            program = Program(forward, one, key)
            if Traced.agrees(program, last, key, wanted):
                return program
            why = "what it computes depends on values that a trace cannot see"
        except Exception as error:
            why = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        _warn(why)
        return None


def _warn(why: str) -> None:
    warnings.warn(
        f"model cannot be traced for many samples at once, and runs input by input, sample by sample: {why}",
        stacklevel=9,  # who called predict
    )


def _kind(leaf: Any, batch_dim: int) -> Any:
    """What a trace depends on."""
    if not isinstance(leaf, Tensor):
        return leaf
    return (*leaf.shape[:batch_dim], *leaf.shape[batch_dim + 1 :], leaf.dtype, leaf.device)


@contextmanager
def _math_attention() -> Iterator[None]:
    """Attention without dropout by operators that vmap batches: torch's fused one has no rule."""
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        yield


def _silent(model: torch.nn.Module, draws: Draws) -> str:
    reached = "; ".join(map(str, draws.found)) or "none"
    missing = unreached(model, draws.found)
    not_reached = "; ".join(map(str, missing)) or "none"
    remedy = (
        "name the modules that drop in also="
        if missing or not draws.found
        else "what they drop does not reach the output, or changes nothing there"
    )
    return (
        f"all samples of all inputs are equal. Sites that drew: {reached}. Rates that were not used: "
        f"{not_reached}: {remedy}"
    )
