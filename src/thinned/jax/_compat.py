"""JAX's names that it does not promise to keep, each with its purpose and with what happens without it.

No other file of `thinned.jax` imports from `jax._src`, `jax.extend`, `jax.interpreters` or
`jax.experimental`.
"""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import jax

# What the kernel needs of JAX, and without which `jax.numpy` does the work.
_OF_KERNEL = {
    # Divides a custom call over a mesh.
    "custom_partitioning": ("jax.experimental.custom_partitioning", "custom_partitioning"),
    # The mesh of the `jax.set_mesh` around a lowering; jax.sharding.get_mesh refuses while jit traces.
    "get_concrete_mesh": ("jax._src.mesh", "get_concrete_mesh"),
    # The names of a sharding that XLA hands out by numbers of devices.
    "parse_flatten_op_sharding": ("jax._src.sharding_impls", "parse_flatten_op_sharding"),
    # Primitives whose lowering has to see the devices.
    "prim_requires_devices_during_lowering": ("jax._src.dispatch", "prim_requires_devices_during_lowering"),
}


def _needed(module: str, name: str) -> Any:
    """A name without which there is no `thinned.jax`."""
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        raise ImportError(
            f"thinned.jax needs {module}.{name}, which JAX {jax.__version__} lacks: install a version of JAX "
            'that this version of thinned was tested with, pip install "thinned[jax]" "jax==0.10.*"'
        ) from None


def _found(names: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """The names that this JAX has."""
    there = {}
    for own, (module, name) in names.items():
        try:
            there[own] = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            continue
    return there


def check_kernel() -> bool:
    """Whether JAX has all that the kernel needs; a warning names what it lacks."""
    missing = [".".join(where) for own, where in _OF_KERNEL.items() if own not in _kernel]
    if missing:
        warnings.warn(
            f"JAX {jax.__version__} lacks {', '.join(missing)}: dropout on a CPU runs in jax.numpy, with "
            "equal bits, but slower than by the native kernel. thinned was tested with JAX 0.10",
            RuntimeWarning,
            stacklevel=2,
        )
    return not missing


Primitive: Any = _needed("jax.extend.core", "Primitive")
ad: Any = _needed("jax.interpreters", "ad")  # tangents and transposes of a primitive
batching: Any = _needed("jax.interpreters", "batching")  # a primitive under vmap
mlir: Any = _needed("jax.interpreters", "mlir")  # a primitive's lowering, one for each platform

_kernel = _found(_OF_KERNEL)
custom_partitioning: Any = _kernel.get("custom_partitioning")
get_concrete_mesh: Any = _kernel.get("get_concrete_mesh")
parse_flatten_op_sharding: Any = _kernel.get("parse_flatten_op_sharding")
prim_requires_devices_during_lowering: Any = _kernel.get("prim_requires_devices_during_lowering")

# Rules of Taylor-mode differentiation, by primitive; without the module nobody can ask for them.
jet_rules: dict[Any, Any] = _found({"rules": ("jax.experimental.jet", "jet_rules")}).get("rules", {})


def is_for_export(context: Any) -> bool:
    """Whether a lowering is `jax.export`'s; False where JAX does not say: export then refuses the call."""
    return bool(getattr(context.module_context.lowering_parameters, "for_export", False))


def is_partly_manual(context: Any) -> bool:
    """Whether a lowering is inside a `jax.shard_map` over some axes of a mesh, and not over all."""
    axes = context.module_context.axis_context
    manual: frozenset[Any] = getattr(axes, "manual_axes", frozenset())
    return bool(manual) and set(manual) != set(axes.mesh.axis_names)


def varying_alike(arrays: list[Any]) -> tuple[Any, ...]:
    """All varying over the same axes of a `jax.shard_map`; as they are where JAX keeps no account of that."""
    pcast = getattr(jax.lax, "pcast", None)
    axes: list[Any] = [getattr(jax.typeof(array), "manual_axis_type", None) for array in arrays]
    if pcast is None or any(one is None for one in axes):
        return tuple(arrays)
    varying: list[frozenset[Any]] = [frozenset(one.varying) for one in axes]
    missing = [tuple(frozenset().union(*varying) - own) for own in varying]
    return tuple(
        pcast(array, lacking, to="varying") if lacking else array
        for array, lacking in zip(arrays, missing, strict=True)
    )
