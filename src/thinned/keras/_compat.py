"""What is asked of the backends' insides, each with its reason and what happens without it.

Where a block is computed again for its gradient, the public interfaces of PyTorch and TensorFlow do not say
so, nor which first run it repeats. Their Python frames do. Written for torch 2.13, TensorFlow 2.21 and JAX
0.10.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_NOTE = "thinned: keys drawn"


def checkpoints(make: Callable[[], Any]) -> tuple[list[Any], tuple[Any, Any] | None] | None:
    """`torch.utils.checkpoint` around this call: notes of first runs, and the note of one that runs again.

    A note is kept on what a checkpoint keeps itself: its frame object, or its autograd function's context.
    Without `_top_saved_tensors_default_hooks` or `_current_graph_task_id` the stack is read at each call.

    Raises:
        RuntimeError: in a backward pass, outside anything of `torch.utils.checkpoint`.
    """
    import torch
    from torch.utils import checkpoint

    hooks = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    task = getattr(torch._C, "_current_graph_task_id", lambda: None)()
    forward_only = task == -1 and torch.is_grad_enabled()
    if forward_only and hooks is not None and hooks(True) is None:
        return None
    first = []
    for frame in _stack():
        if frame.f_code.co_filename != checkpoint.__file__:
            continue
        name = frame.f_code.co_name
        if name == "checkpoint" and "gen" in frame.f_locals:
            first.append(_note_on(frame.f_locals["gen"].gi_frame.f_locals["new_frame"], make))
        elif name == "unpack_hook":
            return first, (_note_on(frame.f_locals["frame"], make), frame.f_locals["gid"])
        elif name == "forward":
            first.append(_note_on(frame.f_locals["ctx"], make))
        elif name == "backward":
            return first, (_note_on(frame.f_locals["ctx"], make), task)
    if task not in (-1, None):
        return first, (make(), task)
    return first, None


def recomputations(make: Callable[[], Any]) -> tuple[list[Any], tuple[Any, Any] | None] | None:
    """`tf.recompute_grad` around this call: notes of first runs, and the note of one that runs again.

    A note is kept on the first tensor of a block's arguments, by the identity of their tuple, which stays.
    """
    import tensorflow as tf
    from tensorflow.python.ops import custom_gradient

    first = []
    for frame in _stack():
        if frame.f_code.co_filename != custom_gradient.__file__:
            continue
        if frame.f_code.co_name == "inner" and "current_var_scope" in frame.f_code.co_cellvars:
            values = frame.f_locals
            if _NOTE not in values:
                values[_NOTE] = make()
                for notes in _notes_of(tf, values["args"]):
                    notes[id(values["args"])] = values[_NOTE]
            first.append(values[_NOTE])
        elif frame.f_code.co_name == "inner_recompute_grad":
            values = frame.f_locals
            run = values.setdefault(_NOTE, object())
            known = [notes.get(id(values["args"])) for notes in _notes_of(tf, values["args"])]
            return first, (known[0] if known and known[0] is not None else make(), run)
    return first, None


@contextlib.contextmanager
def outside_checkpoints() -> Iterator[None]:
    """Compute, inside `jax.checkpoint`, what is to be known outside: in the trace around it.

    Without `jax.extend.core.set_current_trace` nothing changes, and JAX says that a tracer has leaked.
    """
    from jax.extend import core

    with core.take_current_trace() as trace:
        around = trace
    while _traced_for(around) == "checkpoint / remat":
        around = around.parent_trace
    with core.set_current_trace(around):
        yield


def function_of_checkpoint() -> Any:
    """The function that `jax.checkpoint` is tracing, if it is; None where its frames are not known."""
    from jax.extend import core

    with core.take_current_trace() as trace:
        traced = _traced_for(trace)
    if traced != "checkpoint / remat":
        return None
    frames = (frame for frame in _stack() if frame.f_code.co_name == "fun_remat")
    return next((frame.f_locals.get("fun") for frame in frames), None)


def _traced_for(trace: Any) -> str | None:
    about = getattr(getattr(trace, "frame", None), "debug_info", None)
    return getattr(about, "traced_for", None)


def _stack() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _note_on(holder: Any, make: Callable[[], Any]) -> Any:
    if not hasattr(holder, "thinned_drawn"):
        holder.thinned_drawn = make()
    return holder.thinned_drawn


def _notes_of(tf: Any, arguments: Any) -> list[dict[int, Any]]:
    tensors = [value for value in tf.nest.flatten(arguments) if tf.is_tensor(value)]
    return [tensors[0].__dict__.setdefault("_thinned_drawn", {})] if tensors else []
