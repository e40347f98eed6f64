"""A transformer whose layers are one scanned nnx module: each has its own masks, and a run repeats itself."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from thinned.flax import nnx as thin


class Block(nnx.Module):
    """Attention and a dense layer."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.attention = nnx.MultiHeadAttention(
            2,
            8,
            dropout_rate=0.1,
            deterministic=False,
            decode=False,
            rngs=rngs,
            attention_fn=thin.dot_product_attention,
        )
        self.dense, self.drop = nnx.Linear(8, 8, rngs=rngs), thin.Dropout(0.5, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """One block."""
        x = x + self.attention(x)
        return x + self.drop(jax.nn.gelu(self.dense(x)))


@nnx.split_rngs(splits=3)
@nnx.vmap(in_axes=(0,), out_axes=0)
def stacked(rngs: nnx.Rngs) -> Block:
    """Three blocks in one."""
    return Block(rngs)


@nnx.scan(in_axes=(0, nnx.Carry), out_axes=(nnx.Carry, 0))
def through(block: Block, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """All blocks, one after another; and what each drops of ones."""
    return block(x), block.drop(jnp.ones(64)) == 0


def run() -> tuple[np.ndarray, np.ndarray]:
    """Outputs and masks."""
    y, dropped = nnx.jit(through)(stacked(nnx.Rngs(0)), jnp.ones((2, 5, 8)))
    return np.asarray(y), np.asarray(dropped)


(first, masks), (again, _) = run(), run()
assert np.array_equal(first, again)
assert len({mask.tobytes() for mask in masks}) == 3
print("nnx: three scanned layers, three masks, and the same again")
