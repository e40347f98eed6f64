"""XLA calls the native kernel on a CPU through its foreign function interface, and on a mesh by parts.

The kernel needs to know where its part of the mask begins. It is told by the numbers of the part's indices
along each dimension, made by an iota that is divided as x is: so every device knows, and none has to ask
another.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from thinned import _kernel
from thinned.jax import _compat, _philox

_TARGET = "thinned_dropout"
# Of the interface's version 0.minor: those in whose header the structures that the handler reads are as it
# declares them. JAX 0.10 has minor 3, JAX 0.12 has 5.
_MINORS = range(1, 6)


@functools.cache
def register() -> bool:
    """Make the kernel known to XLA; False where no native one is in use, or XLA speaks another version."""
    minor = _interface()
    if _kernel._native is None or _kernel.path() == _kernel.REFERENCE:
        return False
    if not _compat.check_kernel(
        None if minor in _MINORS else f"a known version of XLA's interface ({minor=})"
    ):
        return False
    jax.ffi.register_ffi_target(_TARGET, _kernel._native.xla_handler(minor), platform="cpu")
    return True


def _interface() -> int | None:
    header = Path(jax.ffi.include_dir()) / "xla" / "ffi" / "api" / "c_api.h"
    text = header.read_text() if header.exists() else ""
    version = dict(re.findall(r"^#define XLA_FFI_API_(MAJOR|MINOR) (\d+)", text, re.MULTILINE))
    return int(version["MINOR"]) if version.get("MAJOR") == "0" and "MINOR" in version else None


def dropout(
    x: Any,
    key: Any,
    threshold: Any,
    start: Any,
    *,
    strides: tuple[int, ...],
    inverted: bool,
    around: Mesh,
) -> Any:
    """Dropout by the kernel; operands as of the primitive, and the mesh of the `jax.set_mesh` around it."""
    shape = x.shape[key.ndim - 1 :]
    if not shape:  # a division needs something to divide
        one = dropout(x[..., None], key, threshold, start, strides=(0,), inverted=inverted, around=around)
        return one[..., 0]
    return _divided()(around, _fixed(key, threshold, start, strides, inverted), _indices(shape), x)


def keep_mask(
    key: Any,
    threshold: Any,
    start: Any,
    *,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    around: Mesh,
) -> Any:
    """A mask by the kernel; the rest as above."""
    if not shape:
        return keep_mask(key, threshold, start, shape=(1,), strides=(0,), around=around)[..., 0]
    return _divided()(around, _fixed(key, threshold, start, strides, False), _indices(shape), None)


def _fixed(key: Any, threshold: Any, start: Any, strides: tuple[int, ...], inverted: bool) -> tuple[Any, ...]:
    if start.shape[-2] != len(strides):  # a scalar, made a vector of one
        start = np.zeros((*key.shape[:-1], len(strides), 2), np.uint32)
    return key, threshold, start, _philox.halves(strides), np.array([inverted], np.uint32)


@_philox.wide  # a dimension may have more than 2^32 elements
def _indices(shape: tuple[int, ...]) -> tuple[Any, ...]:
    return tuple(lax.iota(np.uint64, size) for size in shape)


def _call(around: Mesh, fixed: tuple[Any, ...], indices: tuple[Any, ...], x: Any) -> Any:
    shape = (*fixed[0].shape[:-1], *(one.shape[0] for one in indices))
    # The first index of each is all that the kernel reads; sliced here, the rest is never made.
    operands = (*fixed, *(one[:1] for one in indices), *(() if x is None else (x,)))
    result = jax.ShapeDtypeStruct(shape, np.bool_ if x is None else x.dtype)
    return jax.ffi.ffi_call(_TARGET, result)(*operands)


def _divide(around: Mesh, _: Any, operands: Any, result: Any) -> Any:
    """Each device computes what of the result it has to hold."""
    _, indices, x = operands
    dims = len(result.shape)
    sharding = _by_name(result.sharding, dims, around)
    mesh: Any = sharding.mesh
    spec = (*sharding.spec, *(None,) * (dims - len(sharding.spec)))
    batch, own = spec[: dims - len(indices)], spec[dims - len(indices) :]

    def named(*entries: Any) -> NamedSharding:
        return NamedSharding(mesh, PartitionSpec(*entries))

    parts = (
        (named(*batch), named(*batch), named(*batch), named(), named()),
        tuple(named(entry) for entry in own),
        None if x is None else named(*spec),
    )
    return mesh, functools.partial(_call, mesh), named(*spec), parts


def _by_name(sharding: Any, dims: int, around: Mesh) -> NamedSharding:
    """A sharding as a mesh's: XLA hands out a bare one where no input of the program is on a mesh."""
    if isinstance(sharding, NamedSharding):
        return sharding
    tiles = _compat.sharding_tiles(sharding)
    devices = np.array(_compat.sharding_devices(sharding))
    if not around.empty:
        return NamedSharding(around, _compat.parse_flatten_op_sharding(tiles, around)[0])
    if tiles.is_replicated():
        return NamedSharding(Mesh(devices, ("all",)), PartitionSpec())
    sizes = tiles.tile_assignment_dimensions()  # behind those of the result, one along which it is repeated
    names = tuple(f"d{k}" for k in range(len(sizes)))
    mesh = Mesh(devices[np.array(tiles.tile_assignment_devices())].reshape(sizes), names)
    return NamedSharding(mesh, PartitionSpec(*names[:dims]))


def _infer(around: Mesh, mesh: Any, operands: Any, result: Any) -> Any:
    fixed, indices, x = operands
    if x is not None:
        return x.sharding
    batch = len(result.shape) - len(indices)
    entries = [*_by_name(fixed[0].sharding, batch + 1, around).spec, *(None,) * batch][:batch]
    entries += [next(iter(_by_name(one.sharding, 1, around).spec), None) for one in indices]
    return NamedSharding(mesh, PartitionSpec(*entries))


def _rule(_: Mesh, __: Any, operands: Any, results: Any) -> Any:
    """Name the dimensions of operands and result, as an einsum does: equal names are divided alike."""
    rank = len(results[0].shape)
    batch = len(operands[0].shape) - 1
    names = [f"b{k}" for k in range(batch)] + [f"d{k}" for k in range(rank - batch)]
    lead = " ".join(names[:batch])
    fixed = [f"{lead} words", f"{lead} halves", f"{lead} dims pair", "dims pair", "flag"]
    whole = [] if len(operands) == len(fixed) + rank - batch else [" ".join(names)]
    rule = ", ".join([*fixed, *names[batch:], *whole]) + " -> " + " ".join(names)
    return rule, {"need_replication_factors": ("words", "halves", "dims", "pair", "flag")}


@functools.cache
def _divided() -> Any:
    """The call that a mesh divides."""
    call = _compat.custom_partitioning(_call, static_argnums=(0,))
    call.def_partition(_divide, infer_sharding_from_operands=_infer, sharding_rule=_rule)
    return call
