"""A pytest plugin for a process of Keras: what the quick tier asks of JAX and TensorFlow. It asks torch all.

Most of what Keras's layers do stands above its backends, in one code for the three. What a backend does
by itself is here: keys and masks, counters in compiled training, dropped gradients, and that prediction
puts back what it changed. The digests of masks, models and samples are computed on all three in any case.
"""

from __future__ import annotations

import os

import pytest

# Of a file that is not here, all is asked.
ASKED = {
    "rules": {"inputs_that_no_mask_fits", "rate_one_is_zero_whatever_there_was", "empty_and_0d"},
    "recurrent": {
        "a_cells_masks_are_numpys",
        "rates_of_one_drop_all",
        "drop_connect_keeps_what_the_layer_adds_and_trains_what_is_kept",
    },
    "attention": {"call_n_has_the_mask_of_seed_name_and_n", "attention_without_projections"},
    "models": {"masks_in_fit_are_numpys"},
    "mc_keras_checks": {
        "masks_are_numpys",
        "parts_of_a_whole_have_its_samples",
        "subclassed_models_and_functional_dropout",
        "nothing_of_the_model_changes",
        "the_model_is_restored_after_an_exception",
        "a_weight_that_changes_is_seen",
    },
}


def pytest_itemcollected(item: pytest.Item) -> None:
    """Marks what is left to the full tier."""
    asked = ASKED.get(item.path.stem)
    name = item.name.partition("[")[0].removeprefix("test_")
    if os.environ["KERAS_BACKEND"] != "torch" and asked is not None and name not in asked:
        item.add_marker("full")
