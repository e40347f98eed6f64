"""Breaks of the front ends on arrays of JAX: JAX, Flax and Equinox."""

from __future__ import annotations

from breaks import of

BREAKS = of(
    "src/thinned",
    [
        (
            "which units a thinned dense layer keeps in JAX",
            "jax/_thin.py",
            "jnp.argsort(~numbers",
            "jnp.argsort(numbers",
            "jax/test_thin.py::test_kept_units_are_those_of_every_other_way",
        ),
        (
            "the transpose of JAX's primitive",
            "jax/_primitive.py",
            "return (dropout_p.bind(cotangent, *rest, **parameters), None, None, None)",
            "return (cotangent, None, None, None)",
            "jax/test_transforms.py",
        ),
        (
            "the batching of JAX's primitive",
            "jax/_primitive.py",
            "else jnp.moveaxis(x, axis, 0)",
            "else jnp.flip(jnp.moveaxis(x, axis, 0), 0)",
            "jax/test_transforms.py",
        ),
        (
            "the halfword of a position, in the libraries' operators",
            "_philox.py",
            "(index & 1) * 16",
            "(1 - (index & 1)) * 16",
            "jax/test_dropout.py torch/test_dropout.py tensorflow/test_dropout.py",
        ),
        (
            "the upper counter word in jax.numpy",
            "jax/_philox.py",
            "(low, high + np.uint32(purpose << 28), words[2], words[3])",
            "(low, np.uint32(purpose << 28), words[2], words[3])",
            "jax/test_dropout.py",
        ),
        (
            "kept where u is above D only, in jax.numpy",
            "jax/_philox.py",
            "return numbers.astype(np.uint64) >= pair(threshold)",
            "return numbers.astype(np.uint64) > pair(threshold)",
            "jax/test_dropout.py",
        ),
        (
            "the place of a tile of attention in JAX",
            "jax/_tiles.py",
            "jnp.stack([zero, zero, tile.row, tile.column])",
            "jnp.stack([zero, zero, tile.row, zero])",
            "jax/test_attention.py::test_the_mask_is_numpys_forward_and_backward",
        ),
        (
            "the mask of the gradient of attention in JAX",
            "jax/_attend.py",
            'through = drop(jnp.einsum("bkgth,bksh->bkgts", upstream, value))',
            'through = jnp.einsum("bkgth,bksh->bkgts", upstream, value)',
            "jax/test_attention.py::test_values_and_derivatives_are_the_plain_formulas",
        ),
        (
            "what a device of a mesh divides",
            "jax/_native.py",
            "tuple(named(entry) for entry in own),",
            "tuple(named(None) for entry in own),",
            "jax/test_mesh.py",
        ),
        (
            "Flax shares along other dimensions",
            "flax/_mask.py",
            "        noise[dim] = 1",
            "        noise[-1 - dim] = 1",
            "flax/test_linen.py::test_broadcast_dims_share_decisions",
        ),
        (
            "Equinox's key",
            "equinox/nn.py",
            "return dropout(x, p, key=key, training=not evaluate)",
            "return dropout(x, p, key=Key(0), training=not evaluate)",
            "equinox/test_dropout.py::test_outputs_are_numpys equinox/test_dropout.py::test_exact_keys",
        ),
        (
            "ties of the Pallas kernel",
            "jax/pallas.py",
            "_halves(block, key, PURPOSE_LOW) >= low",
            "_halves(block, key, PURPOSE_LOW) > low",
            "jax/test_pallas.py::test_ties",
        ),
        (
            "the halfword of a position in the Pallas kernel",
            "jax/pallas.py",
            "place < 4, jnp.where",
            "place < 5, jnp.where",
            "jax/test_pallas.py::test_values",
        ),
    ],
)
