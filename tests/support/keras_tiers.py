"""A pytest plugin for a process of Keras: what the quick tier asks of JAX and TensorFlow. It asks torch all.

Most of what Keras's layers do stands above its backends, in one code for the three. What a backend does
by itself is here: keys and masks, counters in compiled training, dropped gradients, blocks that are computed
again, and that prediction puts back what it changed. The digests of masks, models and samples are computed on
all three in any case.
"""

from __future__ import annotations

import os

import pytest

# Of a file that is not here, all is asked. A name stands for all cases that begin with it.
ASKED = {
    "rules": {"inputs_that_no_mask_fits", "rate_one_is_zero_whatever_there_was", "empty_and_0d"},
    "recurrent": {"a_cells_masks_are_numpys"},
    "attention": {
        "call_n_has_the_mask_of_seed_name_and_n[MultiHeadAttention-none]",
        "attention_without_projections[Attention]",
    },
    "models": {"masks_in_fit_are_numpys"},
    "audits": {"a_healthy_model_is_silent[ours]"},
    "mc_keras_checks": {
        "parts_of_a_whole_have_its_samples[False]",
        "subclassed_models_and_functional_dropout",
    },
    "mc_keras_predictions": {
        "the_model_is_restored_after_an_exception",
        "a_weight_that_changes_is_seen",
    },
}
# Computed in float32, and rounded once: a type is asked of torch, and of other layers here.
LEFT = ("gaussian_dropout[float16", "gaussian_dropout[bfloat16", "gaussian_dropout[float64")
# Of tests of each layer: where the backend decides, one layer for each way by which masks are got (a call's
# own, those of a layer within, those of a cell's steps in a loop of ours and of Keras's); else one layer.
WAYS = {"Dropout", "DropConnect", "SimpleRNN", "SimpleRNNCell"}
ABOVE_BACKENDS = {
    "a_copy_begins_again_as_what_is_loaded",
    "a_model_is_saved_loaded_and_pickled",
    "threads_have_masks_of_their_own",
}


def asked(file: str, case: str, layer: str | None) -> bool:
    """Whether the quick tier asks a case of a backend that is not torch."""
    test = case.partition("[")[0]
    if file in ASKED:
        return case.startswith(tuple(ASKED[file]))
    if file.startswith("seams") and layer is not None:
        return layer == "Dropout" or (layer in WAYS and test not in ABOVE_BACKENDS)
    return not case.startswith(LEFT)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Marks what is left to the full tier."""
    params = item.callspec.params if hasattr(item, "callspec") else {}
    case = item.name.removeprefix("test_")
    if os.environ["KERAS_BACKEND"] != "torch" and not asked(item.path.stem, case, params.get("name")):
        item.add_marker("full")
