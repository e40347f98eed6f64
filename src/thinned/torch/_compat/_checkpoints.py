"""torch keeps these names about activation checkpointing to itself."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.utils.checkpoint

from thinned.torch._compat._room import private

# The number of the backward pass that this thread is in, −1 outside of one.
backward_task = private(
    "torch._C._current_graph_task_id", "tell a call from one that a checkpoint recomputes"
)
saved_tensors_hooks = private(
    "torch._C._autograd._top_saved_tensors_default_hooks", "tell a call that a checkpoint will recompute"
)


def outside_checkpoints() -> bool:
    """Tells whether a call is in no region of a checkpoint for sure, neither at first nor when it runs again.

    A region of use_reentrant=True runs without gradients at first, one of False with hooks of saved tensors;
    both run again in a backward pass.
    """
    return torch.is_grad_enabled() and saved_tensors_hooks(True) is None and backward_task() == -1


# The functions of torch.utils.checkpoint that run a region, the local name of what they know it by, and
# whether they run it again. A region of use_reentrant=False is a local of a generator, in the forward pass.
GENERATOR = "gen"


def _checkpoints() -> dict[Any, tuple[str, bool]]:
    """Return none where torch has others than from 2.6 to 2.13: what is computed again is then an error."""
    purpose = "count the calls of a keyed model under activation checkpointing"
    function, call, hook = (
        private(f"torch.utils.checkpoint.{name}", purpose, False)
        for name in ("CheckpointFunction", "checkpoint", "_checkpoint_hook")
    )
    try:
        inside = hook.__init__.__code__.co_consts
        (unpack,) = (code for code in inside if getattr(code, "co_name", "") == "unpack_hook")
        return {
            function.forward.__code__: ("ctx", False),
            function.backward.__code__: ("ctx", True),
            inspect.unwrap(call).__code__: (GENERATOR, False),
            unpack: ("frame", True),
        }
    except (AttributeError, ValueError):
        return {}


CHECKPOINTS = _checkpoints()


def autograd_function() -> str | None:
    """The name of the autograd function, not of torch's checkpoint, in whose forward this is called.

    torch has no function for this: the name is read from the frames of the callers, where such a forward
    has a `ctx`.
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
