"""Private names of torch that are used here: what each is for, and what happens where it is missing."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch._functorch.config
import torch.utils.checkpoint
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)

# What an operator raises that is asked for a value, or a shape, that depends on data which is not there.
NO_DATA = (DataDependentOutputException, DynamicOutputShapeException)


@contextmanager
def tensors_without_data() -> Iterator[FakeTensorMode]:
    """What makes tensors that have a shape and no data, of which not even the address is to be had.

    torch's fake tensors; as a rule they answer for their address with a null, into which foreign code walks.
    """
    with torch._functorch.config.patch(fake_tensor_allow_unsafe_data_ptr_access=False):
        yield FakeTensorMode(allow_non_fake_inputs=True, allow_fallback_kernels=False)


def autograd_function() -> str | None:
    """The name of the autograd function, not of torch's checkpoint, in whose forward this is called.

    torch tells nobody: it is read from the callers' frames, by the context that such a forward is handed.
    """
    frame = sys._getframe(1)
    while frame is not None:
        ctx = frame.f_locals.get("ctx") if frame.f_code.co_name == "forward" else None
        if isinstance(ctx, torch.autograd.function.BackwardCFunction):
            name = type(ctx).__name__.removesuffix("Backward")
            return None if name == "CheckpointFunction" else name
        frame = frame.f_back  # type: ignore[assignment]
    return None


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
        # Where there is a name by import too: torch.distributed's checkpoint of a module.
        for place in (_CHECKPOINT, sys.modules.get("torch.distributed._composable.checkpoint_activation")):
            for name, ours in zip(_NEEDED, (Reentrant, without_reentrant), strict=True):
                if hasattr(place, name):
                    stack.callback(setattr, place, name, getattr(place, name))
                    setattr(place, name, ours)
        yield


@contextmanager
def compiled_code_runs_eagerly() -> Iterator[None]:
    """Run what `torch.compile` made as it was written, in all threads; without torch's remark on hooks."""
    with ExitStack() as stack:
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        warnings.filterwarnings("ignore", "Using `torch.compile.module.` when there are global hooks")
        filters: Any = warnings.filters
        ours = filters[0]
        stack.callback(lambda: ours in filters and filters.remove(ours))
        yield


@contextmanager
def compiled_code_may_be_traced() -> Iterator[None]:
    """Let a trace look into what runs eagerly, in this thread (a private option)."""
    if "torch._dynamo" not in sys.modules or not hasattr(torch._dynamo.config, "error_on_nested_fx_trace"):
        yield
        return
    with torch._dynamo.config.patch(error_on_nested_fx_trace=False):
        yield
