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
            "the scale of a thin linear map",
            "_thin/_linear.py",
            "        kept = ctx.kept = (height, width, first, tall, second, wide, scale)\n",
            "        kept = ctx.kept = (height, width, first, tall, second, wide, 1.0)\n",
            "torch/thin/test_linear.py",
        ),
        (
            "the layout in which a chain of convolutions ends",
            "_thin/_channels.py",
            "return made.contiguous() if as_it_would_be else made",
            "return made",
            "torch/thin/test_layouts.py",
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
            "                    (apart if found else mixed).add(rank)\n",
            "                    apart.add(rank)\n",
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
        (
            "which rows are a head's",
            "_thin/_kept.py",
            "(begin + part[:, None] * inner + within)",
            "(begin + part[:, None] + within * self.size)",
            "torch/thin/test_families.py::test_thinned_is_masked",
        ),
        (
            "heads that a view takes from another dimension",
            "_thin/_few_heads.py",
            "if before % done == 0 and inner and done * size % wide == 0:",
            "if size >= self.heads:",
            "torch/thin/test_families.py::test_thinned_is_masked",
        ),
        (
            "what is thinned though heads are mixed",
            "_thin/_few_functions.py",
            "                if one != slice(None):\n",
            "                if one == 7:\n",
            "torch/thin/test_heads.py",
        ),
        (
            "the columns that a recurrent layer reads of dropped units",
            "_thin/_recurrent.py",
            "columns = inward if kind == 0 else units if kind == 1 else None",
            "columns = inward if kind == 0 else None",
            "torch/thin/test_families.py::test_thinned_is_masked",
        ),
        (
            "dropped units that the next state reads",
            "nn/_hidden.py",
            "            changed[at] = self._drop(weights[at], key)\n",
            "            changed[at] = weights[at]\n",
            "torch/thin/test_families.py::test_thinned_is_masked",
        ),
        (
            "a module that was exchanged",
            "_thin/_link.py",
            "                    self._check_places()\n",
            "                    pass\n",
            "torch/thin/test_costs.py",
        ),
    ],
)
