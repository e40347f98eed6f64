"""Flax modules become functions of an input and a key here, with only their dropout on."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import flax.linen
from flax import nnx

import thinned.flax.linen
import thinned.flax.nnx
from thinned.jax import fold
from thinned.mc.jax import random_key

Apply = Callable[[Any, Any], Any]

_LINEN = tuple(
    getattr(thinned.flax.linen, name) for name in ("Dropout", "DropPath", "PatchDropout", "SpecAugment")
)


def linen_apply(module: flax.linen.Module, variables: Any, **options: Any) -> Apply:
    """Make the function that `thinned.mc.jax.predict` takes of a linen module.

    The dropouts and drop paths of the module drop, whatever `deterministic` they were given; site n, counted
    in the order of the calls with a rate above 0, by `fold(key, n)`. All else evaluates: batch normalisation
    uses its running averages, if the module is called so.

    Args:
        module: with `thinned.flax.linen`'s layers, whose samples are those of the other front ends, or with
            Flax's own `Dropout`, whose masks are JAX's, by a key made of `fold(key, n)`.
        variables: of the module; they are read when the function is called.
        options: more arguments of its call, such as `train=False`.

    Returns:
        A function of x, with a batch of one, and a key.

    Example:
        >>> import flax.linen as nn, jax, jax.numpy as jnp, thinned
        >>> from thinned.flax.linen import Dropout
        >>> from thinned.mc.jax import predict
        >>> module = nn.Sequential([nn.Dense(8), Dropout(0.5, deterministic=True), nn.Dense(3)])
        >>> x = jnp.ones((4, 5))
        >>> variables = module.init(jax.random.key(0), x)
        >>> apply = linen_apply(module, variables)
        >>> predict(apply, x, samples=10, key=thinned.Key(0), outputs="logits").mean.shape
        (4, 3)
    """

    def apply(x: Any, key: Any) -> Any:
        sites = itertools.count()

        def dropping(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            found = context.module
            ours = isinstance(found, _LINEN)
            is_site = ours or isinstance(found, flax.linen.Dropout)
            if not is_site or context.method_name != "__call__" or found.rate == 0:
                return call(*args, **kwargs)
            own = fold(key, next(sites))
            rest = {**kwargs, "deterministic": False, "rng": own if ours else random_key(own)}
            was = found.deterministic
            # A bound module is frozen, and takes no argument for what it has as an attribute.
            object.__setattr__(found, "deterministic", None)
            try:
                return call(*args[:1], **rest)
            finally:
                object.__setattr__(found, "deterministic", was)

        with flax.linen.intercept_methods(dropping):
            return module.apply(variables, x, **options)

    return apply


def nnx_apply(module: nnx.Module) -> Apply:
    """Make the function that `thinned.mc.jax.predict` takes of an nnx module.

    A copy of the module evaluates, but for its dropout layers, `thinned.flax.nnx`'s and Flax's own; site n,
    counted in the order of the calls with a rate above 0, drops by `fold(key, n)`, and Flax's own by a key of
    JAX's made of it. The module stays as it is. Its weights are those of this call.

    Args:
        module: with its weights.

    Returns:
        A function of x, with a batch of one, and a key.

    Raises:
        ValueError: `module has no dropout layer …`.

    Example:
        >>> import jax.numpy as jnp, thinned
        >>> from flax import nnx
        >>> from thinned.flax.nnx import Dropout
        >>> from thinned.mc.jax import predict
        >>> module = nnx.Sequential(nnx.Linear(5, 8, rngs=nnx.Rngs(0)), Dropout(0.5))
        >>> x, key = jnp.ones((4, 5)), thinned.Key(0)
        >>> predict(nnx_apply(module), x, samples=10, key=key, outputs="values").mean.shape
        (4, 8)
    """
    definition, state = nnx.split(module)
    if not any(isinstance(node, nnx.Dropout) for _, node in nnx.iter_graph(module)):
        raise ValueError("module has no dropout layer: put thinned.flax.nnx's where it is to drop")

    def apply(x: Any, key: Any) -> Any:
        copy = nnx.merge(definition, state)
        copy.eval()
        sites = itertools.count()
        for _, node in nnx.iter_graph(copy):
            if isinstance(node, nnx.Dropout) and node.rate != 0:
                node.deterministic = False
                node.rngs = _Source(key, sites, isinstance(node, thinned.flax.nnx.Dropout))
        return copy(x)

    return apply


class _Source(nnx.RngStream):
    """Holds what a site of one sample draws from."""

    def __init__(self, key: Any, sites: Any, ours: bool) -> None:
        self._next = lambda: fold(key, next(sites)) if ours else random_key(fold(key, next(sites)))

    def __call__(self) -> Any:
        return self._next()  # type: ignore[no-untyped-call]
