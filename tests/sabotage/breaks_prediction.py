"""Breaks of Monte Carlo prediction."""

from breaks import of

BREAKS = of(
    "src/thinned/mc",
    """
the order of prediction's keys | _keys.py |
    mc/test_jax.py::test_streams_are_those_of_fold mc/test_jax.py::test_masks_are_numpys
-return fold(key.seed, of_samples[:, np.newaxis], np.arange(inputs.start
+return fold(key.seed, of_samples[:, np.newaxis], 1 + np.arange(inputs.start

the number of a site | torch/_sampling.py | mc/test_predict.py::test_masks_are_those_of_sample_input_and_site
-        self.number += 1
-

the key of one sample of one input | torch/_batch.py |
    mc/test_predict.py::test_a_part_of_what_cannot_be_traced_has_the_samples_of_the_whole
-key = key if settings.shared else key.fold(self._numbers[row])
+key = key if settings.shared else key.fold(row)

what a shared sample multiplies its kept units by | torch/_maps.py |
    mc/test_thinly.py::test_samples_are_those_of_masks
-1.0 if inward is None else inward.scale
+1.0

what may mix inputs that share a sample | torch/_thinly.py |
    mc/test_thinly.py::test_what_may_mix_inputs_is_not_thinned
-return same and all(one.dim() < rank or one.shape[0] == 1 for one in others)
+return True

the slot of a row in Ray | ray/_chunking.py |
    mc/test_ray_parts.py::test_every_row_is_in_its_slot_once
    mc/test_ray_parts.py::test_a_row_is_the_same_to_the_bit_whatever_comes_with_it
-slots = numbers % size
+slots = np.arange(len(numbers)) % size

where a chunk of samples begins | _chunks.py | mc/test_jax.py::test_a_chunk_begins_where_the_one_before_ends
-samples = range(start, start + self.size.samples)
+samples = range(first, first + self.size.samples)

whether a predictor's model is another | torch/_predictor.py |
    mc/test_predictor.py::test_a_change_of_the_model_shows_in_the_next_call
-if self._snapshot is not None and not self._snapshot.holds():
+if False:

a predictor of weights that are read while it is traced | torch/_predictor.py |
    mc/test_predictor.py::test_what_is_computed_of_weights_is_as_new_as_they_are
-        if self.reads:
-            self._programs.clear()
-

where the tensors of a predictor are | torch/_snapshot.py | mc/test_predictor.py
-            and all(_kind(one) == kind for one, kind in self._kinds)
-

what is set for all modules of a predictor | torch/_snapshot.py |
    mc/test_predictor.py::test_what_is_set_for_all_modules_counts_as_it_is_now
-            and _everywhere() == self._everywhere
-

the step of a schedule in a predictor | torch/_snapshot.py |
    mc/test_predictor.py::test_a_schedule_is_of_its_step
-_compat.version_of(step) == version for step, version in self._clocks.items()
+True for _ in ()
""",
)
