"""The audit applies a linen module a few times, and reports what can only be seen while it runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from thinned._audit import ELEMENTS, SHARED, Audit, Call, Evidence, Run, report
from thinned._audit._calls import DROPS, check_repeats, is_thinned, kind_of, rate_of, sampled
from thinned._audit._evaluation import differs

_MODE = "deterministic"


def audit(
    module: nn.Module,
    variables: Any,
    *inputs: Any,
    train: dict[str, Any] | None = None,
    evaluate: dict[str, Any] | None = None,
    streams: Sequence[str] = ("dropout",),
    repeats: int = 8,
) -> Audit:
    """Apply a linen module a few times, and report what is wrong with its dropout.

    It is applied twice in evaluation and `repeats` times in training, each time with other keys, and nothing
    is compiled. What is inside of other transformations, such as `nn.remat`, is not looked at. There is no
    backward pass, and the variables are left as they are. Of a large input or output at most 262,144
    positions are looked at, spread over all of it.

    Args:
        module: a linen module.
        variables: what its `init` gave.
        *inputs: what it is called with: a batch like those of its training.
        train: keyword arguments that have it train; `{"deterministic": False}` if None.
        evaluate: those that have it evaluate; `{"deterministic": True}` if None.
        streams: names of the streams of keys that the module draws from.
        repeats: training passes, at least 2.

    Returns:
        The findings, what was seen at each module that drops, and the share of a training pass they take.

    Raises:
        TypeError: `module must be a linen Module, got …`; `repeats must be an integer, got …`.
        ValueError: `repeats must be at least 2, got …`.

    Source:
        docs/audit: a page for each rule; here THN401 to THN408, THN410, THN412, THN413 and THN415.

    Example:
        >>> import flax.linen as nn, jax, jax.numpy as jnp
        >>> class Net(nn.Module):
        ...     @nn.compact
        ...     def __call__(self, x, deterministic):
        ...         return nn.Dropout(0.5, deterministic=False)(x)
        >>> [finding.code for finding in audit(Net(), {}, jnp.ones((64, 8))).findings]
        ['THN401']
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a linen Module, got {type(module).__name__}")
    check_repeats(repeats)
    silent = {_MODE: True} if evaluate is None else evaluate
    loud = {_MODE: False} if train is None else train
    evaluations: list[Run] = []
    changed: list[str] = []
    for number in range(2):
        run, after = _run(module, variables, inputs, silent, _keys(streams, number))
        evaluations.append(run)
        changed = changed or _changed(variables, after)
    trainings = [
        _run(module, variables, inputs, loud, _keys(streams, number))[0] for number in range(repeats)
    ]
    return report(Evidence(evaluations, trainings, changed), (*SHARED, differs))


def _keys(streams: Sequence[str], number: int) -> dict[str, Any]:
    return dict(zip(streams, jax.random.split(jax.random.key(number), len(streams)), strict=True))


def _run(
    module: nn.Module, variables: Any, inputs: tuple[Any, ...], options: dict[str, Any], rngs: dict[str, Any]
) -> tuple[Run, Any]:
    run = Run()

    def watch(next_function: Any, args: Any, kwargs: Any, context: Any) -> Any:
        site = context.module
        if context.method_name != "__call__" or not DROPS.search(type(site).__name__) or not args:
            return next_function(*args, **kwargs)
        begin = time.perf_counter()
        result = next_function(*args, **kwargs)
        _note(run, site, args[0], result, time.perf_counter() - begin)
        return result

    held = [name for name in variables if name != "params"]
    begin = time.perf_counter()
    with jax.disable_jit(), nn.intercept_methods(watch):
        outputs, after = module.apply(variables, *inputs, rngs=rngs, mutable=held, **options)
    run.seconds = time.perf_counter() - begin
    run.outputs = [_array(one) for one in jax.tree.leaves(outputs)]
    return run, after


def _note(run: Run, site: nn.Module, given: Any, made: Any, seconds: float) -> None:
    if isinstance(made, jax.core.Tracer):  # inside a transformation, such as a checkpoint
        return
    x, y = (_array(one[sampled(one.shape)]) for one in (given, made))
    plain = isinstance(site, nn.Dropout) and not site.broadcast_dims
    if not plain and not is_thinned(x, y):
        return
    name = ".".join(map(str, site.path))
    number = sum(one.name == name for one in run.calls)
    mode = getattr(site, _MODE, None)
    kind = ELEMENTS if plain else kind_of(type(site).__name__)
    call = Call(
        name, number, kind, rate_of(site), None if mode is None else not mode, x, y, given=given, made=made
    )
    call.shape = given.shape
    call.dtype, call.seconds, call.by_function = str(given.dtype), seconds, plain
    run.calls.append(call)


def _changed(before: Any, after: Any) -> list[str]:
    """The variables that an evaluation would change, by name."""
    return [
        ".".join(str(getattr(part, "key", part)) for part in path)
        for path, value in jax.tree_util.tree_leaves_with_path(after)
        if not np.array_equal(value, _at(before, path), equal_nan=True)
    ]


def _at(tree: Any, path: Any) -> Any:
    for part in path:
        tree = tree[part.key]
    return tree


def _array(value: Any) -> npt.NDArray[Any]:
    wide = jnp.float64 if value.dtype == jnp.float64 else jnp.float32
    return np.asarray(value.astype(wide))
