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
    ],
)
