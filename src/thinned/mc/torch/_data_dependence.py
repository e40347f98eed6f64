"""A forward pass on inputs without data shows here whether the model reads their values.

A trace holds for all inputs and samples only if nothing that it did depended on a value of one: a branch, a
length, a printed digit. So the model is run once with an input and a key that have shapes and types and
nothing else, and with its parameters and constants as they are. What depends on the input has no data either;
it can be added and multiplied, and not be read, by whatever way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from thinned.torch import _compat


class ValueRead(RuntimeError):
    """The forward pass asks for a value that depends on an input or a mask."""


def check(
    model: torch.nn.Module, forward: Callable[..., Tensor], inputs: Sequence[Tensor], key: Tensor
) -> bool:
    """Run a forward pass on inputs and a key without data.

    Returns:
        Whether it asked for values of parameters, buffers or constants: a trace holds for these alone.

    Raises:
        ValueRead: `it asks for a value: …`.
        Exception: whatever an operator raises that does not know how to do without data.
    """
    with ExitStack() as stack:
        empty = stack.enter_context(_compat.tensors_without_data())
        sealed = [empty.from_tensor(one) for one in (*inputs, key)]
        stack.enter_context(_attributes_kept(model))
        seal = stack.enter_context(_Sealed(empty))
        stack.enter_context(_Reads(seal))
        try:
            forward(*sealed)
        except _compat.NO_DATA as error:
            raise ValueRead(f"it asks for a value: {error}") from None
    return bool(seal.reads)


class _Sealed(_compat.TorchDispatchMode):
    """Operators of constants run as they are. What a sealed tensor enters, or is written to, is sealed."""

    def __init__(self, empty: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.empty = empty
        self.written: set[int] = set()
        self.reads = False  # of values that no input enters
        self._held: list[Any] = []

    def is_sealed(self, tensor: Tensor) -> bool:
        """Tells whether it depends on an input."""
        return self.empty.is_our_fake(tensor) or _place(tensor) in self.written

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [one for one in _compat.pytree.tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        if not any(map(self.is_sealed, tensors)):
            out = func(*args, **kwargs)
            found = any(isinstance(one, Tensor) for one in _compat.pytree.tree_leaves(out))
            self.reads |= bool(tensors) and (not found or torch.Tag.dynamic_output_shape in func.tags)
            return out
        for one in _targets(func, args, kwargs):
            if not self.empty.is_our_fake(one) and _place(one) not in self.written:
                self.written.add(_place(one))
                self._held.append(one.untyped_storage())  # so that its place is not another's
        args, kwargs = _compat.pytree.tree_map_only(Tensor, self._without_data, (args, kwargs))
        return func(*args, **kwargs)

    def _without_data(self, tensor: Tensor) -> Tensor:
        return tensor if self.empty.is_our_fake(tensor) else self.empty.from_tensor(tensor)


class _Reads(TorchFunctionMode):
    """Holds what is answered, by this or that, where there is no data; and ways round the operators."""

    def __init__(self, sealed: _Sealed) -> None:
        super().__init__()
        self.sealed = sealed

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _READS and isinstance(args[0], Tensor):
            if self.sealed.is_sealed(args[0]):
                raise ValueRead(f"it asks for a value: Tensor.{func.__name__}")
            self.sealed.reads = True
        return func(*args, **(kwargs or {}))


_Tensor = torch.Tensor
_READS = {
    *(_Tensor.__repr__, _Tensor.__format__, _Tensor.__array__, _Tensor.__dlpack__, _Tensor.__reduce_ex__),
    *(_Tensor.numpy, _Tensor.tolist, _Tensor.data_ptr, _Tensor.untyped_storage, _Tensor.storage),
}


def _place(tensor: Tensor) -> int:
    """Returns the place of a tensor's memory, which its views share."""
    return (
        int(_compat.storage_number(tensor.untyped_storage())) if _compat.has_storage(tensor) else id(tensor)
    )


def _targets(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    """The tensors that an operator writes to."""
    found = []
    for place, argument in enumerate(_compat.schema_of(func).arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[place] if place < len(args) else kwargs.get(argument.name)
            found += [one for one in _compat.pytree.tree_leaves(value) if isinstance(one, Tensor)]
    return found


@contextmanager
def _attributes_kept(model: torch.nn.Module) -> Iterator[None]:
    """Gives what modules note of a pass is forgotten."""
    was = [
        (own, dict(own)) for module in model.modules() for own in (vars(module), _compat.buffers_of(module))
    ]
    try:
        yield
    finally:
        for own, before in was:
            own.clear()
            own.update(before)
