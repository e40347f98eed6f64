"""Breaks of the front ends on arrays of JAX: JAX, Flax and Equinox."""

from breaks import of

BREAKS = of(
    "src/thinned",
    """
which units a thinned dense layer keeps in JAX | jax/_thin.py |
    jax/test_thin.py::test_kept_units_are_those_of_every_other_way
-jnp.argsort(~numbers
+jnp.argsort(numbers

the transpose of JAX's primitive | jax/_primitive.py | jax/test_transforms.py
-return (dropout_p.bind(cotangent, *rest, **parameters), None, None, None)
+return (cotangent, None, None, None)

the batching of JAX's primitive | jax/_primitive.py | jax/test_transforms.py
-else jnp.moveaxis(x, axis, 0)
+else jnp.flip(jnp.moveaxis(x, axis, 0), 0)

the halfword of a position, in the libraries' operators | _philox.py |
    jax/test_dropout.py torch/test_dropout.py tensorflow/test_dropout.py
-(index & 1) * 16
+(1 - (index & 1)) * 16

the upper counter word in jax.numpy | jax/_philox.py | jax/test_dropout.py
-(low, high + np.uint32(purpose << 28), words[2], words[3])
+(low, np.uint32(purpose << 28), words[2], words[3])

kept where u is above D only, in jax.numpy | jax/_philox.py | jax/test_dropout.py
-return numbers.astype(np.uint64) >= pair(threshold)
+return numbers.astype(np.uint64) > pair(threshold)

the place of a tile of attention in JAX | jax/_tiles.py |
    jax/test_attention.py::test_the_mask_is_numpys_forward_and_backward
-jnp.stack([zero, zero, tile.row, tile.column])
+jnp.stack([zero, zero, tile.row, zero])

the mask of the gradient of attention in JAX | jax/_attend.py |
    jax/test_attention.py::test_values_and_derivatives_are_the_plain_formulas
-through = drop(jnp.einsum("bkgth,bksh->bkgts", upstream, value))
+through = jnp.einsum("bkgth,bksh->bkgts", upstream, value)

what a device of a mesh divides | jax/_native.py | jax/test_mesh.py
-tuple(named(entry) for entry in own),
+tuple(named(None) for entry in own),

Flax shares along other dimensions | flax/_mask.py | flax/test_linen.py::test_broadcast_dims_share_decisions
-        noise[dim] = 1
+        noise[-1 - dim] = 1

Equinox's key | equinox/nn.py |
    equinox/test_dropout.py::test_outputs_are_numpys equinox/test_dropout.py::test_exact_keys
-return dropout(x, p, key=key, training=not evaluate)
+return dropout(x, p, key=Key(0), training=not evaluate)

ties of the Pallas kernel | jax/pallas.py | jax/test_pallas.py::test_ties
-_halves(block, key, PURPOSE_LOW) >= low
+_halves(block, key, PURPOSE_LOW) > low

the halfword of a position in the Pallas kernel | jax/pallas.py | jax/test_pallas.py::test_values
-place < 4, jnp.where
+place < 5, jnp.where

over which axes of a mesh the Pallas kernel's result varies | jax/pallas.py |
    jax/test_pallas.py::test_shard_map_has_the_kernel_and_its_gradient
-x.dtype, **_compat.varying_as(x)
+x.dtype
""",
)
