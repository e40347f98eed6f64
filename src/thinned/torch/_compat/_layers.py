"""torch keeps these names about layers to itself: their classes, calls, hooks and buffers."""

from __future__ import annotations

from typing import Any

from torch import nn

from thinned.torch._compat._room import private, private_attribute

buffers_of = private_attribute(
    "_buffers", "put a model back after a trial run", instead="Module.named_buffers, which leaves out None"
)
children_of = private_attribute(
    "_modules", "see a module's children by their names", instead="Module.named_children"
)
forward_pre_hooks_of = private_attribute("_forward_pre_hooks", "remove the hook of an earlier counting")

# Of the package transformers: a model's configuration.
attention_asked_for = private_attribute(
    "_attn_implementation", "see by what attention a model computes", None
)
convolution_of = private_attribute(
    "_conv_forward", "run a convolution, padding modes too, with a part of its weight"
)

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

_NO_PARAMETERS: dict[str, Any] = {}
_parameters_of = private_attribute(
    "_parameters", "read a weight without the exception that Python raises first", _NO_PARAMETERS
)


def parameter_of(module: nn.Module, name: str) -> Any:
    """`getattr(module, name)`, which for a parameter fails at first, and takes 20 µs more within a step."""
    held = _parameters_of(module)
    return held[name] if name in held else getattr(module, name)


# What torch calls where a module is called: by itself, and by torch.jit.trace.
call_module = private("torch.nn.Module._call_impl", "have torch.fx see a layer as one thing")
trace_module = private("torch.nn.Module._slow_forward", "warn where torch.jit.trace records a mask")

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
