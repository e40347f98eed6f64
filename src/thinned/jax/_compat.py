"""JAX's private names stand here, each with its purpose and with what happens without it.

No other file of `thinned.jax` imports from `jax._src`, `jax.extend`, `jax.interpreters` or
`jax.experimental`.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterator
from typing import Any

import jax

from thinned._private import Room

ROOM = Room(jax, "thinned.jax", "jax==0.10.*")

Primitive: Any = ROOM.name("jax.extend.core.Primitive", "define dropout as a primitive")
ad: Any = ROOM.name("jax.interpreters.ad", "give a primitive its tangent and its transpose")
batching: Any = ROOM.name("jax.interpreters.batching", "give a primitive its rule for vmap")
mlir: Any = ROOM.name("jax.interpreters.mlir", "lower a primitive for each platform")
# What a jaxpr is made of.
ClosedJaxpr: Any = ROOM.name("jax.extend.core.ClosedJaxpr", "read which dropouts a function reaches")
Jaxpr: Any = ROOM.name("jax.extend.core.Jaxpr", "read which dropouts a function reaches")
Literal: Any = ROOM.name("jax.extend.core.Literal", "read which dropouts a function reaches")
# Without the module there are no Taylor-mode derivatives.
jet_rules: dict[Any, Any] = ROOM.name("jax.experimental.jet.jet_rules", "have Taylor-mode derivatives", {})

# What the kernel needs, and without which `jax.numpy` does the work.
custom_partitioning: Any = ROOM.name(
    "jax.experimental.custom_partitioning.custom_partitioning", "divide a custom call over a mesh", None
)
get_concrete_mesh: Any = ROOM.name(
    "jax._src.mesh.get_concrete_mesh",
    "see the mesh of the jax.set_mesh around a lowering",
    None,
    "jax.sharding.get_mesh, which refuses while jit traces",
)
parse_flatten_op_sharding: Any = ROOM.name(
    "jax._src.sharding_impls.parse_flatten_op_sharding", "name the axes of a sharding that XLA made", None
)
prim_requires_devices_during_lowering: Any = ROOM.name(
    "jax._src.dispatch.prim_requires_devices_during_lowering", "have a lowering see the devices", None
)
_OF_KERNEL = [name.path for name in ROOM.names[-4:]]

sharding_tiles = ROOM.attribute("_hlo_sharding", "read a sharding that XLA made")
sharding_devices = ROOM.attribute("_device_assignment", "read a sharding that XLA made")

# The trace around a call.
take_current_trace: Any = ROOM.name(
    "jax.extend.core.take_current_trace", "see whether jax.checkpoint traces a call", None
)
set_current_trace: Any = ROOM.name(
    "jax.extend.core.set_current_trace", "compute outside a trace of jax.checkpoint", None
)


def check_kernel(lacked: str | None = None) -> bool:
    """Tells whether JAX has all that the kernel needs; a warning names what it lacks, `lacked` among it."""
    missing = [*ROOM.lacks(*_OF_KERNEL), *filter(None, [lacked])]
    if missing:
        warnings.warn(
            f"JAX {jax.__version__} lacks {', '.join(missing)}: dropout on a CPU runs in jax.numpy, with "
            "equal bits, but slower than by the native kernel. thinned was tested with JAX 0.10 and 0.12",
            RuntimeWarning,
            stacklevel=2,
        )
    return not missing


def is_for_export(context: Any) -> bool:
    """Tells whether `jax.export` lowers; False where JAX does not say: export then refuses the call."""
    return bool(getattr(context.module_context.lowering_parameters, "for_export", False))


def is_partly_manual(context: Any) -> bool:
    """Tells whether a lowering is inside a `jax.shard_map` over some axes of a mesh, and not over all."""
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


def varying_as(array: Any) -> dict[str, Any]:
    """The argument that has a `jax.ShapeDtypeStruct` vary over axes of a `jax.shard_map` as an array does."""
    kind = jax.typeof(array)
    found = {name: getattr(kind, name, None) for name in ("manual_axis_type", "vma")}
    return next(({name: axes} for name, axes in found.items() if axes is not None), {})


def varies(array: Any) -> bool:
    """Tells whether an array varies over an axis of a `jax.shard_map` that keeps account of that."""
    return any(getattr(axes, "varying", axes) for axes in varying_as(array).values())


@contextlib.contextmanager
def outside_checkpoints() -> Iterator[None]:
    """Compute, inside `jax.checkpoint`, what is to be known outside: in the trace around it.

    Where JAX does not hand out its traces nothing changes, and JAX says that a tracer has leaked.
    """
    if take_current_trace is None or set_current_trace is None:
        yield
        return
    with take_current_trace() as trace:
        around = trace
    while is_of_checkpoint(around):
        around = around.parent_trace
    with set_current_trace(around):
        yield


def checkpoint_traces() -> bool:
    """Tells whether `jax.checkpoint` traces the code that runs."""
    if take_current_trace is None:
        return False
    with take_current_trace() as trace:
        return is_of_checkpoint(trace)


def is_of_checkpoint(trace: Any) -> bool:
    """Tells whether a trace is one of `jax.checkpoint`."""
    about = getattr(getattr(trace, "frame", None), "debug_info", None)
    return getattr(about, "traced_for", None) == "checkpoint / remat"


@functools.cache
def pallas() -> tuple[Any, dict[str, Any]]:
    """Pallas, and what asks it for Triton, whose layouts the kernel is written for."""
    purpose = "run dropout as a kernel on a GPU"
    names = ("jax.experimental.pallas", "jax.experimental.pallas.triton.CompilerParams")
    module, parameters = (ROOM.name(name, purpose) for name in names)
    return module, {"compiler_params": parameters(num_warps=4)}
