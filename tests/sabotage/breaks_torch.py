"""Breaks of torch's front end, its layers and conversion."""

from breaks import of

BREAKS = of(
    "src/thinned/torch",
    """
another key in the backward pass | _autograd.py | torch/test_one_mask.py torch/test_operator.py
-again = operator(grad, *ctx.saved_tensors, *derivative(ctx.constants))
+again = operator(grad, ctx.saved_tensors[0] + 1, *ctx.saved_tensors[1:], *derivative(ctx.constants))

the derivative in forward mode | _autograd.py | torch/test_func.py
-result: Tensor = operator(tangent, *ctx.saved_tensors, *derivative(ctx.constants))
+result: Tensor = operator(tangent, *ctx.saved_tensors, *derivative(ctx.constants)) * 2

the step is not folded into a site's key | _site.py | torch/test_keyed.py
-key = _key.folded(key, self._step(clock))
+key = _key.folded(key, 0)

the step and rows of a call that is computed again | _recomputed.py | torch/test_recomputed.py
-now() if again is None else _taken(_kept(again).get(owner), unseen)
+now()

the counters of a checkpoint's region | _recomputed.py |
    torch/test_calls_counted.py::test_counted_calls_have_their_masks_again_where_they_are_recomputed
-current = now() if again is None else
+current = now() if True else

what draws by a run | _unkeyed.py | torch/test_check.py::test_a_draw_without_a_key_is_named
-if torch.Tag.nondeterministic_seeded in func.tags
+if not func.tags

a hook on the way of a scale | _conversion/_walk.py |
    torch/test_scale_models.py::test_a_hook_on_the_way_leaves_the_scale_where_it_is
-for kind, hooks_of in _compat.HOOKS.items():
+for kind, hooks_of in ():

where a mesh's part begins | _mesh/_shard.py | torch/test_rows.py distributed
-begins[at] += first
+begins[at] += 0

the step between rows of a batch | _placement.py | torch/test_rows.py
-"step": tuple(self.step if axis == dim
+"step": tuple(1 if axis == dim

a converted module loses its p | _conversion/_convert.py | torch/test_convert.py
-become(module, _OURS[torchs](module.p, _is_inplace(module)))
+become(module, _OURS[torchs](0.5, _is_inplace(module)))

weights are not scaled on the way to classic | _conversion/_modes.py | torch/test_scale.py
-factor = inverse_scale(drop) if target == "classic" else keep_probability(drop)
+factor = keep_probability(drop) if target == "classic" else inverse_scale(drop)

the variance of Gaussian dropout | _gaussian.py | torch/test_gaussian.py
-torch.sqrt(rate / (1.0 - rate))
+torch.sqrt(rate)

the affine map of alpha dropout | _alpha.py | torch/test_alpha.py::test_outputs_equal_the_reference
-a = torch.where(rate < 1.0, a, 0.0)
-    b = -a * LIMIT * rate
+a = torch.where(rate < 1.0, a, 0.0)
+    b = a * LIMIT * rate

the upper counter word in torch's operators | _plain.py | torch/test_dropout.py torch/test_gaussian.py
-(block >> 32) + (purpose << 28)
+0 + (purpose << 28)

kept where u is above D only, in torch's operators | _plain.py | torch/test_dropout.py
-word(position, key, where) >= drop
+word(position, key, where) > drop

where a score of FlexAttention stands | _flex.py |
    torch/test_flex.py::test_identity_for_v_gives_the_reference_mask
-h.long() * of_head
+b.long() * of_head

the key of MultiheadAttention's weights | nn/_heads.py |
    torch/test_multihead.py::test_the_weights_are_dropped_by_the_mask_of_their_shape
-functional.dropout(probabilities, p, True, key=dropout_key, **place)
+functional.dropout(probabilities, p, True, **place)

the key of an attention that is handed over | _conversion/_attention_functions.py |
    torch/test_transformers.py::test_an_attention_that_is_handed_over_gets_a_site
-dropout_key=self.mask_key(None, query)
+dropout_key=None
""",
)
