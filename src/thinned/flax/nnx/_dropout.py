"""These nnx modules drop elements, and whole samples of a residual branch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
from flax import nnx

from thinned.flax._mask import check_rate, rows, thin
from thinned.jax._types import AnyKey

Rngs = nnx.Rngs | nnx.RngStream


class Dropout(nnx.Dropout):
    """Equivalent to `flax.nnx.Dropout`, of which it is a subclass, with masks of this library.

    Args:
        rate: drop probability in [0, 1]; a number, or an array of no dimension, which a compiled step takes
            as it takes any array: each value with the same compiled code.
        broadcast_dims: dimensions that share a decision.
        deterministic: True evaluates, False drops; `train()` and `eval()` set it, and so do `set_attributes`
            and `nnx.view`. None leaves it to the call.
        rng_collection: the stream of `nnx.Rngs` that keys come from.
        rngs: where keys come from; a fork of it is kept. None leaves it to the call.

    Raises:
        TypeError: `rate must be a real number, got …`; `rngs must be …`, which is Flax's.
        ValueError: `rate must be in [0, 1], got …`.

    Source:
        CONTRACT.md, section 4; Srivastava et al., "Dropout", JMLR 2014.

    Example:
        >>> import jax.numpy as jnp
        >>> from thinned import Key
        >>> layer = Dropout(0.5, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones(8)).tolist() == layer(jnp.ones(8)).tolist()
        False
        >>> layer(jnp.ones((2, 5)), key=Key(0))
        Array([[2., 0., 2., 2., 2.],
               [2., 2., 2., 2., 2.]], dtype=float32)
    """

    def __init__(
        self,
        rate: float | jax.Array,
        *,
        broadcast_dims: Sequence[int] = (),
        deterministic: bool | None = False,
        rng_collection: str = "dropout",
        rngs: Rngs | None = None,
    ) -> None:
        check_rate(rate)
        super().__init__(
            rate,  # type: ignore[arg-type]
            broadcast_dims=broadcast_dims,
            deterministic=deterministic,
            rng_collection=rng_collection,
            rngs=rngs,
        )

    def __call__(
        self,
        inputs: jax.Array,
        *,
        deterministic: bool | None = None,
        rngs: Rngs | jax.Array | None = None,
        key: AnyKey | None = None,
    ) -> jax.Array:
        """Drop elements of inputs.

        Args:
            inputs: array of any shape; float32, float64, float16 or bfloat16.
            deterministic: goes before the attribute.
            rngs: goes before the attribute; a PRNG key too.
            key: the mask's exact key: a `thinned.Key`, a PRNG key or its four words, uint32. Nothing is
                drawn.

        Returns:
            An array like inputs; inputs itself where nothing changes.

        Raises:
            TypeError: `inputs` of another dtype; `pass rngs or key, not both`.
            ValueError: `No `deterministic` argument was provided to Dropout: …`; `… no `rngs` argument was
                provided to Dropout: …`; `broadcast_dims … does not fit inputs of shape …`.
        """
        return self._drop(inputs, self._stays(deterministic), lambda: self._key(rngs, key))

    def _drop(self, inputs: jax.Array, stay: bool, draw: Callable[[], Any]) -> jax.Array:
        """What a call does: nothing to the inputs if they `stay`, else by the key that `draw` gives."""
        return thin(inputs, self.rate, stay, draw, self.broadcast_dims)

    def _stays(self, deterministic: bool | None) -> bool:
        if deterministic is None:
            deterministic = self.deterministic
        if deterministic is None:
            raise ValueError(
                f"No `deterministic` argument was provided to {type(self).__name__}: pass deterministic= to "
                "the constructor or the call, or use train() or eval() of the model"
            )
        return deterministic

    def _key(self, rngs: Rngs | jax.Array | None, key: Any) -> Any:
        if key is not None:
            if rngs is not None:
                raise TypeError(
                    "pass rngs or key, not both: key is the mask's own, rngs is where one is drawn from"
                )
            return key
        source = self.rngs if rngs is None else rngs
        if source is None:
            raise ValueError(
                f"`deterministic` is False, but no `rngs` argument was provided to {type(self).__name__}: "
                f"pass rngs=nnx.Rngs({self.rng_collection}=seed) to the constructor or the call, or "
                "key=thinned.Key(seed) to the call; to evaluate, use model.eval()"
            )
        if isinstance(source, nnx.Rngs):
            return source[self.rng_collection]()
        if isinstance(source, nnx.RngStream) or callable(source):  # a keyed site's source, or a sample's
            return source()
        if isinstance(source, jax.Array):
            return source
        raise TypeError(f"rngs must be an nnx.Rngs, an nnx.RngStream or a PRNG key, got {source!r}")


class DropPath(Dropout):
    """Drop a residual branch by samples: `Dropout` with one decision along all dimensions but the first.

    Under `jax.vmap` there is no N: use `Dropout` and share all dimensions.

    Args:
        rate: as of `Dropout`.
        scale_by_keep: multiply what is kept by 1/(1−rate). Without it what is kept stays as it is, in
            training and in evaluation, as in timm.
        deterministic: as of `Dropout`.
        rng_collection: as of `Dropout`.
        rngs: as of `Dropout`.

    Raises:
        TypeError: as `Dropout`.
        ValueError: as `Dropout`.

    Source:
        Gao Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016.

    Example:
        >>> import jax.numpy as jnp
        >>> from thinned import Key
        >>> DropPath(0.5)(jnp.ones((3, 2)), key=Key(0))
        Array([[2., 2.],
               [0., 0.],
               [2., 2.]], dtype=float32)
    """

    def __init__(
        self,
        rate: float | jax.Array,
        *,
        scale_by_keep: bool = True,
        deterministic: bool | None = False,
        rng_collection: str = "dropout",
        rngs: Rngs | None = None,
    ) -> None:
        super().__init__(rate, deterministic=deterministic, rng_collection=rng_collection, rngs=rngs)
        self.scale_by_keep = scale_by_keep

    def _drop(self, inputs: jax.Array, stay: bool, draw: Callable[[], Any]) -> jax.Array:
        mode: Literal["inverted", "classic"] = "inverted" if stay or self.scale_by_keep else "classic"
        shared = rows(inputs, type(self).__name__)
        return thin(inputs, self.rate, stay, draw, shared, mode)
