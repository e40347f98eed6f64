"""TensorFlow's private names stand here: what each is for, and what happens without it."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import tensorflow as tf

from thinned._private import Room

ROOM = Room(tf, "thinned.tensorflow", "tensorflow==2.21.*")

# What a graph needs to call the kernel, and without which TensorFlow's own operators do the work.
_PYTHON = "tensorflow.python."
context: Any = ROOM.name(_PYTHON + "eager.context.context", "give a graph the kernel's function", None)
AtomicFunction: Any = ROOM.name(
    _PYTHON + "eager.polymorphic_function.atomic_function.AtomicFunction",
    "give a graph the kernel's function",
    object,
)
FuncGraph: Any = ROOM.name(
    _PYTHON + "framework.func_graph.FuncGraph",
    "see whether a function is traced",
    None,
    "tf.__internal__.FuncGraph",
)
in_xla_context: Any = ROOM.name(
    _PYTHON + "ops.control_flow_util.GraphOrParentsInXlaContext", "see whether XLA compiles a graph", None
)
_OF_GRAPHS = [name.path for name in ROOM.names]
inference_function = ROOM.attribute("_inference_function", "give a graph the kernel's function")
native_record = ROOM.attribute("_c_func", "give a graph the kernel's function")

# The tapes and accumulators around an operator.
could_record: Any = ROOM.name(_PYTHON + "eager.record.could_possibly_record", "skip what no tape sees", None)
stop_recording: Any = ROOM.name(
    _PYTHON + "eager.record.stop_recording",
    "keep nothing of x for the backward pass",
    contextlib.nullcontext,
    "tf.GradientTape.stop_recording, of one tape alone",
)
record_operation: Any = ROOM.name(
    _PYTHON + "eager.record.record_operation", "keep nothing of x for the backward pass", None
)
# The file in whose frames tf.recompute_grad runs.
_custom_gradient: Any = ROOM.name(
    _PYTHON + "ops.custom_gradient", "know a block that tf.recompute_grad computes again", None
)


def set_gradient_function(operation: Any, gradient: Callable[..., Any]) -> None:
    """Have `tf.gradients` differentiate an operator of a graph by this function.

    A TensorFlow that reads another attribute says that the operator has no gradient.
    """
    operation._gradient_function = gradient


def check_graphs() -> bool:
    """Tells whether TensorFlow has all that graphs need to call the kernel; a warning names what it lacks."""
    missing = ROOM.lacks(*_OF_GRAPHS)
    if missing:
        warnings.warn(
            f"TensorFlow {tf.__version__} lacks {', '.join(missing)}: dropout in graphs runs in TensorFlow's "
            "operators, with equal bits, but slower than by the native kernel. thinned was tested with "
            "TensorFlow 2.21",
            RuntimeWarning,
            stacklevel=2,
        )
    return not missing


_NOTE = "thinned: keys drawn"


def recomputations(make: Callable[[], Any]) -> tuple[list[Any], tuple[Any, Any] | None] | None:
    """`tf.recompute_grad` around this call: notes of first runs, and the note of one that runs again.

    A note is kept on the first tensor of a block's arguments, by the identity of their tuple, which stays.
    TensorFlow does not say that a block is computed again; its Python frames do. Written for TensorFlow 2.21.
    """
    first: list[Any] = []
    for frame in _stack():
        if frame.f_code.co_filename != getattr(_custom_gradient, "__file__", None):
            continue
        if frame.f_code.co_name == "inner" and "current_var_scope" in frame.f_code.co_cellvars:
            values = frame.f_locals
            if _NOTE not in values:
                values[_NOTE] = make()
                for notes in _notes_of(values["args"]):
                    notes[id(values["args"])] = values[_NOTE]
            first.append(values[_NOTE])
        elif frame.f_code.co_name == "inner_recompute_grad":
            values = frame.f_locals
            run = values.setdefault(_NOTE, object())
            known = [notes.get(id(values["args"])) for notes in _notes_of(values["args"])]
            return first, (known[0] if known and known[0] is not None else make(), run)
    return first, None


def _stack() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _notes_of(arguments: Any) -> list[dict[int, Any]]:
    tensors = [value for value in tf.nest.flatten(arguments) if tf.is_tensor(value)]
    return [tensors[0].__dict__.setdefault("_thinned_drawn", {})] if tensors else []
