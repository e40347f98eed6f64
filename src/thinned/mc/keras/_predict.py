"""Monte Carlo prediction of Keras models is called here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import tree

from thinned.contract import Key
from thinned.mc import _chunks, _collect, _keys
from thinned.mc._prediction import Prediction
from thinned.mc._progress import shown
from thinned.mc._statistics import Outputs, check_outputs
from thinned.mc.keras._sampler import Sampler, silence


def predict(
    model: Any,
    x: Any,
    *,
    samples: int = 100,
    key: Key | None = None,
    outputs: Outputs | None = None,
    shared: bool = False,
    batch_size: int | None = None,
    first: int = 0,
    memory: int = 2**30,
    tolerance: float | None = None,
    keep: bool = False,
    progress: bool = False,
) -> Prediction:
    """Average the predictions of many thinned networks, as `thinned.mc.torch.predict` does.

    All stochastic layers draw, by the rule's keys and not by their seeds: those of `thinned.keras`, and
    Keras's dropout layers, Gaussian noise, attention and recurrent layers. All else evaluates, and no
    variable changes.

    Args:
        model: a built `keras.Model` of one output, whose batch is the first axis throughout.
        x: an array, a tensor, or whatever structure of them the model takes; the first axis, of size n, is
            the batch's.
        samples: how many thinned networks, at least 2. More samples extend fewer.
        key: a `thinned.Key`; None takes a fresh one from the operating system.
        outputs: what the model gives: "values", "logits", or "probabilities" over the last axis. None takes
            values, and warns where they have the shape of classes' scores.
        shared: False gives each input networks of its own; True has one network see all inputs.
        batch_size: inputs at a time, at most; 64 if not given. Results do not depend on it.
        first: number of x's first input in the whole that x is a part of, in [0, 2^60): inputs count from it,
            so that parts predicted anywhere have the samples of the whole.
        memory: bytes that drawing may take beside the model and x, estimated from the layers' outputs in a
            first pass over one input. Inputs and, if one does not fit, samples are divided accordingly.
        tolerance: stop with an input when the standard error of each of its means is at most this.
        keep: keep the samples themselves.
        progress: show a progress bar.

    Returns:
        A `Prediction` of NumPy arrays. In a functional or sequential model what comes before the first
        stochastic layer is computed once for all samples of an input.

    Raises:
        TypeError: `model must be a keras.Model, got …`; `model must give one tensor, got …`;
            `key must be a thinned.Key, got …`.
        ValueError: `x has no inputs`; `samples must be at least 2, got …`; `memory=… bytes are too few: …`;
            `first must be in [0, 2^60), got …`; `x's arrays differ in their first axis: …`;
            `… the batch has to stay the first axis`.
        SilentError: `all samples are equal: …`, with the layers that drew and those that could not.

    Source:
        Gal and Ghahramani, "Dropout as a Bayesian Approximation", ICML 2016; CONTRACT.md, section 5.

    Example:
        >>> from thinned import Key
        >>> layers = [keras.Input((8,)), keras.layers.Dropout(0.5), keras.layers.Dense(2, "softmax")]
        >>> found = predict(keras.Sequential(layers), np.ones((3, 8)), key=Key(0), outputs="probabilities")
        >>> found.mean.shape, found.predictive_entropy.shape, bool((found.std > 0).all())
        ((3, 2), (3,), True)
    """
    _collect.check_samples(samples, tolerance)
    start = _collect.check_first(first)
    if not isinstance(model, keras.Model):
        raise TypeError(f"model must be a keras.Model, got {model!r}")
    base, _ = _keys.given(key), check_outputs(outputs)
    arrays = tree.map_structure(_array, x)
    rows = _chunks.rows_of(map(np.shape, tree.flatten(arrays)))
    _collect.check_last(start, rows)
    sampler = Sampler(model, _part(arrays, 0, 1, 1), shared)
    size = sampler.fit(_chunks.wanted(rows, samples, tolerance, batch_size, memory), memory)
    return _collect.collect(
        shown(_blocks(sampler, arrays, rows, size, base, start), progress, -(-rows // size.rows)),
        samples=samples,
        tolerance=tolerance,
        outputs=outputs,
        keep=keep,
        silent=lambda: silence(model, sampler.sites),
    )


def _array(leaf: Any) -> npt.NDArray[Any]:
    return _chunks.as_numbers(keras.ops.convert_to_numpy(leaf) if keras.ops.is_tensor(leaf) else leaf)


def _part(x: Any, first: int, stop: int, size: int) -> Any:
    return tree.map_structure(lambda leaf: _chunks.filled(leaf, first, stop, size), x)


def _blocks(
    sampler: Sampler, x: Any, rows: int, size: _chunks.Size, key: Key, start: int
) -> Iterator[_chunks.Block]:
    for first, stop in _collect.split(rows, size.rows):
        run = sampler.block(_part(x, first, stop, size.rows), size, key.seed)
        yield _chunks.Block(stop - first, start + first, size, key, sampler.shared, run)
