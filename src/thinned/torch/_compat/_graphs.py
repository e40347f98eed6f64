"""torch keeps these names about recorded graphs and tensors without data to itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from thinned.torch._compat._room import private, private_attribute

if TYPE_CHECKING:
    from torch._subclasses.fake_tensor import FakeTensorMode as FakeTensorMode
    from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode
else:
    FakeTensorMode = private(
        "torch._subclasses.fake_tensor.FakeTensorMode", "run a model on tensors without data"
    )
    TorchDispatchMode = private(
        "torch.utils._python_dispatch.TorchDispatchMode", "see every operator that a model calls"
    )

# Structures of tensors, as torch itself takes them apart.
pytree = private(
    "torch.utils._pytree", "take a model's arguments apart", instead="torch.utils.pytree, once it is there"
)
schema_of = private_attribute("_schema", "read the names of an operator's arguments")
schema_or_none = private_attribute("_schema", "see whether a node of a graph writes", None)

# Graphs that make_fx records for thinned.mc.
graph_context = private("torch._guards.TracingContext", "trace a model for thinned.mc")
graph_tracing = private("torch._guards.tracing", "trace a model for thinned.mc")
to_copy = private("torch.ops.aten._to_copy", "trace a model for thinned.mc")
softmax = private("torch.ops.aten._softmax", "trace a model for thinned.mc")
log_softmax = private("torch.ops.aten._log_softmax", "trace a model for thinned.mc")

# The state of a keyed model: ordinary tensors, whatever mode is on.
no_dispatch_modes = private(
    "torch.utils._python_dispatch._disable_current_modes",
    "keep a model's step out of fake tensors and graphs",
)
_fake_mode = private("torch._guards.detect_fake_mode", "let graphs of fake tensors read a keyed model's step")
proxy_mode = private(
    "torch.fx.experimental.proxy_tensor.get_proxy_mode", "see whether make_fx traces the call"
)


@contextmanager
def real_constants() -> Iterator[None]:
    """Let a graph that is made with fake tensors read a tensor of the process: a model's step.

    The tensor itself becomes a constant of the graph, so that each run reads what it holds by then. Dynamo
    has an input for it.
    """
    mode = None if torch.compiler.is_compiling() else _fake_mode()
    if mode is None:
        yield
        return
    before, mode.allow_non_fake_inputs = mode.allow_non_fake_inputs, True
    try:
        yield
    finally:
        mode.allow_non_fake_inputs = before


# What an operator raises that is asked for a value, or a shape, that depends on data which is not there.
NO_DATA: tuple[type[Exception], ...] = tuple(
    private(
        f"torch._subclasses.fake_tensor.{name}",
        "tell why a model cannot do without data",
        NotImplementedError,
    )
    for name in ("DataDependentOutputException", "DynamicOutputShapeException")
)
functorch_config = private("torch._functorch.config", "see what a graph is to compute again")


@contextmanager
def tensors_without_data() -> Iterator[FakeTensorMode]:
    """Make tensors that have a shape and no data, of which not even the address is to be had.

    torch's fake tensors; as a rule they answer for their address with a null, into which foreign code walks.
    """
    with functorch_config.patch(fake_tensor_allow_unsafe_data_ptr_access=False):
        yield FakeTensorMode(allow_non_fake_inputs=True, allow_fallback_kernels=False)


def fake_store() -> Any:
    """The store of a process group whose other ranks are not there.

    Raises:
        ImportError: where this torch has none.
    """
    path = "torch.testing._internal.distributed.fake_pg.FakeStore"
    return private(path, "compute each rank's part in one process")()
