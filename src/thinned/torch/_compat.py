"""Private names of torch that are used here: what each is for, and what happens where it is missing."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.utils.checkpoint


def in_backward() -> bool:
    """Whether a backward pass runs in this thread: what is computed now is computed again.

    `torch._C._current_graph_task_id`, by which torch's own checkpoint tells; without it nobody can say.
    """
    task = getattr(torch._C, "_current_graph_task_id", None)
    return task is not None and task() != -1


_CHECKPOINT = torch.utils.checkpoint
_NEEDED = ("CheckpointFunction", "_checkpoint_without_reentrant_generator")


@contextmanager
def checkpoints_call(again: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """While it is entered, a checkpoint computes `again(function)` in the backward pass, not `function`.

    torch has `context_fn` for this, but only the caller of a checkpoint can pass it, and only to one of its
    two kinds. So the two names that `torch.utils.checkpoint.checkpoint` looks up when called are exchanged.

    Raises:
        RuntimeError: where this version of torch does not have them.
    """
    missing = [name for name in _NEEDED if not hasattr(_CHECKPOINT, name)]
    if missing:
        raise RuntimeError(
            f"torch {torch.__version__} has no torch.utils.checkpoint.{missing[0]}: thinned does not know "
            "how it recomputes, and cannot key what is drawn there"
        )
    function, generator = (getattr(_CHECKPOINT, name) for name in _NEEDED)

    class Reentrant:
        """Calls what it is given once in the forward pass, and once in the backward pass."""

        @staticmethod
        def apply(run: Any, *rest: Any) -> Any:
            later, calls = again(run), iter((run,))
            return function.apply(lambda *args: next(calls, later)(*args), *rest)

    def without_reentrant(run: Any, *args: Any, **kwargs: Any) -> Any:
        return generator(again(run), *args, **kwargs)

    with ExitStack() as stack:
        for name, ours in zip(_NEEDED, (Reentrant, without_reentrant), strict=True):
            stack.callback(setattr, _CHECKPOINT, name, getattr(_CHECKPOINT, name))
            setattr(_CHECKPOINT, name, ours)
        yield


@contextmanager
def compiled_code_runs_eagerly() -> Iterator[None]:
    """Run what `torch.compile` made as it was written, also where a trace looks on (a private option)."""
    with ExitStack() as stack:
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        if hasattr(torch._dynamo.config, "error_on_nested_fx_trace"):
            stack.enter_context(torch._dynamo.config.patch(error_on_nested_fx_trace=False))
        # torch's own remark about hooks for all modules, which are there for as long as this.
        warnings.filterwarnings("ignore", "Using `torch.compile.module.` when there are global hooks")
        filters: Any = warnings.filters
        ours = filters[0]
        stack.callback(lambda: ours in filters and filters.remove(ours))
        yield
