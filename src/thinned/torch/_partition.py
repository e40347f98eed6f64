"""This file has what a compiler's partitioner is told of a draw: backward, it is to give the same bits.

AOTAutograd divides a graph into a forward and a backward pass, and computes again backward what it does not
save. By itself it takes only torch's own random operators for what must not be drawn twice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx.experimental.proxy_tensor import ProxyTorchDispatchMode
from torch.utils.checkpoint import CheckpointPolicy

from thinned.torch import _compat


def tell(library: torch.library.Library, name: str) -> None:
    """Mark each call of an operator that draws, where a graph is recorded.

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
