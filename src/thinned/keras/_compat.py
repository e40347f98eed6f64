"""Keras's private names stand here, each with its purpose; a message names one that is gone."""

from __future__ import annotations

from typing import Any

import keras

from thinned._private import Room

ROOM = Room(keras, "thinned.keras", "keras==3.15.*")

# It has `random.dropout`, by which attention and cells of Keras's draw, and the masks that Keras keeps.
backend: Any = ROOM.name("keras.src.backend", "take over what Keras's own layers draw")
DropoutRNNCell: Any = ROOM.name(
    "keras.src.layers.rnn.dropout_rnn_cell.DropoutRNNCell", "know cells that keep masks for a sequence"
)
Functional: Any = ROOM.name(
    "keras.src.models.functional.Functional", "run what precedes the first mask once", instead="keras.Model"
)
global_seed_generator: Any = ROOM.name(
    "keras.src.random.seed_generator.global_seed_generator", "put back what layers without a seed draw from"
)
_CELLS = "keras.src.layers.rnn.dropout_rnn_cell.DropoutRNNCell._create_dropout_mask"
ROOM.name(_CELLS, "give recurrent cells its masks")
torch_device: Any = (
    ROOM.name("keras.src.backend.torch.core.get_device", "draw where Keras's tensors are", None)
    if keras.backend.backend() == "torch"
    else None
)

layers_of = ROOM.attribute("_flatten_layers", "reach the layers inside layers")
counted_of = ROOM.attribute("_iterations", "count the parts of accumulated gradients", None)
tracker_of = ROOM.attribute("_tracker", "give a layer the seed generator of another")
# Layers of several heads: what ours call and what they override.
_HEADS = ("_compute_attention", "_compute_attention_mask")
for _layer in ("MultiHeadAttention", "GroupQueryAttention"):
    for _method in _HEADS:
        ROOM.name(f"keras.layers.{_layer}.{_method}", "drop attention's probabilities")
dropout_layer_of = ROOM.attribute("_dropout_layer", "drop attention's probabilities")
window_of = ROOM.attribute("_sliding_window", "see whether attention has a window", None)
scores_asked = ROOM.attribute("_return_attention_scores", "see whether probabilities are asked for", False)
noise_shape_of = ROOM.attribute("_get_noise_shape", "drop whole channels", None)
context_arguments = ROOM.attribute("_call_context_args", "tell layers that they evaluate", {})

# A functional model's graph.
graph_of = ROOM.attribute("_functional", "see the graph of a Sequential", None)
nodes_by_depth = ROOM.attribute("_nodes_by_depth", "run a model's layers in their order")
standardize = ROOM.attribute("_standardize_inputs", "take a model's inputs as Keras does")
outputs_structure = ROOM.attribute("_outputs_struct", "return a model's outputs as Keras does")


def check_cells() -> None:
    """Refuse a Keras whose cells would go on with masks of its own.

    Raises:
        ImportError: naming what this Keras lacks.
    """
    ROOM.check(_CELLS)


def check_heads() -> None:
    """Refuse a Keras whose layers of several heads would go on with probabilities dropped by its own masks.

    Raises:
        ImportError: naming what this Keras lacks.
    """
    ROOM.check(*(name.path for name in ROOM.names if name.path.rpartition(".")[2] in _HEADS))


def device_of_torch() -> Any:
    """The device of Keras's PyTorch backend; PyTorch's default one where Keras does not say."""
    import torch

    return torch.get_default_device() if torch_device is None else torch_device()


def batches_of(optimizer: Any) -> int:
    """Tells how many batches an optimizer has had, of which several may make up one of its steps."""
    counted = counted_of(optimizer)
    return int(keras.ops.convert_to_tensor(optimizer.iterations if counted is None else counted))
