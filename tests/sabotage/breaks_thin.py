"""Breaks of thin sites, which compute what they keep."""

from breaks import of

BREAKS = of(
    "src/thinned/torch",
    """
the scale in the gradient of a thinned weight | _thin/_submatrix.py |
    torch/thin/test_families.py::test_thinned_is_masked
-ctx.how = rows, columns, scale, tuple(whole.shape)
+ctx.how = rows, columns, 1.0, tuple(whole.shape)

the scale of a thin linear map | _thin/_linear.py | torch/thin/test_linear.py
-second, wide, scale, input.numel() // wide
+second, wide, 1.0, input.numel() // wide

the scale of a thin convolution | _thin/_convolution.py | torch/thin/test_convolution.py::test_any_shape
-first, tall, second, wide, scale)
+first, tall, second, wide, 1.0)

the layout in which a chain of convolutions ends | _thin/_channels.py | torch/thin/test_layouts.py
-return made.contiguous() if as_it_would_be else made
+return made

what a thinned group keeps | _thin/_groups.py | torch/thin/test_families.py::test_groups_are_masked_alike
-inward.on(weight.device)[group]
+inward.on(weight.device)[0]

whether a branch mixes samples | _thin/_samples.py | torch/thin/test_odd_shapes.py torch/thin/test_plan.py
-                    (apart if found else mixed).add(rank)
+                    apart.add(rank)

which units a fixed number keeps | _thin/_count.py | torch/thin/test_fixed.py::test_thinned_is_masked
-_kernel.largest(*_key.as_words(key()), rows, size, count
+_kernel.largest(*_key.as_words(None), rows, size, count

what a compiled graph keeps between a site and its neighbours | _thin/_link.py |
    torch/thin/test_compiled.py::test_a_fixed_number_is_thinned_in_one_graph
-            return self._frames.kept if self._is_static() else None
+            return None

the scale of a fixed number of units in a mask | _fixed.py |
    torch/thin/test_fixed.py::test_what_is_kept_is_the_definitions
-(torch.zeros_like(count) + size) / count
+(torch.zeros_like(count) + size + 1) / count

which rows are a head's | _thin/_kept.py | torch/thin/test_families.py::test_thinned_is_masked
-(begin + part[:, None] * inner + within)
+(begin + part[:, None] + within * self.size)

heads that a view takes from another dimension | _thin/_few_heads.py |
    torch/thin/test_families.py::test_thinned_is_masked
-if before % done == 0 and inner and done * size % wide == 0:
+if size >= self.heads:

what is thinned though heads are mixed | _thin/_few_shapes.py | torch/thin/test_heads.py
-                if one != slice(None):
+                if one == 7:

the columns that a recurrent layer reads of dropped units | _thin/_recurrent.py |
    torch/thin/test_families.py::test_thinned_is_masked
-columns = inward if kind == 0 else units if kind == 1 else None
+columns = inward if kind == 0 else None

dropped units that the next state reads | nn/_hidden.py | torch/thin/test_families.py::test_thinned_is_masked
-            changed[at] = self._drop(weights[at], key)
+            changed[at] = weights[at]

a module that was exchanged | _thin/_link.py | torch/thin/test_costs.py
-                    self._check_places()
+                    pass
""",
)
