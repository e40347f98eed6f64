"""Breaks of the families beside dropout, of what front ends share of them and of what tools say of them."""

from breaks import of

BREAKS = of(
    "src/thinned",
    """
the share that a span's number is | _boxes.py | conformance/test_families.py::test_a_family_is_plain_numpys
-return (word // 2**8) * size // 2**24
+return (word // 2**8) * size // 2**25

where a box's centre is | _boxes.py | conformance/test_families.py::test_boxes_are_plain_numpys
-sizes[axis]) - side // 2
+sizes[axis]) - side // 3

the halfwords of JAX's numbers | jax/_numbers.py |
    conformance/test_families.py::test_a_family_is_plain_numpys
-return (high << np.uint32(16)) | low
+return (low << np.uint32(16)) | high

an edge's number in TensorFlow | tensorflow/_edges.py |
    conformance/test_families.py::test_a_family_is_plain_numpys
-else num_nodes) + target
+else num_nodes) - target

an edge's number in PyTorch | torch/functional/_graph.py |
    torch/test_structured.py::test_an_edge_has_one_decision_in_any_order_or_batch
-else num_nodes) + target
+else num_nodes) + 2 * target

the sign of a relaxed mask | _concrete.py | conformance/test_families.py::test_a_family_is_plain_numpys
-above = odds - (
+above = odds + (

the gradient of a relaxed mask in TensorFlow | tensorflow/_learned.py |
    conformance/test_families.py::test_the_rate_of_concrete_dropout_has_one_gradient
-                tape.watch([x, p])
+                tape.watch([x])

tokens that are protected in TensorFlow | tensorflow/_structured.py |
    conformance/test_families.py::test_a_family_is_plain_numpys
-tf.equal(tokens, tf.cast(token, tokens.dtype))
+tf.equal(tokens, tf.cast(token + 1, tokens.dtype))

where a run of numbers begins in its block | torch/_plain.py | torch/test_numbers.py
-halves.flatten(-2)[..., skipped : skipped + n]
+halves.flatten(-2)[..., :n]

the variance of a drawn convolution | torch/functional/_variational.py |
    torch/test_learned.py::test_a_convolution_of_noisy_weights_is_drawn_at_its_output
-spread = product(input.to(wide).square(), variance.to(wide), None, *options)
+spread = product(input.to(wide).abs(), variance.to(wide), None, *options)

what a known module does | torch/_conversion/_other_packages.py | torch/test_convert_known.py
-            return acts(module, call)
+            return True

the values of fixed masks that get memory late | torch/nn/_members.py | torch/test_families_hostile.py
-        self.masks = self._chosen.to(self.masks.device)
+        pass

many comparisons at once | demo/compared.py | tools/test_compare_dropouts.py
-student.ppf(1 - _LEVEL / (2 * tests), gap.count - 1)
+student.ppf(1 - _LEVEL / 2, gap.count - 1)
""",
)
