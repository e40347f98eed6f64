"""Breaks of the Python sources: the definition, the front ends, the layers, and prediction."""

from __future__ import annotations

from breaks import CONTRACT, Break, of

DEFINITION = of(
    "src/thinned",
    [
        (
            "halfword order of the definition",
            "contract.py",
            "(16 * (i & 1))",
            "(16 * (1 - (i & 1)))",
            CONTRACT,
        ),
        (
            "kept where u is above D only",
            "contract.py",
            "kept: Bools = u >= drop",
            "kept: Bools = u > drop",
            "contract/test_contract.py",
        ),
        (
            "the low halfword of the definition",
            "contract.py",
            "PURPOSE_HIGH) << 16 | halfword(key, positions, PURPOSE_LOW)",
            "PURPOSE_HIGH) << 16 | 0xFFFF",
            CONTRACT,
        ),
        (
            "the threshold rounded down",
            "contract.py",
            "return round(check_probability(p) * 2.0**32)",
            "return int(check_probability(p) * 2.0**32)",
            f"{CONTRACT} contract/test_contract.py",
        ),
        (
            "the scale by p instead of D",
            "contract.py",
            "return 2.0**32 / kept if kept else 0.0",
            "return 2.0**32 / (kept + 1) if kept else 0.0",
            f"{CONTRACT} contract/test_contract.py",
        ),
        (
            "bfloat16 rounded with ties away from even",
            "contract.py",
            "np.uint64(0x7FFF) + odd",
            "np.uint64(0x8000)",
            "contract/test_contract.py",
        ),
        (
            "the purpose of the definition's fold",
            "contract.py",
            "PURPOSE_FOLD = 15",
            "PURPOSE_FOLD = 14",
            CONTRACT,
        ),
    ],
)

TORCH = of(
    "src/thinned/torch",
    [
        (
            "another key in the backward pass",
            "_autograd.py",
            "again = operator(grad, *ctx.saved_tensors, *ctx.constants)",
            "again = operator(grad, ctx.saved_tensors[0] + 1, *ctx.saved_tensors[1:], *ctx.constants)",
            "torch/test_one_mask.py torch/test_operator.py",
        ),
        (
            "the derivative in forward mode",
            "_autograd.py",
            "result: Tensor = operator(tangent, *ctx.saved_tensors, *ctx.constants)",
            "result: Tensor = operator(tangent, *ctx.saved_tensors, *ctx.constants) * 2",
            "torch/test_func.py",
        ),
        (
            "the step is not folded into a site's key",
            "_site.py",
            "key = _key.folded(key, self._step(clock))\n",
            "key = _key.folded(key, 0)\n",
            "torch/test_keyed.py",
        ),
        (
            "the step and rows of a call that is computed again",
            "_recomputed.py",
            "now() if again is None else _taken(_kept(again).get(owner), unseen)",
            "now()",
            "torch/test_recomputed.py",
        ),
        (
            "the counters of a checkpoint's region",
            "_recomputed.py",
            "current = now() if again is None else",
            "current = now() if True else",
            "torch/test_calls_counted.py::test_counted_calls_have_their_masks_again_where_they_are_recomputed",
        ),
        (
            "what draws by a run",
            "_check.py",
            "if torch.Tag.nondeterministic_seeded in func.tags",
            "if not func.tags",
            "torch/test_check.py::test_a_draw_without_a_key_is_named",
        ),
        (
            "a hook on the way of a scale",
            "_conversion/_consumers.py",
            "for kind, hooks_of in _compat.HOOKS.items():",
            "for kind, hooks_of in ():",
            "torch/test_scale_models.py::test_a_hook_on_the_way_leaves_the_scale_where_it_is",
        ),
        (
            "where a mesh's part begins",
            "_mesh/_shard.py",
            "begins[at] += first",
            "begins[at] += 0",
            "torch/test_rows.py distributed",
        ),
        (
            "the step between rows of a batch",
            "_place.py",
            '"step": tuple(self.step if axis == dim',
            '"step": tuple(1 if axis == dim',
            "torch/test_rows.py",
        ),
        (
            "a converted module loses its p",
            "_conversion/_convert.py",
            "become(module, _OURS[torchs](module.p, _is_inplace(module)))",
            "become(module, _OURS[torchs](0.5, _is_inplace(module)))",
            "torch/test_convert.py",
        ),
        (
            "weights are not scaled on the way to classic",
            "_conversion/_modes.py",
            'factor = inverse_scale(drop) if target == "classic" else keep_probability(drop)',
            'factor = keep_probability(drop) if target == "classic" else inverse_scale(drop)',
            "torch/test_scale.py",
        ),
        (
            "the variance of Gaussian dropout",
            "_gaussian.py",
            "torch.sqrt(rate / (1.0 - rate))",
            "torch.sqrt(rate)",
            "torch/test_gaussian.py",
        ),
        (
            "the affine map of alpha dropout",
            "functional/_alpha.py",
            "a = torch.where(rate < 1.0, a, 0.0)\n    b = -a * _LIMIT * rate",
            "a = torch.where(rate < 1.0, a, 0.0)\n    b = a * _LIMIT * rate",
            "torch/test_alpha.py::test_outputs_equal_the_reference",
        ),
        (
            "the upper counter word in torch's operators",
            "_plain.py",
            "(block >> 32) + (purpose << 28)",
            "0 + (purpose << 28)",
            "torch/test_dropout.py torch/test_gaussian.py",
        ),
        (
            "kept where u is above D only, in torch's operators",
            "_plain.py",
            "(high << 16 | low) >= drop",
            "(high << 16 | low) > drop",
            "torch/test_dropout.py",
        ),
        (
            "kept where u is above D only, in Triton's kernels",
            "_triton/_bits.py",
            "(halfword_at(position, seed, stream, 1) >= low)",
            "(halfword_at(position, seed, stream, 1) > low)",
            "triton/test_kernels.py::test_interpreted[kernels]",
        ),
        (
            "Triton's order of halfwords",
            "_triton/_bits.py",
            "tl.join(tl.join(w0, w2), tl.join(w1, w3))",
            "tl.join(tl.join(w0, w1), tl.join(w2, w3))",
            "triton/test_kernels.py::test_interpreted[kernels]",
        ),
        (
            "Triton's ties",
            "_triton/_bits.py",
            "_halfwords(l0, l1, l2, l3, calls) < low",
            "_halfwords(l0, l1, l2, l3, calls) <= low - 0xFFFF",
            "triton/test_kernels.py::test_interpreted[kernels]",
        ),
        (
            "where a row of Triton's begins",
            "_triton/_dropout.py",
            "    position += base\n    if KEY_HERE:\n        seed, stream = tl.load(key + key_at), tl",
            "    if KEY_HERE:\n        seed, stream = tl.load(key + key_at), tl",
            "triton/test_kernels.py::test_interpreted[kernels]",
        ),
        (
            "where a tile of Triton's attention stands, backward",
            "_triton/_attention_keys.py",
            "positions = position + m.to(tl.int64) * position_row",
            "positions = position + (m - m0).to(tl.int64) * position_row",
            "triton/test_kernels.py::test_interpreted[attention]",
        ),
        (
            "ties of Triton's attention",
            "_triton/_tile.py",
            "at_least, _ = _at_least(low_word, low)",
            "at_least, _ = _at_least(low_word, low + 1)",
            "triton/test_kernels.py::test_interpreted[attention]",
        ),
        (
            "which queries a key of Triton's attention serves",
            "_triton/_problems.py",
            "{name: s if name in of_keys else s * each",
            "{name: s if name in of_keys else s",
            "triton/test_kernels.py::test_interpreted[attention]",
        ),
    ],
)

JAX = of(
    "src/thinned",
    [
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
            "the mask of Keras's attention without projections",
            "keras/_scores.py",
            "self.mask_key(), True)",
            "self.mask_key().fold(0), True)",
            "keras/test_backends.py::test_checks[torch]",
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
    ],
)

TENSORFLOW_AND_KERAS = of(
    "src/thinned",
    [
        (
            "TensorFlow's gradient",
            "tensorflow/_gradient.py",
            "[x], lambda upstream: [gradient(upstream)])",
            "[x], lambda upstream: [upstream])",
            "tensorflow/test_operator.py",
        ),
        (
            "TensorFlow's gradient in a graph",
            "tensorflow/_gradient.py",
            "tf.custom_gradient(lambda _: (run(), gradient))(x)",
            "tf.custom_gradient(lambda _: (run(), lambda upstream: upstream))(x)",
            "tensorflow/test_operator.py",
        ),
        (
            "TensorFlow's order of halfwords",
            "tensorflow/_plain.py",
            "for half in (word & low, tf.bitwise.right_shift(word, sixteen)):",
            "for half in (tf.bitwise.right_shift(word, sixteen), word & low):",
            "tensorflow/test_dropout.py",
        ),
        (
            "TensorFlow's threshold",
            "tensorflow/_plain.py",
            "return halves[0] * 65536 + halves[1] >= drop",
            "return halves[0] * 65536 >= drop",
            "tensorflow/test_dropout.py",
        ),
        (
            "kept where u is above D only, in TensorFlow's operators",
            "tensorflow/_plain.py",
            "halves[1] >= drop",
            "halves[1] > drop",
            "tensorflow/test_dropout.py",
        ),
        (
            "the counter of Keras's calls",
            "keras/_site.py",
            "active.assign(generator.state, state + np.array([0, 1], state.dtype))",
            "active.assign(generator.state, state)",
            "keras/test_backends.py::test_checks[torch]",
        ),
        (
            "the counter of Keras's compiled calls on JAX",
            "keras/_backend/jax.py",
            "return _key.fold(_key.fold(jnp.stack([state[0], none, none, none]), name), state[1])",
            "return _key.fold(_key.fold(jnp.stack([state[0], none, none, none]), name), none)",
            "keras/test_backends.py::test_checks[jax]",
        ),
        (
            "what Keras's channels share",
            "keras/_spatial.py",
            "return (None, *(1,) * (rank - 2), None)",
            "return (*(1,) * (rank - 1), None)",
            "keras/test_backends.py::test_checks[torch]",
        ),
    ],
)

PREDICTION = of(
    "src/thinned/mc",
    [
        (
            "the order of prediction's keys",
            "_keys.py",
            "return fold(key.seed, of_samples[:, np.newaxis], np.arange(inputs.start",
            "return fold(key.seed, of_samples[:, np.newaxis], 1 + np.arange(inputs.start",
            "mc/test_jax.py::test_streams_are_those_of_fold mc/test_jax.py::test_masks_are_numpys",
        ),
        (
            "the number of a site",
            "torch/_sampling.py",
            "        self.number += 1\n",
            "",
            "mc/test_predict.py::test_masks_are_those_of_sample_input_and_site",
        ),
        (
            "the key of one sample of one input",
            "torch/_batch.py",
            "key = key if settings.shared else key.fold(self._numbers[row])",
            "key = key if settings.shared else key.fold(row)",
            "mc/test_predict.py::test_a_part_of_what_cannot_be_traced_has_the_samples_of_the_whole",
        ),
        (
            "the slot of a row in Ray",
            "ray/_chunking.py",
            "slots = numbers % size",
            "slots = np.arange(len(numbers)) % size",
            "mc/test_ray_parts.py::test_every_row_is_in_its_slot_once "
            "mc/test_ray_parts.py::test_a_row_is_the_same_to_the_bit_whatever_comes_with_it",
        ),
        (
            "where a chunk of samples begins",
            "_chunks.py",
            "samples = range(start, start + self.size.samples)",
            "samples = range(first, first + self.size.samples)",
            "mc/test_jax.py::test_batches_and_chunks_change_nothing",
        ),
    ],
)

PYTHON: list[Break] = [*DEFINITION, *TORCH, *JAX, *TENSORFLOW_AND_KERAS, *PREDICTION]
