"""The audit runs a Keras model a few times, and reports what can only be seen while it runs."""

from __future__ import annotations

import inspect
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from thinned._audit import (
    ELEMENTS,
    OTHER,
    SHARED,
    Audit,
    Call,
    Evidence,
    Run,
    kind_of,
    rate_of,
    report,
)
from thinned._audit._calls import DROPS, check_repeats, is_thinned, sampled
from thinned._audit._evaluation import differs
from thinned.keras import _compat

_OPAQUE = (keras.layers.AlphaDropout, keras.layers.GaussianDropout)
_UNSEEN: Any = object()


def audit(model: Any, *inputs: Any, repeats: int = 8, **kwargs: Any) -> Audit:
    """Run a Keras model a few times, and report what is wrong with its dropout.

    It is called twice with `training=False` and `repeats` times with `training=True`; there is no backward
    pass. Weights and the states of seed generators are put back. Of a large input or output at most 262,144
    positions are looked at, spread over all of it. Layers show their dropout; what recurrent layers and
    attention drop inside is seen where two evaluations differ.

    Args:
        model: a Keras model or layer.
        *inputs: what it is called with: a batch like those of its training.
        repeats: training passes, at least 2.
        **kwargs: keyword arguments of the model.

    Returns:
        The findings, what was seen at each layer that drops, and the share of a training pass they take.

    Raises:
        TypeError: `model must be a Keras layer, got …`; `repeats must be an integer, got …`.
        ValueError: `repeats must be at least 2, got …`.

    Source:
        docs/audit: a page for each rule; here THN401 to THN408, THN410, THN412, THN413 and THN415.

    Example:
        >>> import keras, numpy as np
        >>> model = keras.Sequential([keras.layers.Dropout(0.5), keras.layers.Dropout(0.5)])
        >>> [finding.code for finding in audit(model, np.ones((64, 8), "float32")).findings]
        ['THN410']
    """
    if not isinstance(model, keras.layers.Layer):
        raise TypeError(f"model must be a Keras layer, got {type(model).__name__}")
    check_repeats(repeats)
    if not model.built:
        model(*inputs, **kwargs)
    with _kept(model):
        before = _weights(model)
        evaluations = [_run(model, inputs, kwargs, training=False) for _ in range(2)]
        after = _weights(model)
        changed = [name for name in before if not np.array_equal(before[name], after[name], equal_nan=True)]
        trainings = [_run(model, inputs, kwargs, training=True) for _ in range(repeats)]
    return report(Evidence(evaluations, trainings, changed), (*SHARED, differs))


def _run(model: Any, inputs: tuple[Any, ...], kwargs: dict[str, Any], training: bool) -> Run:
    run = Run()
    begin = time.perf_counter()
    with ExitStack() as stack:
        for layer in _layers(model):
            if _drops(layer):
                stack.enter_context(_watched(layer, run))
        outputs = model(*inputs, training=training, **kwargs)
    run.seconds = time.perf_counter() - begin
    run.outputs = [_array(one) for one in keras.tree.flatten(outputs) if keras.ops.is_tensor(one)]
    return run


@contextmanager
def _watched(layer: Any, run: Run) -> Iterator[None]:
    """While it is entered the layer's calls are recorded; its instance is put back at the end."""
    call, before = layer.call, vars(layer).get("call", _UNSEEN)
    vars(layer)["call"] = _watching(layer, call, run)
    try:
        yield
    finally:
        if before is _UNSEEN:
            del vars(layer)["call"]
        else:
            vars(layer)["call"] = before


def _watching(layer: Any, call: Callable[..., Any], run: Run) -> Callable[..., Any]:
    handwritten = not type(layer).__module__.startswith(("keras.", "thinned."))
    signature = inspect.signature(call)

    def watching(*args: Any, **kwargs: Any) -> Any:
        given = args[0] if args else next(iter(kwargs.values()))
        begin = time.perf_counter()
        result = call(*args, **kwargs)
        seconds = time.perf_counter() - begin
        if keras.ops.is_tensor(given) and keras.ops.is_tensor(result):
            x, y = (_array(one[sampled(one.shape)]) for one in (given, result))
            if not handwritten or is_thinned(x, y):
                mode = signature.bind(*args, **kwargs).arguments.get("training")
                number = sum(one.name == layer.name for one in run.calls)
                kind = OTHER if isinstance(layer, _OPAQUE) else _kind(layer)
                one = Call(layer.name, number, kind, rate_of(layer), mode, x, y, given=given, made=result)
                one.seconds, one.by_function = seconds, kind == ELEMENTS and not handwritten
                one.shape, one.dtype = tuple(given.shape), keras.backend.standardize_dtype(given.dtype)
                run.calls.append(one)
        return result

    watching.__signature__ = signature  # type: ignore[attr-defined]
    return watching


def _kind(layer: Any) -> str:
    if isinstance(layer, keras.layers.Dropout) and getattr(layer, "noise_shape", None) is None:
        return ELEMENTS
    kind = kind_of(type(layer).__name__)
    return "shared" if kind == ELEMENTS and isinstance(layer, keras.layers.Dropout) else kind


def _layers(model: Any) -> list[Any]:
    """The model's layers with itself, each once."""
    found: dict[int, Any] = {}
    for layer in _compat.layers_of(model)():
        found.setdefault(id(layer), layer)
    return list(found.values())


def _drops(layer: Any) -> bool:
    return bool(DROPS.search(type(layer).__name__)) and not layer.weights and hasattr(layer, "call")


def _weights(model: Any) -> dict[str, npt.NDArray[Any]]:
    return {one.path.replace("/", "."): _plain(one) for one in model.weights}


@contextmanager
def _kept(model: Any) -> Iterator[None]:
    """Put back weights, the states of seed generators, Keras's own too, and those of Python and NumPy."""
    shared = _compat.global_seed_generator().state
    variables = list({id(one): one for one in (*model.variables, shared)}.values())
    values = [_plain(one) for one in variables]
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


def _plain(variable: Any) -> npt.NDArray[Any]:
    return np.array(keras.ops.convert_to_numpy(keras.ops.copy(variable)))


def _array(tensor: Any) -> npt.NDArray[Any]:
    """A tensor's values in float32 or float64."""
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    wide = keras.ops.cast(tensor, "float64" if dtype == "float64" else "float32")
    return np.array(keras.ops.convert_to_numpy(wide))
