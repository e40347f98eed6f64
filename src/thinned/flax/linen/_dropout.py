"""These linen modules drop elements, and whole samples of a residual branch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
from flax.errors import InvalidRngError

from thinned.flax._mask import check_rate, rows, thin
from thinned.jax._types import AnyKey


class Dropout(nn.Dropout):
    """Equivalent to `flax.linen.Dropout`, of which it is a subclass, with masks of this library.

    Args:
        rate: drop probability in [0, 1]; a number, or a traced scalar.
        broadcast_dims: dimensions that share a decision.
        deterministic: True evaluates, False drops; None leaves it to the call.
        rng_collection: the name of the key in `apply(…, rngs={"dropout": key})`.

    Raises:
        TypeError: `rate must be a real number, got …`.
        ValueError: `rate must be in [0, 1], got …`.

    Source:
        CONTRACT.md, section 4; Srivastava et al., "Dropout", JMLR 2014.

    Example:
        >>> import jax.numpy as jnp
        >>> from thinned import Key
        >>> layer = Dropout(0.5, deterministic=False)
        >>> layer.apply({}, jnp.ones(8), rngs={"dropout": jax.random.key(1)}).shape
        (8,)
        >>> layer.apply({}, jnp.ones((2, 5)), rng=Key(0))
        Array([[2., 0., 2., 2., 2.],
               [2., 2., 2., 2., 2.]], dtype=float32)
    """

    def __post_init__(self) -> None:
        check_rate(self.rate)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, inputs: jax.Array, deterministic: bool | None = None, rng: AnyKey | None = None
    ) -> jax.Array:
        """Drop elements of inputs.

        Args:
            inputs: array of any shape; float32, float64, float16 or bfloat16.
            deterministic: where the attribute is None.
            rng: the mask's exact key: a PRNG key, a `thinned.Key`, or its four words, uint32. Nothing is
                drawn.

        Returns:
            An array like inputs; inputs itself where nothing changes.

        Raises:
            TypeError: `inputs` of another dtype.
            ValueError: `broadcast_dims … does not fit inputs of shape …`; Flax's where `deterministic` is
                given twice or not at all.
            flax.errors.InvalidRngError: `Dropout has no key: …`.
        """
        deterministic = nn.merge_param("deterministic", self.deterministic, deterministic)
        return thin(
            inputs, self.rate, deterministic, source(self, self.rng_collection, rng), self.broadcast_dims
        )


def source(module: nn.Module, collection: str, rng: Any) -> Callable[[], Any]:
    """Draw a module's key: the call's argument, else from the collection, else, as in Flax, from "params"."""

    def draw() -> Any:
        if rng is not None:
            return rng
        if not (module.has_rng(collection) or module.has_rng("params")):
            raise InvalidRngError(
                f'{type(module).__name__} has no key: pass rngs={{"{collection}": jax.random.key(seed)}} to '
                "apply, or rng=thinned.Key(seed) to the call; to evaluate, deterministic=True"
            )
        return module.make_rng(collection)

    return draw


class DropPath(nn.Module):
    """Drop a residual branch by samples: `Dropout` with one decision along all dimensions but the first.

    Args:
        rate: as of `Dropout`.
        scale_by_keep: multiply what is kept by 1/(1−rate). Without it what is kept stays as it is, in
            training and in evaluation, as in timm.
        deterministic: as of `Dropout`.
        rng_collection: as of `Dropout`.

    Raises:
        TypeError: as `Dropout`.
        ValueError: as `Dropout`.

    Source:
        Gao Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016.

    Example:
        >>> import jax.numpy as jnp
        >>> from thinned import Key
        >>> DropPath(0.5, deterministic=False).apply({}, jnp.ones((3, 2)), rng=Key(0))
        Array([[2., 2.],
               [0., 0.],
               [2., 2.]], dtype=float32)
    """

    rate: float
    scale_by_keep: bool = True
    deterministic: bool | None = None
    rng_collection: str = "dropout"

    def __post_init__(self) -> None:
        check_rate(self.rate)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, inputs: jax.Array, deterministic: bool | None = None, rng: AnyKey | None = None
    ) -> jax.Array:
        """Drop samples of inputs, (N, …); the arguments are as of `Dropout`.

        Under `jax.vmap` there is no N: use `Dropout` and share all dimensions.
        """
        deterministic = nn.merge_param("deterministic", self.deterministic, deterministic)
        mode: Literal["inverted", "classic"] = (
            "inverted" if deterministic or self.scale_by_keep else "classic"
        )
        draw = source(self, self.rng_collection, rng)
        return thin(inputs, self.rate, deterministic, draw, rows(inputs, type(self).__name__), mode)
