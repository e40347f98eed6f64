"""torch keeps these names about tensors to itself: their memory, nested tensors, what draws them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from thinned.torch._compat._room import private, private_attribute

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
version_of = private_attribute("_version", "tell whether a weight was updated between two calls")

# What torch.distributions calls to draw.
standard_gamma = private("torch._standard_gamma", "key what a gamma distribution draws")
sample_dirichlet = private("torch._sample_dirichlet", "key what a Dirichlet distribution draws")

# Whether a tensor has memory that a kernel may read by its address.
has_storage = private("torch._C._has_storage", "tell tensors without memory apart")
is_zero_tensor = private("torch.Tensor._is_zerotensor", "tell gradients that are lazily zero apart")

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
