"""The names that torch keeps to itself and this front end needs: what each is for, and what stands in for it.

All other files take them from here.
"""

from __future__ import annotations

import functools
import inspect
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.autograd import forward_ad

from thinned._private import Room

ROOM = Room(torch, "thinned.torch", "torch>=2.6,<=2.13")
private, private_attribute = ROOM.name, ROOM.attribute

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
storage_number = private_attribute(
    "_cdata", "tell whether two tensors share memory", instead="UntypedStorage.data_ptr"
)


def _unknown_owners(storage: int) -> float:
    return float("nan")  # equal to nothing


owners_of_memory = private(
    "torch._C._storage_Use_Count",
    "tell whether a gradient's memory is free to be written again",
    _unknown_owners,
)
buffers_of = private_attribute(
    "_buffers", "put a model back after a trial run", instead="Module.named_buffers, which leaves out None"
)
forward_pre_hooks_of = private_attribute("_forward_pre_hooks", "remove the hook of an earlier counting")
# Of the package transformers: a model's configuration.
attention_asked_for = private_attribute(
    "_attn_implementation", "see by what attention a model computes", None
)
convolution_of = private_attribute(
    "_conv_forward", "run a convolution, padding modes too, with a part of its weight"
)
version_of = private_attribute("_version", "tell whether a weight was updated between two calls")


def constant_to_the_compiler(function: Any) -> Any:
    """Have torch's compiler call a function of no tensors, and take its answer for a constant.

    It is what `torch.compiler.assume_constant_result` does, which imports the compiler. A torch that does not
    read the mark traces the function.
    """
    function._dynamo_marked_constant = True
    return function


# Layers by the classes that they derive from.
DROPOUTS = private(
    "torch.nn.modules.dropout._DropoutNd",
    "know torch's dropout layers",
    (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout),
    "the public classes",
)
NORMS = private(
    "torch.nn.modules.batchnorm._NormBase",
    "know layers that keep running statistics",
    (
        *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
        *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
    ),
    "the public classes",
)
flat_weights_updater = private_attribute(
    "_update_flat_weights", "lay recurrent weights side by side for cuDNN", fallback=lambda: None
)
# What torch calls where a module is called: by itself, and by torch.jit.trace.
call_module = private("torch.nn.Module._call_impl", "have torch.fx see a layer as one thing")
trace_module = private("torch.nn.Module._slow_forward", "warn where torch.jit.trace records a mask")

# What torch.distributions calls to draw.
standard_gamma = private("torch._standard_gamma", "key what a gamma distribution draws")
sample_dirichlet = private("torch._sample_dirichlet", "key what a Dirichlet distribution draws")

# What is at work around a call: the short way is for calls that nobody watches.
transforms_active = private(
    "torch._C._are_functorch_transforms_active", "see whether torch.func transforms the call"
)
dispatch_modes = private("torch._C._len_torch_dispatch_stack", "see whether a dispatch mode is on")
function_modes = private("torch._C._len_torch_function_stack", "see whether a function mode is on")
tracing_state = private("torch._C._get_tracing_state", "see whether torch.jit traces the call")
set_tracing_state = private(
    "torch._C._set_tracing_state", "read a shape while torch.jit traces the call", lambda _: None
)

# Whether a tensor has memory that a kernel may read by its address.
has_storage = private("torch._C._has_storage", "tell tensors without memory apart")
is_zero_tensor = private("torch.Tensor._is_zerotensor", "tell gradients that are lazily zero apart")

# The dispatcher's layers, in which the operators' derivatives and their rule for vmap are registered.
below_autograd = private("torch._C._AutoDispatchBelowAutograd", "call an operator below autograd's layer")
after_autograd = private("torch._C._after_autograd_keyset", "call an operator below autograd's layer")
single_level = private(
    "torch._functorch.utils.enable_single_level_autograd_function", "differentiate one level of torch.func"
)
set_forward_grad = private(
    "torch.autograd.forward_ad._set_fwd_grad_enabled", "keep the outer levels of forward derivatives"
)
without_keys = private("torch._C._ExcludeDispatchKeyGuard", "call an operator below vmap's mode")
interpreter = private(
    "torch._functorch.pyfunctorch.retrieve_current_functorch_interpreter", "read vmap's randomness"
)
_key_set = private("torch._C.DispatchKeySet", "call an operator below vmap's mode")
_key = private("torch._C.DispatchKey", "call an operator below vmap's mode")
vmap_mode = _key_set(_key.FuncTorchVmapMode)
leaves_allowed: Callable[[bool], Any] = private(
    "torch._functorch.eager_transforms.enable_inplace_requires_grad",
    "differentiate forward within torch.func",
)
is_batched = private("torch._C._functorch.is_batchedtensor", "see which tensors vmap maps over")
level_of = private("torch._C._functorch.maybe_get_level", "see which tensors vmap maps over")
add_batch_dim = private("torch._C._functorch._add_batch_dim", "give each example of vmap its key")


# Graphs that make_fx records for thinned.mc.
graph_context = private("torch._guards.TracingContext", "trace a model for thinned.mc")
graph_tracing = private("torch._guards.tracing", "trace a model for thinned.mc")
to_copy = private("torch.ops.aten._to_copy", "trace a model for thinned.mc")
softmax = private("torch.ops.aten._softmax", "trace a model for thinned.mc")
log_softmax = private("torch.ops.aten._log_softmax", "trace a model for thinned.mc")


# Nested tensors, of which torch has two kinds.
_sizes = private("torch.Tensor._nested_tensor_size", "drop nested tensors", lambda _: None)
_strides = private("torch.Tensor._nested_tensor_strides", "drop nested tensors", lambda _: None)
_offsets = private("torch.Tensor._nested_tensor_storage_offsets", "drop nested tensors", lambda _: None)
_from_buffer = private("torch._nested_view_from_buffer", "drop nested tensors")


def nested_from_values(values: Tensor, like: Tensor) -> Tensor:
    """A nested tensor of the strided layout with these values and the shapes of another."""
    made: Tensor = _from_buffer(values, _sizes(like), _strides(like), _offsets(like))
    return made


def ragged_dimension(jagged: Any) -> int:
    """Return which dimension of a jagged tensor is ragged."""
    return int(getattr(jagged, "_ragged_idx", 1))


def forward_derivatives() -> bool:
    """Tells whether a level of forward derivatives is open."""
    return getattr(forward_ad, "_current_level", -1) >= 0


def direct_apply(function: type[torch.autograd.Function]) -> Any:
    """`function.apply` without torch's Python wrapper, which serves torch.func alone.

    The wrapper takes 3.4 of the 11 µs of a call. Without the class beneath it, the wrapper itself.
    """
    try:
        return super(torch.autograd.Function, function).apply  # type: ignore[misc]
    except AttributeError:
        return function.apply


# The state of a keyed model: ordinary tensors, whatever mode is on.
no_dispatch_modes = private(
    "torch.utils._python_dispatch._disable_current_modes",
    "keep a model's step out of fake tensors and graphs",
)
_fake_mode = private("torch._guards.detect_fake_mode", "let graphs of fake tensors read a keyed model's step")
proxy_mode = private(
    "torch.fx.experimental.proxy_tensor.get_proxy_mode", "see whether make_fx traces the call"
)
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


interpreters = private(
    "torch._C._functorch.get_interpreter_stack", "see whether vmap is on in a backward pass"
)
transform_type = private("torch._C._functorch.TransformType", "see whether vmap is on in a backward pass")


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


def vmap_is_on() -> bool:
    """Tells whether one of the open transforms of torch.func is vmap."""
    return any(one.key() == transform_type.Vmap for one in interpreters() or ())


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
function_mode_stack = private(
    "torch.overrides._get_current_function_mode_stack", "see whether thinned.mc is at work", list
)

# A module's hooks, by their kinds, and those of all modules.
HOOKS = {
    kind: private_attribute(f"_{kind}_hooks", "see whether hooks may change what passes")
    for kind in ("forward_pre", "forward", "backward_pre", "backward")
}
_NO_HOOKS: dict[int, Any] = {}
_GLOBAL_HOOKS = [
    private(f"torch.nn.modules.module._global_{kind}_hooks", "see hooks of all modules", _NO_HOOKS)
    for kind in ("forward_pre", "forward", "backward")
]


def global_hooks() -> bool:
    """Tells whether hooks of all modules are registered; none where torch keeps them elsewhere."""
    return any(_GLOBAL_HOOKS)


def global_hooks_now() -> list[Any]:
    """The hooks of all modules that are registered."""
    return [hook for kind in _GLOBAL_HOOKS for hook in kind.values()]


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


def fake_store() -> Any:
    """The store of a process group whose other ranks are not there.

    Raises:
        ImportError: where this torch has none.
    """
    path = "torch.testing._internal.distributed.fake_pg.FakeStore"
    return private(path, "compute each rank's part in one process")()


class Inductor(NamedTuple):
    """Holds what of torch's own compiler is used.

    Args:
        compile_fx: compiles a graph.
        table: what it takes apart by itself.
        ops: operations on an element of a loop.
        expand: a tensor of a graph to sizes.
        pointwise: a loop of a device, a dtype, what computes an element from its index, and sizes.
        register: a lowering for an operator.
        zero: an index of 0, to which others are added.
        config: of what is in front of it.
    """

    compile_fx: Any
    table: Any
    ops: Any
    expand: Any
    pointwise: Any
    register: Any
    zero: Any
    config: Any


@functools.cache
def inductor() -> Inductor:
    """The compiler, which is not imported before it is asked for."""
    purpose = "compute masks in the kernels of their neighbours"
    compile_fx, table, ops, expand, pointwise, register, zero = (
        private(f"torch._inductor.{name}", purpose)
        for name in (
            "compile_fx.compile_fx",
            "decomposition.select_decomp_table",
            "virtualized.ops",
            "lowering.expand",
            "ir.Pointwise",
            "lowering.register_lowering",
            "lowering.sympy.S.Zero",
        )
    )
    # It is asked for a number's own type of 64 bits, which an index need not have.
    private("torch._inductor.ops_handler.OpsHandler.value_expr", purpose)

    def loop(device: Any, dtype: torch.dtype, one: Any, sizes: Any) -> Any:
        return pointwise.create(device=device, dtype=dtype, inner_fn=one, ranges=sizes)

    def lower(target: Any, lowering: Any) -> None:
        register(target, type_promotion_kind=None)(lowering)

    config = private("torch._functorch.config", purpose)
    return Inductor(compile_fx, table, ops, expand, loop, lower, zero, config)


def compile_by_inductor(graph: Any, inputs: Any, apart: dict[Any, Any], options: dict[str, Any]) -> Any:
    """Compile a graph by torch's own compiler, with these operators taken apart besides its own."""
    compiler = inductor()
    # Its store of compiled graphs does not look at what is taken apart: it would give out the other code.
    with compiler.config.patch(enable_autograd_cache=False):
        return compiler.compile_fx(
            graph, inputs, config_patches=options or None, decompositions={**compiler.table(), **apart}
        )
