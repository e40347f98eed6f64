"""Breaks of Monte Carlo prediction."""

from __future__ import annotations

from breaks import of

BREAKS = of(
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
            "mc/test_jax.py::test_a_chunk_begins_where_the_one_before_ends",
        ),
    ],
)
