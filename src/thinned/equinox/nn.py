"""This file has the layers of `equinox.nn`: `Dropout`."""

from __future__ import annotations

import warnings

import equinox
import jax
from jax import lax

from thinned._arguments import UNUSED
from thinned.contract import check_probability
from thinned.jax import dropout
from thinned.jax._types import AnyKey

__all__ = ["Dropout"]


class Dropout(equinox.nn.Dropout):
    """Equivalent to `equinox.nn.Dropout`, of which it is a subclass, with masks of this library.

    Args:
        p: drop probability in [0, 1]: a number, or an array of no dimension, which is a leaf of the model:
            each value with the same compiled code. It has no gradient.
        inference: True evaluates, False drops; `equinox.nn.inference_mode` sets it.
        deterministic: Equinox's earlier name of `inference`, with its warning.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`.

    Source:
        CONTRACT.md, section 4; Srivastava et al., "Dropout", JMLR 2014.

    Example:
        >>> import jax.numpy as jnp
        >>> from thinned import Key
        >>> layer = Dropout(0.5)
        >>> layer(jnp.ones((2, 5)), key=jax.random.key(0))
        Array([[2., 0., 2., 2., 2.],
               [2., 2., 2., 2., 2.]], dtype=float32)
        >>> equinox.nn.inference_mode(layer)(jnp.ones(3))
        Array([1., 1., 1.], dtype=float32)
    """

    def __init__(
        self, p: float | jax.Array = 0.5, inference: bool = False, *, deterministic: bool | None = None
    ) -> None:
        if not isinstance(p, jax.core.Tracer):
            check_probability(p)
        super().__init__(p, inference, deterministic=deterministic)  # type: ignore[arg-type]

    @jax.named_scope("thinned.equinox.nn.Dropout")
    def __call__(
        self,
        x: jax.Array,
        *,
        key: AnyKey | None = None,
        inference: bool | None = None,
        deterministic: bool | None = None,
    ) -> jax.Array:
        """Drop elements of x.

        Args:
            x: array of any shape; float32, float64, float16 or bfloat16.
            key: the mask's: a PRNG key, a `thinned.Key`, or its four words, uint32.
            inference: goes before the attribute.
            deterministic: Equinox's earlier name of `inference`, with its warning.

        Returns:
            An array like x; x itself where nothing changes.

        Raises:
            TypeError: x of another dtype.
            RuntimeError: `Dropout has no key: …`.
        """
        if deterministic is not None:
            inference = deterministic
            warnings.warn(
                "Dropout()(deterministic=...) is deprecated in favour of Dropout()(inference=...)",
                stacklevel=2,
            )
        evaluate = self.inference if inference is None else inference
        p = lax.stop_gradient(self.p) if isinstance(self.p, jax.Array) else self.p
        if key is None:
            if not evaluate and (isinstance(p, jax.Array) or p != 0):
                raise RuntimeError(
                    "Dropout has no key: pass key=jax.random.key(seed), a part of jax.random.split, or "
                    "key=thinned.Key(seed); to evaluate, use equinox.nn.inference_mode(model)"
                )
            key = UNUSED
        return dropout(x, p, key=key, training=not evaluate)
