"""torch keeps these names about torch.compile to itself."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch

from thinned.torch._compat._room import private


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


def constant_to_the_compiler(function: Any) -> Any:
    """Have torch's compiler call a function of no tensors, and take its answer for a constant.

    It is what `torch.compiler.assume_constant_result` does, which imports the compiler. A torch that does not
    read the mark traces the function.
    """
    function._dynamo_marked_constant = True
    return function
