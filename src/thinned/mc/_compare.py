"""`compare` sets weight scaling against Monte Carlo dropout, on a user's model and data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thinned._arguments import check_key
from thinned.contract import Key, check_integer
from thinned.mc._comparison import Comparison
from thinned.mc._losses import Losses, joined, of_classes, of_values, with_likelihood
from thinned.mc._measures import BINS, Doubles, check_bins, check_labels, check_probabilities, refuse_complex
from thinned.mc._progress import ticking
from thinned.mc._scaled import evaluating
from thinned.mc._statistics import Outputs, as_outputs, check_outputs
from thinned.mc._verdict import judge
from thinned.mc.torch import predict
from thinned.mc.torch._active import check_model
from thinned.mc.torch._inputs_and_outputs import as_array, batches, meant
from thinned.mc.torch._training_flags import Also

RESAMPLES = 999
_ROWS = 1024  # inputs evaluated at a time by default
_CHUNK = 1 << 22  # numbers in the draws that are measured at a time: 32 MiB in double


def compare(
    model: torch.nn.Module,
    data: Any,
    *,
    samples: int = 100,
    key: Key | None = None,
    outputs: Outputs = "logits",
    shared: bool = False,
    batch_size: int | None = None,
    memory: int = 2**30,
    also: Also = (),
    bins: int = BINS,
    resamples: int = RESAMPLES,
    progress: bool = False,
) -> Comparison:
    """Say whether Monte Carlo dropout is worth its passes: weight scaling against the average of k samples.

    Nothing is trained. Both predict the same inputs; k rises from 1 to `samples`, and where k samples make up
    several disjoint groups of the draws, figures are averaged over the groups. Intervals come from resampling
    the inputs, the same for both, so that differences are paired.

    Args:
        model: any module; it stays as it is. Weight scaling is the model in evaluation.
        data: a pair (x, y) of arrays or tensors of n inputs, or an iterable of such pairs, a DataLoader say.
            y: integers of shape (n,) in [0, C) for classes; numbers of the outputs' shape for values.
        samples: S, at least 2.
        key: of the masks; `Key(0)` if not given, so that a report comes out the same again.
        outputs: "logits" or "probabilities" of shape (n, C), or "values" of any shape.
        shared: as in `predict`.
        batch_size: inputs at a time, at most; 1024 if None.
        memory: as in `predict`; the S samples of all n inputs are held beside it.
        also: as in `predict`.
        bins: of the calibration error, at least 1.
        resamples: of the inputs, at least 99.
        progress: show bars (needs rich).

    Returns:
        A `Comparison`: print it, or take its figures. It may well say: weight scaling.

    Raises:
        TypeError: `model must be a torch.nn.Module, got …`; `data must be a pair …`; `labels must be
            integers, got …`.
        ValueError: `labels must be in [0, C) …`; `targets must have the outputs' shape …`; `resamples must be
            at least 99, got …`; whatever `predict` raises.
        SilentError: the model has no dropout that acts: nothing can be compared.

    Source:
        Srivastava et al., "Dropout", JMLR 2014, section 7.5; Efron and Tibshirani, "An Introduction to the
        Bootstrap", 1993.

    Example:
        >>> import torch, thinned
        >>> _ = torch.manual_seed(0)
        >>> x = torch.randn(300, 4)
        >>> y = x.argmax(dim=1)
        >>> head = torch.nn.Linear(4, 4)
        >>> _ = head.weight.data.copy_(4 * torch.eye(4))
        >>> found = compare(torch.nn.Sequential(torch.nn.Dropout(0.5), head), (x, y), resamples=99)
        >>> found.use, found.crossover
        ('weight scaling', None)
    """
    check_model(model)
    if check_outputs(outputs) == "gaussian":
        raise ValueError(
            'outputs="gaussian" cannot be compared: compare the means alone with outputs="values", and '
            "measure the intervals by predict(…).measures(targets)"
        )
    check_bins(bins)
    if check_integer("resamples", resamples) < 99:
        raise ValueError(f"resamples must be at least 99, got {resamples}: fewer give no 95 % interval")
    root = Key(0) if key is None else check_key(key)
    seen = _Seen(model)
    with ticking(progress, "drawing samples") as tick:
        found = predict(
            model,
            seen.passing(_parts(model, data, batch_size or _ROWS), tick),
            samples=samples,
            key=root,
            outputs=outputs,
            shared=shared,
            memory=memory,
            keep=True,
            also=also,
        )
    scaled = as_outputs(np.concatenate(seen.scaled), outputs)
    losses = _measured(found.draws, scaled, np.concatenate(seen.targets), outputs)
    with ticking(progress, "resampling inputs", resamples) as tick:
        return judge(losses, root, bins=bins, resamples=resamples, tick=tick)


class _Seen:
    """Holds what passes to `predict`, with weight scaling's outputs and the targets noted on the way."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
        self.scaled: list[Any] = []
        self.targets: list[Any] = []

    def passing(self, parts: Iterator[tuple[Any, Any]], tick: Callable[[], object]) -> Iterator[list[Any]]:
        """The inputs of each part, as `predict` takes one batch of several."""
        for (args, kwargs), y in parts:
            with evaluating(self.model):
                self.scaled.append(as_array(meant(self.model(*args, **kwargs))))
            self.targets.append(y)
            yield [args or kwargs]
            tick()


def _parts(model: torch.nn.Module, data: Any, rows: int) -> Iterator[tuple[Any, Any]]:
    """The model's arguments for some inputs, and their targets."""
    wanted = "data must be a pair (x, y), a tuple, or an iterable of such pairs"
    pairs = [data] if isinstance(data, tuple) else data
    no_pairs = isinstance(pairs, (Tensor, np.ndarray, str, Mapping)) or hasattr(pairs, "to_numpy")
    if not hasattr(pairs, "__iter__") or no_pairs:
        raise TypeError(f"{wanted}, got {type(data).__name__}")
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(
                f"{wanted}, got {len(pair) if hasattr(pair, '__len__') else type(pair).__name__} entries"
            )
        targets = pair[1].detach().cpu().numpy() if isinstance(pair[1], Tensor) else np.asarray(pair[1])
        if not targets.ndim:
            raise ValueError(f"y must have one entry for each input, got a single {targets.dtype}: {targets}")
        first = 0
        for call, count in batches(pair[0], rows, 0, model):
            yield call, targets[first : first + count]
            first += count
        if first != len(targets):
            raise ValueError(f"x and y must have as many inputs, got {first} and {len(targets)}")


def _measured(draws: Any, scaled: Any, targets: Any, outputs: Outputs) -> Losses:
    """Losses of all inputs; some at a time, for they are computed in double."""
    refuse_complex("targets", targets)
    if outputs != "values":
        scaled = check_probabilities(scaled)
        targets = check_labels(targets, scaled.shape)
    elif targets.shape != scaled.shape:
        raise ValueError(f"targets must have the outputs' shape {scaled.shape}, got {targets.shape}")
    rows = max(1, _CHUNK // (len(draws) * int(np.prod(scaled.shape[1:]))))
    parts = []
    for first in range(0, len(scaled), rows):
        part = slice(first, first + rows)
        some: Doubles = np.asarray(draws[:, part], np.float64)
        if outputs == "values":
            parts.append(of_values(some, np.asarray(scaled[part], np.float64), targets[part]))
        else:
            some /= some.sum(axis=-1, keepdims=True)
            parts.append(of_classes(some, scaled[part], targets[part]))
    return with_likelihood(joined(parts)) if outputs == "values" else joined(parts)
