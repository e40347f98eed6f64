"""Breaks of torch's front end, its layers and conversion."""

from __future__ import annotations

from breaks import of

BREAKS = of(
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
            "_unkeyed.py",
            "if torch.Tag.nondeterministic_seeded in func.tags",
            "if not func.tags",
            "torch/test_check.py::test_a_draw_without_a_key_is_named",
        ),
        (
            "a hook on the way of a scale",
            "_conversion/_walk.py",
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
            "_placement.py",
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
            "word(position, key, where) >= drop",
            "word(position, key, where) > drop",
            "torch/test_dropout.py",
        ),
        (
            "where a score of FlexAttention stands",
            "_flex.py",
            "h.long() * of_head",
            "b.long() * of_head",
            "torch/test_flex.py::test_identity_for_v_gives_the_reference_mask",
        ),
        (
            "the key of MultiheadAttention's weights",
            "nn/_heads.py",
            "functional.dropout(probabilities, p, True, key=dropout_key, **place)",
            "functional.dropout(probabilities, p, True, **place)",
            "torch/test_multihead.py::test_the_weights_are_dropped_by_the_mask_of_their_shape",
        ),
        (
            "the key of an attention that is handed over",
            "_conversion/_attention_functions.py",
            "dropout_key=self.mask_key(None, query)",
            "dropout_key=None",
            "torch/test_transformers.py::test_an_attention_that_is_handed_over_gets_a_site",
        ),
    ],
)
