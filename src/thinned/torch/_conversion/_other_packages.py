"""Dropout modules of other packages are recognised here by class name, attributes and behaviour.

A name proposes what a module is. It is exchanged only if it then acts so: on ones, in training and in
evaluation, without its hooks and with the generator left as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from thinned.torch import nn

_RATE: Final = 0.5  # at which a module is tried


def ours(module: torch.nn.Module) -> torch.nn.Module | None:
    """The layer of ours that a module of another package is, with its options; None if it is none."""
    kind = type(module).__name__
    for ending, rate, make, acts in _KNOWN:
        if not kind.endswith(ending) or not _is_rate(getattr(module, rate, None), rate in vars(module)):
            continue
        try:
            fresh = make(module, float(getattr(module, rate) or 0.0))
        except (AttributeError, TypeError, ValueError):  # another class of that name
            continue
        if fresh is not None and _acts(module, rate, acts):
            return fresh
    return None


def _is_rate(value: Any, there: bool) -> bool:
    """A number, or None, which stands for 0 there."""
    return there and (value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)))


def _acts(module: Any, rate: str, acts: Callable[[Any, Callable[[Tensor], Tensor]], bool]) -> bool:
    """Tells whether a module evaluates as the identity, and at p = 0.5 trains as expected."""
    before, training = getattr(module, rate), module.training

    def call(x: Tensor) -> Any:
        return type(module).forward(module, x)

    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            setattr(module, rate, _RATE)
            module.training = False
            x = torch.ones(64, 8, 6, 6)
            if not _same(call(x.clone()), x):
                return False
            module.training = True
            return acts(module, call)
    except Exception:  # whatever another package's module says of an input that it was not made for
        return False
    finally:
        setattr(module, rate, before)
        module.training = training


def _same(got: Any, expected: Tensor) -> bool:
    return isinstance(got, Tensor) and torch.equal(got, expected)


def _two_values(y: Any, kept: float) -> bool:
    """Some of it is 0, and all else one value."""
    return isinstance(y, Tensor) and set(y.unique().tolist()) == {0.0, kept}


def _drops_samples(module: Any, call: Any) -> bool:
    y = call(torch.ones(64, 8, 6, 6))
    kept = 1.0 if getattr(module, "scale_by_keep", True) is False else 2.0
    return _two_values(y, kept) and bool((y == y[:, :1, :1, :1]).all())


def _drops_elements(module: Any, call: Any) -> bool:
    y = call(torch.ones(64, 8, 6, 6))
    return _two_values(y, 2.0) and abs(float((y == 0).double().mean()) - 0.5) < 0.02


def _drops_rows_or_all(module: Any, call: Any) -> bool:
    if module.mode == "row":
        return _drops_samples(module, call)
    return {float(call(torch.ones(2, 3)).max()) for _ in range(30)} == {0.0, 2.0}


def _drops_blocks(module: Any, call: Any) -> bool:
    y = call(torch.ones(64, 8, 12, 12))
    return isinstance(y, Tensor) and y.shape == (64, 8, 12, 12) and bool(((y == 0) | (y != 1)).any())


def _drops_tokens(module: Any, call: Any) -> bool:
    y = call(torch.arange(34.0).reshape(1, 34, 1).expand(8, 34, 4))
    prefix = module.num_prefix_tokens
    whole = isinstance(y, Tensor) and y.shape == (8, prefix + (34 - prefix) // 2, 4)
    return whole and all(len(set(row)) == len(row) for row in y[..., 0].tolist())


def _drop_path(module: Any, p: float) -> torch.nn.Module:
    return nn.DropPath(p, scale_by_keep=bool(getattr(module, "scale_by_keep", True)))


def _block(module: Any, p: float) -> torch.nn.Module | None:
    """Takes torchvision's DropBlock, and timm's where it has no option that ours has not."""
    if getattr(module, "batchwise", False):
        return None
    names = ("scale_by_keep", "couple_channels", "with_noise")
    options = {name: bool(getattr(module, name)) for name in names if hasattr(module, name)}
    scale = float(getattr(module, "gamma_scale", 1.0))
    inplace = bool(getattr(module, "inplace", False))
    return nn.DropBlock2d(p, module.block_size, inplace, gamma_scale=scale, **options)


def _patches(module: Any, p: float) -> torch.nn.Module | None:
    if getattr(module, "return_indices", False):
        return None
    return nn.PatchDropout(p, prefix_tokens=module.num_prefix_tokens)


Make = Callable[[Any, float], torch.nn.Module | None]
# The end of the class's name, where its rate is, what is made of it, and what it does.
_KNOWN: Final[tuple[tuple[str, str, Make, Callable[[Any, Any], bool]], ...]] = (
    ("DropPath", "drop_prob", _drop_path, _drops_samples),  # timm's, and those of many models of transformers
    ("StochasticDepth", "p", lambda module, p: nn.StochasticDepth(p, module.mode), _drops_rows_or_all),
    ("StableDropout", "drop_prob", lambda module, p: nn.Dropout(p), _drops_elements),
    ("DropBlock2d", "drop_prob", _block, _drops_blocks),  # timm's
    ("DropBlock2d", "p", _block, _drops_blocks),  # torchvision's
    ("PatchDropout", "prob", _patches, _drops_tokens),
)
