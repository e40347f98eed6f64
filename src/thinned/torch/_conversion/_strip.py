"""`strip` takes the dropout out of a trained model."""

from __future__ import annotations

from typing import Any

import torch

from thinned.contract import threshold
from thinned.torch import nn
from thinned.torch._conversion import _attention_functions
from thinned.torch._conversion._functional import drops, passes_call, rates
from thinned.torch._conversion._report import Model, Removal
from thinned.torch._conversion._torch_layers import become_plain, has_plain
from thinned.torch._conversion._walk import become, copied, foreign, named, torch_class
from thinned.torch._site import RATES, Site

# Sites that give back their input in evaluation, whatever they do in training.
_IDENTITIES = {
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout),
    *(nn.DropBlock1d, nn.DropBlock2d, nn.DropBlock3d, nn.DropPath, nn.StochasticDepth),
    *(nn.GaussianDropout, nn.LockedDropout, nn.DropHead, nn.SpatialDropout, nn.WordDropout),
    *(nn.PatchDropout, nn.SpecAugment, nn.Cutout),
}
# Modules that compute more, to which no rate matters in evaluation.
_HOLDERS = (
    *(torch.nn.RNNBase, torch.nn.MultiheadAttention),
    *(nn.DropConnect, nn.DropConnectLinear, nn.ScaledDotProductAttention),
    *(nn.EmbeddingDropout, nn.DropoutAdd, nn.LayerDrop),
)


def strip(model: Model, *, copy: bool = False) -> Removal[Model]:
    """Take the dropout out of a model that is only to be evaluated, which stays the same to the bit.

    A dropout module, of torch.nn or ours, becomes an `nn.Identity` (with p = 0, which some forwards read), so
    that the indices of an nn.Sequential and the keys of a `state_dict` remain. A module that computes more
    and holds a rate (attention, recurrent layers, DropConnect; torch.nn's and ours) has it set to 0; our
    LSTM, GRU and DropConnectLinear become torch.nn's LSTM, GRU and Linear, which tools find by their class.
    Functional calls and other modules' numbers cannot be taken out; they are named in `possible`, and do no
    harm where they obey `training`.

    Args:
        model: any module.
        copy: do it to a deep copy, and leave the model as it is.

    Returns:
        A report: `report.model`; `report.removed`, name → what was there; `report.left`, name → reason;
        `report.possible`, name → where. Left are classic sites, which evaluate to input · (1 − p):
        `to_inverted(model)` first; and classes with a forward of their own, whose evaluation is unknown.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 2))
        >>> strip(model).removed
        {'1': 'Dropout(p=0.5, inplace=False)'}
        >>> list(model.state_dict())
        ['0.weight', '0.bias', '2.weight', '2.bias']
    """
    model = copied(model) if copy else model
    removed: dict[str, str] = {}
    left: dict[str, str] = {}
    possible: dict[str, str] = {}
    done: dict[torch.nn.Module, dict[str, str]] = {}
    for name, module in named(model):
        if _attention_functions.site_of(module) is not None:
            _attention_functions.take_site(module)
            removed[f"{name}.{_attention_functions.CHILD}"] = (
                "a site for the attention that transformers hands over"
            )
        if seen := _seen(module):
            possible[name] = seen
        if module not in done:
            if problem := _problem(module):
                left[name] = problem
                continue
            done[module] = _remove(module)
        removed.update({f"{name}{tail}": what for tail, what in done[module].items()})
    return Removal(model=model, removed=removed, left=left, possible=possible)


def _problem(module: torch.nn.Module) -> str | None:
    """Tells why a module that drops cannot be taken out."""
    kind = type(module)
    if not isinstance(module, Site):
        torchs = torch_class(module)
        return foreign(module, torchs) if torchs else None
    if kind not in _IDENTITIES and not isinstance(module, _HOLDERS):
        return f"{kind.__name__} may do more in evaluation than give back its input"
    classic = isinstance(module, nn.Dropout) and module.mode == "classic"
    if classic and (not isinstance(module.p, float) or threshold(module.p) > 0):
        return "it is classic, and evaluates to input · (1 − p): to_inverted(model) first"
    return None


def _remove(module: torch.nn.Module) -> dict[str, str]:
    """Take a module's dropout out, and say what it was, by the tail of its name."""
    if type(module) in _IDENTITIES or (torch_class(module) and not isinstance(module, Site)):
        was = repr(module)
        identity = torch.nn.Identity()
        vars(identity)["p"] = 0.0
        become(module, identity)
        return {"": was}
    held: dict[str, Any] = {}
    if isinstance(module, _HOLDERS):
        held = {name: vars(module)[name] for name in RATES if name in vars(module)}
    held = {name: rate for name, rate in held.items() if not isinstance(rate, float) or rate}
    vars(module).update(dict.fromkeys(held, 0.0))
    if has_plain(module):
        become_plain(module)
    return {f".{name}": str(rate) for name, rate in held.items()}


def _seen(module: torch.nn.Module) -> str | None:
    """Calls that drop by themselves or that an Identity refuses, and numbers that may do the same."""
    own = isinstance(module, (Site, *_HOLDERS)) or torch_class(module)
    found = [*drops(module), *passes_call(module)]
    if not own:
        found += [f"{type(module).__name__} holds {name}={rate}" for name, rate in rates(module).items()]
    return "; ".join(found) or None
