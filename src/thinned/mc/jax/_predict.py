"""Prediction maps over samples and inputs, and compiles once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from thinned.contract import Key, UInt64s
from thinned.jax import _key
from thinned.mc import _chunks, _collect, _keys
from thinned.mc._prediction import Prediction
from thinned.mc._progress import shown
from thinned.mc._statistics import Outputs, check_outputs
from thinned.mc.jax import _sites

Apply = Callable[[Any, Any], Any]


def predict(
    apply: Apply,
    x: Any,
    *,
    samples: int = 100,
    key: Any = None,
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

    Args:
        apply: a pure function of one input and a key. The input is a part of x whose batch axis has size 1,
            the key uint32 of shape (4,), and site n of the function drops by `thinned.jax.fold(key, n)`,
            n from 0; the result is one array, with the batch axis. Arrays that it closes over, a model's
            parameters, are taken as they are at this call. Leave it without `jax.jit`, which would keep
            those of its first call.
        x: an array, or a pytree of arrays, of which the first axis, of size n, is the batch's.
        samples: how many thinned networks, at least 2. More samples extend fewer.
        key: a `thinned.Key` or a jax PRNG key; None takes a fresh one from the operating system.
        outputs: what the function returns: "values", "logits", or "probabilities" over the last axis. None
            takes values, and warns where they have the shape of classes' scores.
        shared: False gives each input networks of its own; True has one network see all inputs.
        batch_size: inputs at a time, at most; 64 if not given. Results do not depend on it.
        first: number of x's first input in the whole that x is a part of, in [0, 2^60): inputs count from it,
            so that parts predicted anywhere have the samples of the whole.
        memory: bytes that drawing may take beside the parameters and x, as XLA counts them for the compiled
            function. Inputs and, if one does not fit, samples are divided accordingly.
        tolerance: stop with an input when the standard error of each of its means is at most this.
        keep: keep the samples themselves.
        progress: show a progress bar.

    Returns:
        A `Prediction` of NumPy arrays. What does not depend on the key is computed once for all samples of a
        chunk.

    Raises:
        TypeError: `key must be …`; `apply must be a function of …`; `apply must return one array, got …`; `x
            must hold numbers, got …`.
        ValueError: `x has no inputs`; `samples must be at least 2, got …`; `memory=… bytes are too few: …`;
            `first must be in [0, 2^60), got …`; `x's arrays differ in their first axis: …`;
            `apply must return an array whose first axis is the batch's, of size 1, got …`.
        SilentError: `all samples are equal: …`, with the dropouts that were reached.

    Source:
        Gal and Ghahramani, "Dropout as a Bayesian Approximation", ICML 2016; CONTRACT.md, section 5.

    Example:
        >>> import jax.numpy as jnp
        >>> from thinned import Key
        >>> from thinned.jax import dropout, fold
        >>> def apply(x, key):
        ...     return dropout(x, 0.5, key=fold(key, 0), training=True).sum(axis=-1)
        >>> found = predict(apply, jnp.ones((3, 8)), samples=50, key=Key(0))
        >>> found.mean.shape, bool((abs(found.mean - 8) < 5 * found.standard_error.mean).all())
        ((3,), True)
    """
    if not callable(apply):
        raise TypeError(f"apply must be a function of one input and a key, got {apply!r}")
    _collect.check_samples(samples, tolerance)
    start = _collect.check_first(first)
    base, _ = _base(key), check_outputs(outputs)
    rows = _chunks.rows_of(map(np.shape, jax.tree.leaves(x)))
    _collect.check_last(start, rows)
    size = _chunks.wanted(rows, samples, tolerance, batch_size, memory)
    run, size = _compiled(apply, x, size, shared, memory)

    def silent() -> str:
        key_words = jax.ShapeDtypeStruct((4,), np.uint32)
        return _sites.silence(_sites.sites(jax.make_jaxpr(apply)(_part(x, 0, 1, 1), key_words), 1))

    blocks = _blocks(run, x, rows, size, base, shared, start)
    return _collect.collect(
        shown(blocks, progress, -(-rows // size.rows)),
        samples=samples,
        tolerance=tolerance,
        outputs=outputs,
        keep=keep,
        silent=silent,
    )


def _base(key: Any) -> Key:
    """The key itself, also of a jax PRNG key."""
    if key is None or isinstance(key, Key):
        return _keys.given(key)
    seed_low, seed_high, low, high = np.asarray(_key.words(key)).tolist()
    return Key(seed_low | seed_high << 32, low | high << 32)


def _part(x: Any, first: int, stop: int, size: int) -> Any:
    return jax.tree.map(lambda leaf: _chunks.filled(_array(leaf), first, stop, size), x)


def _array(leaf: Any) -> Any:
    return leaf if isinstance(leaf, jax.Array) else _chunks.as_numbers(leaf)


def _compiled(
    apply: Apply, x: Any, size: _chunks.Size, shared: bool, memory: int
) -> tuple[Callable[[Any, Any], Any], _chunks.Size]:
    """Returns the function of one chunk, and the chunk size that its memory allows."""
    while True:
        keys = np.zeros((size.samples, 1 if shared else size.rows, 4), np.uint32)
        inputs = _part(x, 0, 1, size.rows)
        # What apply closes over becomes arguments: as constants XLA would copy them, and compute with them.
        closed, shape = jax.make_jaxpr(_mapped(apply, shared), return_shape=True)(inputs, keys)
        _check(shape)

        def evaluate(consts: Any, *arguments: Any, jaxpr: Any = closed.jaxpr) -> Any:
            (out,) = jax.core.eval_jaxpr(jaxpr, consts, *jax.tree.leaves(arguments))
            return out

        code = jax.jit(evaluate).lower(closed.consts, inputs, keys).compile()
        smaller = size.fitting(_taken(code), memory)
        if smaller == size:
            return lambda inputs, keys, code=code, consts=closed.consts: code(consts, inputs, keys), size
        size = smaller


def _mapped(apply: Apply, shared: bool) -> Apply:
    """Over inputs, and that over samples: what no key reaches has no axis of samples."""

    def one(x: Any, key: Any) -> Any:
        return apply(jax.tree.map(lambda leaf: leaf[None], x), key)

    def all_samples(x: Any, keys: Any) -> Any:
        keys = keys[:, 0] if shared else keys
        return jax.vmap(jax.vmap(one, (0, None if shared else 0)), (None, 0))(x, keys)

    return all_samples


def _check(shape: Any) -> None:
    if not isinstance(shape, jax.ShapeDtypeStruct):
        raise TypeError(f"apply must return one array, got {jax.tree.structure(shape)}")
    if len(shape.shape) < 3 or shape.shape[2] != 1:
        raise ValueError(
            f"apply must return an array whose first axis is the batch's, of size 1, got {shape.shape[2:]}"
        )


def _taken(code: Any) -> int:
    """Bytes of intermediate values and outputs; 0 where a platform does not say."""
    found = code.memory_analysis()
    return 0 if found is None else int(found.temp_size_in_bytes + found.output_size_in_bytes)


def _blocks(
    run: Callable[[Any, Any], Any],
    x: Any,
    rows: int,
    size: _chunks.Size,
    key: Key,
    shared: bool,
    start: int,
) -> Iterator[_chunks.Block]:
    for first, stop in _collect.split(rows, size.rows):
        inputs = jax.device_put(_part(x, first, stop, size.rows))

        def draw(streams: UInt64s, inputs: Any = inputs) -> Any:
            return np.asarray(run(inputs, _keys.words(key.seed, streams)))[:, :, 0]

        yield _chunks.Block(stop - first, start + first, size, key, shared, draw)
