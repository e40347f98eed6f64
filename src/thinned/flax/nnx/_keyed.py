"""A model gets its keys here: one for each site, by its path, folded by the step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from thinned.contract import Key, check_integer
from thinned.flax.nnx._dropout import Dropout
from thinned.jax import fold
from thinned.jax._key import words

Model = TypeVar("Model", bound=nnx.Module)


class MaskKey(nnx.Variable):  # type: ignore[type-arg]
    """A site's key before the step is folded in: uint32, (…, 4)."""


class MaskStep(nnx.Variable):  # type: ignore[type-arg]
    """The step: uint32, of no dimension, or one number for each layer of a stack."""


class Keyed(nnx.Module):
    """Holds what a keyed site draws from in place of a stream: call it for the key of the step.

    Example:
        >>> from thinned import Key
        >>> Keyed(words(Key(1)), jnp.uint32(2))().shape
        (4,)
    """

    def __init__(self, key: Any, step: Any) -> None:
        self.key, self.step = MaskKey(jnp.asarray(key)), MaskStep(jnp.asarray(step))

    def __call__(self) -> jax.Array:
        """The key of the step."""
        return fold(self.key[...], self.step[...])


def keyed(model: Model, seed: int | Key, *, stacked: Mapping[str, int] | None = None) -> Model:
    """Give every site of a model its key: `Key(seed).fold(path).fold(step)`, instead of a stream that counts.

    Key and step are variables of the model, `MaskKey` and `MaskStep`: `nnx.jit`, `nnx.split` and checkpoints
    treat them as all others, and a step that is set compiles nothing again. A run that is resumed at step n
    has the masks that it would have had.

    Args:
        model: an nnx module, whose sites are the layers of `thinned.flax.nnx`.
        seed: integer in [0, 2^64), or a Key, which then stands for Key(seed).
        stacked: paths of modules made by `nnx.vmap` for `nnx.scan`, with the number of layers in each: layer
            l has `Key(seed).fold(path).fold(l).fold(step)`.

    Returns:
        The model itself, at step 0.

    Raises:
        TypeError: `seed must be an integer, got …`.
        ValueError: `model has no site …`; `stacked names … which no path of a site begins with: …`.

    Source:
        CONTRACT.md, section 5.

    Example:
        >>> import jax.numpy as jnp, thinned
        >>> from flax import nnx
        >>> from thinned.flax.nnx import Dropout, keyed, set_step
        >>> model = keyed(nnx.Sequential(nnx.Linear(4, 8, rngs=nnx.Rngs(0)), Dropout(0.5)), seed=7)
        >>> y = set_step(model, 3)(jnp.ones((2, 4)))
        >>> mask = thinned.keep_mask((2, 8), 0.5, key=thinned.Key(7).fold("layers.1").fold(3))
        >>> bool(((y != 0) == mask).all())
        True
    """
    root = seed if isinstance(seed, Key) else Key(seed)
    sites = dict(_sites(model))
    stacks = dict(stacked or {})
    for path in stacks:
        if not any(_inside(name, path) for name in sites):
            raise ValueError(
                f"stacked names {path!r}, which no path of a site begins with: {', '.join(sites)}"
            )
    for name, site in sites.items():
        own = root.fold(name)
        layers = next((count for path, count in stacks.items() if _inside(name, path)), None)
        if layers is None:
            site.rngs = Keyed(words(own), jnp.uint32(0))
        else:
            each = jnp.stack([jnp.asarray(words(own.fold(number))) for number in range(layers)])
            site.rngs = Keyed(each, jnp.zeros(layers, jnp.uint32))
    return model


def set_step(model: Model, n: int | jax.Array) -> Model:
    """Set the step of every site of a keyed model.

    Args:
        model: keyed.
        n: integer in [0, 2^32), or an integer array of no dimension, traced or not.

    Returns:
        The model itself.

    Raises:
        TypeError: `n must be an integer, got …`.
        ValueError: `n must be in [0, 2^32), got …`; `model has no keyed site …`.

    Example:
        >>> from flax import nnx
        >>> from thinned.flax.nnx import Dropout
        >>> model = set_step(keyed(nnx.Sequential(Dropout(0.5)), seed=7), 3)
        >>> int(model.layers[0].rngs.step[...])
        3
    """
    if not isinstance(n, jax.Array) and not 0 <= check_integer("n", n) < 2**32:
        raise ValueError(f"n must be in [0, 2^32), got {n}")
    sources = [site.rngs for _, site in _sites(model) if isinstance(site.rngs, Keyed)]
    if not sources:
        raise ValueError("model has no keyed site: call thinned.flax.nnx.keyed(model, seed) before")
    for source in sources:
        shape = source.step[...].shape
        source.step[...] = jnp.broadcast_to(jnp.asarray(n, jnp.uint32), shape)
    return model


def _sites(model: Any) -> Iterator[tuple[str, Dropout]]:
    found = [
        (".".join(map(str, path)), node) for path, node in nnx.iter_graph(model) if isinstance(node, Dropout)
    ]
    if not found:
        raise ValueError("model has no site: no module of it is of thinned.flax.nnx")
    yield from sorted(found, key=lambda one: one[0])


def _inside(name: str, path: str) -> bool:
    return name == path or name.startswith(f"{path}.")
