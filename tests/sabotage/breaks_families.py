"""Breaks of the families beside dropout, of what front ends share of them and of what tools say of them."""

from __future__ import annotations

from breaks import of

_ALIKE = "conformance/test_families.py::test_a_family_is_plain_numpys"

BREAKS = of(
    "src/thinned",
    [
        (
            "the share that a span's number is",
            "_boxes.py",
            "return (word // 2**8) * size // 2**24",
            "return (word // 2**8) * size // 2**25",
            _ALIKE,
        ),
        (
            "where a box's centre is",
            "_boxes.py",
            "sizes[axis]) - side // 2",
            "sizes[axis]) - side // 3",
            "conformance/test_families.py::test_boxes_are_plain_numpys",
        ),
        (
            "the halfwords of JAX's numbers",
            "jax/_numbers.py",
            "return (high << np.uint32(16)) | low",
            "return (low << np.uint32(16)) | high",
            _ALIKE,
        ),
        (
            "an edge's number in TensorFlow",
            "tensorflow/_edges.py",
            "else num_nodes) + target",
            "else num_nodes) - target",
            _ALIKE,
        ),
        (
            "an edge's number in PyTorch",
            "torch/functional/_graph.py",
            "else num_nodes) + target",
            "else num_nodes) + 2 * target",
            "torch/test_structured.py::test_an_edge_has_one_decision_in_any_order_or_batch",
        ),
        (
            "the sign of a relaxed mask",
            "_concrete.py",
            "above = odds - (",
            "above = odds + (",
            _ALIKE,
        ),
        (
            "the gradient of a relaxed mask in TensorFlow",
            "tensorflow/_learned.py",
            "                tape.watch([x, p])\n",
            "                tape.watch([x])\n",
            "conformance/test_families.py::test_the_rate_of_concrete_dropout_has_one_gradient",
        ),
        (
            "tokens that are protected in TensorFlow",
            "tensorflow/_structured.py",
            "tf.equal(tokens, tf.cast(token, tokens.dtype))",
            "tf.equal(tokens, tf.cast(token + 1, tokens.dtype))",
            _ALIKE,
        ),
        (
            "where a run of numbers begins in its block",
            "torch/_plain.py",
            "halves.flatten(-2)[..., skipped : skipped + n]",
            "halves.flatten(-2)[..., :n]",
            "torch/test_numbers.py",
        ),
        (
            "the variance of a drawn convolution",
            "torch/functional/_variational.py",
            "spread = product(input.to(wide).square(), variance.to(wide), None, *options)",
            "spread = product(input.to(wide).abs(), variance.to(wide), None, *options)",
            "torch/test_learned.py::test_a_convolution_of_noisy_weights_is_drawn_at_its_output",
        ),
        (
            "what a known module does",
            "torch/_conversion/_other_packages.py",
            "            return acts(module, call)\n",
            "            return True\n",
            "torch/test_convert_known.py",
        ),
        (
            "the values of fixed masks that get memory late",
            "torch/nn/_members.py",
            "        self.masks = self._chosen.to(self.masks.device)\n",
            "        pass\n",
            "torch/test_families_hostile.py",
        ),
        (
            "many comparisons at once",
            "demo/compared.py",
            "student.ppf(1 - _LEVEL / (2 * tests), gap.count - 1)",
            "student.ppf(1 - _LEVEL / 2, gap.count - 1)",
            "tools/test_compare_dropouts.py",
        ),
    ],
)
