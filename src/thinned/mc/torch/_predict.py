"""Monte Carlo prediction computes many thinned networks' outputs for each input."""

from __future__ import annotations

from typing import Any

import torch

from thinned._arguments import check_key
from thinned.contract import Key, check_integer
from thinned.mc import _progress
from thinned.mc._collect import check_at_least_1, check_first, check_samples, collect
from thinned.mc._prediction import Prediction
from thinned.mc._statistics import Outputs, check_outputs
from thinned.mc.torch import _inputs_and_outputs
from thinned.mc.torch._active import check_model
from thinned.mc.torch._run import Run
from thinned.mc.torch._training_flags import Also
from thinned.torch import _key


def predict(
    model: torch.nn.Module,
    x: Any,
    *,
    samples: int = 100,
    key: Key | None = None,
    outputs: Outputs | None = None,
    shared: bool = False,
    batch_size: int | None = None,
    batch_dim: int = 0,
    first: int = 0,
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
            first entry. None takes values, and warns where they have the shape of classes' scores.
        shared: one thinned network for all inputs: sample k draws by `key.fold(k).fold(n)`.
        batch_size: inputs at a time, of a tensor; if None as many as memory allows, at most 1024.
        batch_dim: dimension of the inputs, in x and in the output.
        first: number of x's first input in the whole that x is a part of, in [0, 2^60): i counts from it, so
            that parts predicted anywhere have the samples of the whole.
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
        ValueError: `samples must be at least 2, got …`; `outputs must be …`; `memory=… bytes …`;
            `first must be in [0, 2^60), got …`.

    Warns:
        UserWarning: the model cannot be traced, and runs input by input and sample by sample; `outputs= was
            not given, …`.

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
    start = check_first(first)
    check_integer("batch_dim", batch_dim)
    check_at_least_1("memory", memory)
    check_at_least_1("batch_size", 1 if batch_size is None else batch_size)
    run = Run(
        model, root, samples=samples, shared=shared, batch_dim=batch_dim, memory=memory, also=also, seen=start
    )
    with run.active():
        found = _inputs_and_outputs.batches(x, batch_size or run.rows, batch_dim, model)
        parts = (part for call, rows in found for part in run.open(call, rows))
        return collect(
            _progress.shown(parts, progress),
            samples=samples,
            tolerance=tolerance,
            outputs=outputs,
            keep=keep,
            silent=run.silence,
        )
