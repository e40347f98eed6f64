"""Breaks of thin sites, which compute what they keep."""

from __future__ import annotations

from breaks import of

BREAKS = of(
    "src/thinned/torch",
    [
        (
            "the scale in the gradient of a thinned weight",
            "_thin/_submatrix.py",
            "ctx.how = rows, columns, scale, tuple(whole.shape)",
            "ctx.how = rows, columns, 1.0, tuple(whole.shape)",
            "torch/thin/test_families.py::test_thinned_is_masked",
        ),
        (
            "what a thinned group keeps",
            "_thin/_groups.py",
            "inward.on(weight.device)[group]",
            "inward.on(weight.device)[0]",
            "torch/thin/test_families.py::test_groups_are_masked_alike",
        ),
        (
            "whether a branch mixes samples",
            "_thin/_samples.py",
            "                    (apart if found else mixed).add(x.dim())\n",
            "                    apart.add(x.dim())\n",
            "torch/thin/test_odd_shapes.py torch/thin/test_plan.py",
        ),
        (
            "which units a fixed number keeps",
            "_thin/_count.py",
            "_kernel.largest(*_key.as_words(key()), rows, size, count",
            "_kernel.largest(*_key.as_words(None), rows, size, count",
            "torch/thin/test_fixed.py::test_thinned_is_masked",
        ),
        (
            "what a compiled graph keeps between a site and its neighbours",
            "_thin/_link.py",
            "            return self._frames.kept if self._is_static() else None\n",
            "            return None\n",
            "torch/thin/test_compiled.py::test_a_fixed_number_is_thinned_in_one_graph",
        ),
        (
            "the scale of a fixed number of units in a mask",
            "_fixed.py",
            "(torch.zeros_like(count) + size) / count",
            "(torch.zeros_like(count) + size + 1) / count",
            "torch/thin/test_fixed.py::test_what_is_kept_is_the_definitions",
        ),
    ],
)
