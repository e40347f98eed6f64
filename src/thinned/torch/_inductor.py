"""torch's compiler is told here that it calls our operators as they are."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch.fx.experimental.proxy_tensor import ProxyTorchDispatchMode
from torch.utils.checkpoint import CheckpointPolicy

from thinned.torch import _compat

_OPERATORS = (
    "alpha_dropout",
    "attention",
    "attention_backward",
    "draw_key",
    "drop_block",
    "dropout",
    "dropout_add",
    "dropout_add_norm",
    "dropout_add_norm_backward",
    "fold",
    "gaussian_dropout",
    "keep_fixed",
    "keep_mask",
    "kept",
    "largest",
    "numbers",
    "once",
    "recurrent",
    "words_at",
)


def tell() -> None:
    """Put them on the compiler's list; to be called while it traces, when the compiler is imported.

    With `torch._inductor.config.implicit_fallbacks = False` it refuses what is not there. A torch that keeps
    no such list needs none.
    """
    lowering: Any = sys.modules.get("torch._inductor.lowering")
    known = getattr(lowering, "FALLBACK_ALLOW_LIST", None)
    if known is not None:
        known.update(f"thinned::{name}" for name in _OPERATORS)


def tell_partitioner(library: torch.library.Library, name: str) -> None:
    """Mark each call of an operator that draws, where a graph is recorded.

    AOTAutograd divides a graph into a forward and a backward pass, and computes again backward what it does
    not save. By itself it takes only torch's own random operators for what must not be drawn twice.
    Its result is saved, 16 bytes; a budget of 0 saves nothing at all, and there the draw is run again with
    the generator's state from before.
    """
    operator = getattr(getattr(torch.ops, library.ns), name).default

    def recorded(mode: Any, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = mode.__torch_dispatch__(func, types, args, kwargs)
        nodes = reversed(mode.tracer.graph.nodes)
        if (node := next((each for each in nodes if each.target is operator), None)) is not None:
            node.meta["recompute"] = _policy(node.meta)
        return result

    torch.library.register_torch_dispatch(
        f"{library.ns}::{name}", ProxyTorchDispatchMode, recorded, lib=library
    )


def _policy(meta: dict[str, Any]) -> CheckpointPolicy:
    of_region = (meta.get("custom") or {}).get("_region_activation_memory_budget")
    nothing = 0 in (_compat.functorch_config.activation_memory_budget, meta.get("memory_budget"), of_region)
    return CheckpointPolicy.MUST_RECOMPUTE if nothing else CheckpointPolicy.MUST_SAVE
