"""These dense layers do not compute what is dropped, and no shape depends on the mask."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from thinned import _fixed
from thinned.contract import check_integer
from thinned.jax import _gathers, _key, _philox
from thinned.jax._types import AnyKey


def kept_units(size: int, p: float, *, key: AnyKey) -> jax.Array:
    """Choose a fixed number of units that are kept, as `thinned.torch.thin(model, fixed=True)` does.

    (1 − p) · size units to the nearest integer, and at least one where p is below 1: those whose numbers u(i)
    of the contract are largest, of equal numbers those of lower positions. This is not Bernoulli's mask:
    units are not dropped independently of each other.

    Args:
        size: units of the layer.
        p: drop probability in [0, 1], a number: the result's shape depends on it.
        key: as in `dropout`; it may be traced, and differ under `jax.vmap`.

    Returns:
        Ascending numbers of units, int32 of shape (kept,).

    Raises:
        TypeError: `p must be a real number, got …`: a traced one cannot say a shape; `key must be …`.
        ValueError: `p must be in [0, 1], got …`; `size must be at least 1, got …`.

    Source:
        CONTRACT.md, section 3.

    Example:
        >>> from thinned import Key
        >>> kept_units(5, 0.5, key=Key(0))
        Array([0, 3], dtype=int32)
    """
    if check_integer("size", size) < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    if isinstance(p, jax.core.Tracer):
        raise TypeError("p must be a number, got a traced value: the number of kept units is a shape")
    count = _fixed.kept_units(p, size)
    words = _key.words(key)
    _key.spend(key)
    start = np.zeros((1, 2), np.uint32)
    numbers = _philox.numbers((size,), (1,), jnp.asarray(words), jnp.asarray(start))
    order = jnp.argsort(~numbers, stable=True)  # the largest number first
    return jnp.sort(order[:count].astype(jnp.int32))


def thin_dense(
    x: ArrayLike,
    kernel: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    inputs: ArrayLike | None = None,
    outputs: ArrayLike | None = None,
) -> jax.Array:
    """Compute a dense layer's kept outputs from its kept inputs: x @ kernel + bias of a thinned network.

    Args:
        x: of shape (…, features), or with the kept features alone, as a `thin_dense` before gives them.
        kernel: of shape (features, units), as Flax has it; Equinox's `weight.T`.
        bias: of shape (units,).
        inputs: numbers of the features that are kept, from `kept_units`; all if not given. They are
            multiplied by features / kept, so that the expectation is that of the whole layer.
        outputs: numbers of the units that are computed; all if not given.

    Returns:
        An array of shape (…, kept units). Gradients of kernel and bias are dense, 0 where nothing was kept.

    Raises:
        TypeError: `inputs must be integers of one dimension, …`.
        ValueError: `x has … features, but kernel has …, of which … are kept`; `kernel must have two
            dimensions, got …`; `inputs must ascend from 0 to …, got …`, where they are not traced.

    Source:
        Graham, Reizenstein and Robinson, "Efficient batchwise dropout training using submatrices", 2015.

    Example:
        >>> import jax.numpy as jnp
        >>> from thinned import Key
        >>> kept = kept_units(6, 0.5, key=Key(0))
        >>> hidden = thin_dense(jnp.ones((2, 4)), jnp.ones((4, 6)), outputs=kept)
        >>> hidden.shape, thin_dense(hidden, jnp.ones((6, 3)), inputs=kept)[0, 0]
        ((2, 3), Array(24., dtype=float32))
    """
    array, weight = jnp.asarray(x), jnp.asarray(kernel)
    if weight.ndim != 2:
        raise ValueError(f"kernel must have two dimensions, got shape {weight.shape}")
    features = weight.shape[0]
    inputs, outputs = _kept("inputs", inputs, features), _kept("outputs", outputs, weight.shape[1])
    count = features if inputs is None else jnp.shape(inputs)[0]
    if array.shape[-1] == features and count != features:
        array = jnp.moveaxis(_gathers.take(jnp.moveaxis(array, -1, 0), inputs), 0, -1)
    elif array.shape[-1] != count:
        raise ValueError(
            f"x has {array.shape[-1]} features, but kernel has {features}, of which {count} are kept"
        )
    part = weight if inputs is None else _gathers.take(weight, inputs)
    part = part if outputs is None else _gathers.take(part.T, outputs).T
    if inputs is not None:
        part = part * np.asarray(_fixed.scale(features, count), part.dtype)
    out = array @ part
    if bias is None:
        return out
    return out + (jnp.asarray(bias) if outputs is None else _gathers.take(bias, outputs))


def _kept(name: str, numbers: ArrayLike | None, size: int) -> jax.Array | None:
    """Refuse numbers that no gather here finds: its gradient looks for them in their order."""
    if numbers is None:
        return None
    array = jnp.asarray(numbers)
    if array.ndim != 1 or not jnp.issubdtype(array.dtype, jnp.integer):
        got = f"{array.dtype} of shape {array.shape}"
        raise TypeError(f"{name} must be integers of one dimension, as kept_units gives them, got {got}")
    if not isinstance(array, jax.core.Tracer) and array.size:
        known = np.asarray(array).astype(np.int64)
        if known[0] < 0 or known[-1] >= size or (np.diff(known) <= 0).any():
            raise ValueError(f"{name} must ascend from 0 to {size - 1}, got {known.tolist()}")
    return array
