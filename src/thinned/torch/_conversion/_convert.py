"""`convert` puts our layers in place of torch.nn's dropout, and `unconvert` puts torch's back."""

from __future__ import annotations

from typing import Any

import torch

from thinned.torch import nn
from thinned.torch._conversion import _attention_functions, _other_packages
from thinned.torch._conversion._functional import drops, passes_call, rates, reads
from thinned.torch._conversion._report import Conversion, Model
from thinned.torch._conversion._walk import (
    HOLDERS,
    OF_TORCH,
    become,
    copied,
    foreign,
    named,
    torch_class,
    turn,
)
from thinned.torch._site import Site, check_p

_OURS: dict[type[Any], type[Any]] = {cls: getattr(nn, cls.__name__) for cls in (*OF_TORCH, *HOLDERS)}
_PROOF = "modules and source were read, nothing was run: keyed(model, seed, check=inputs) names every draw"
_TORCHS = {ours: torchs for torchs, ours in _OURS.items()}


def convert(model: Model, *, copy: bool = False) -> Conversion[Model]:
    """Turn every dropout module and MultiheadAttention of torch.nn into ours, and say what else drops.

    A module stays where and what it is but for its class: p, inplace, training flag, hooks and every
    reference to it remain, and so do the model's `state_dict`, its names and its evaluation, to the bit.
    Only an alpha dropout's inplace, which torch's does not obey, becomes False. `thinned.torch.keyed` can
    then give the model its keys.

    Known modules of other packages are swapped too, if they act as their names say: timm's DropPath,
    DropBlock2d and PatchDropout, torchvision's StochasticDepth and DropBlock2d, the DropPath of models of
    transformers, DeBERTa's StableDropout. There is no way back for these: copy=True keeps the model.
    An nn.MultiheadAttention is swapped as well, of which every layer of an nn.Transformer has one or two. The
    encoder layer's fused path in evaluation goes around its modules, which is no difference but for a site
    that is made classic by hand: `to_classic` leaves them.
    A rate that another module holds as a number cannot be swapped: nn.LSTM's and nn.GRU's. These are named in
    `left` with the remedy. In a model of transformers whose `attn_implementation` is "thinned" (see
    `thinned.torch.transformers`), each attention gets a site, a module without parameters.
    What looks like dropout without being a module is named in `possible`: other modules' numbers whose name
    says "drop", calls such as `F.dropout(…)` in the source of a module's class and of the functions that it
    calls, and a dropout module whose p is read in place of a call. That is not all: a function that is looked
    up as the model runs, a local import or compiled code is not seen. `keyed(model, seed, check=inputs)`
    runs the model, and names every draw.

    Args:
        model: any module, converted itself if it is one of torch.nn's dropout modules.
        copy: convert a deep copy, and leave the model as it is.

    Returns:
        A report: `report.model`, the model or its copy; `report.swapped`, name → class; `report.left`, name →
        reason; `report.possible`, name → where. `print(report)` shows all. A module of two names has two
        entries.

    Source:
        The modules that hold numbers: torch.nn.MultiheadAttention, torch.nn.RNNBase.

    Example:
        >>> import torch
        >>> layer = torch.nn.TransformerEncoderLayer(8, 2, dropout=0.1, batch_first=True)
        >>> report = convert(torch.nn.Sequential(layer, torch.nn.Dropout(0.5)))
        >>> list(report.swapped)
        ['0.self_attn', '0.dropout', '0.dropout1', '0.dropout2', '1']
        >>> report.left
        {}
        >>> report.model[1]
        Dropout(p=0.5, inplace=False)
    """
    model = copied(model) if copy else model
    swapped: dict[str, str] = {}
    left: dict[str, str] = {}
    possible: dict[str, str] = {}
    done: dict[torch.nn.Module, str] = {}
    for name, module in named(model):
        torchs = torch_class(module, tuple(_OURS))
        if module in done:
            swapped[name] = done[module]
        elif isinstance(module, Site):
            continue
        elif torchs is None and (fresh := _other_packages.ours(module)) is not None:
            become(module, fresh)
            swapped[name] = done[module] = f"thinned.torch.nn.{type(fresh).__name__}"
        elif torchs is None:
            if _attention_functions.is_ours(module):
                _attention_functions.give_site(module)
                swapped[f"{name}.{_attention_functions.CHILD}"] = (
                    "a site for the attention that transformers hands over"
                )
            _note(name, module, left, possible)
        elif problem := foreign(module, torchs):
            left[name] = problem
        else:
            try:
                _swap(module, torchs)
            except (TypeError, ValueError) as error:
                left[name] = f"{error}: set it, then convert again"
                continue
            swapped[name] = done[module] = f"thinned.torch.nn.{torchs.__name__}"
    return Conversion(model=model, swapped=swapped, left=left, possible=possible, proof=_PROOF)


def unconvert(model: Model, *, copy: bool = False) -> Conversion[Model]:
    """Turn every module of ours that `convert` can have made into torch.nn's: its inverse.

    Args:
        model: any module.
        copy: do it to a deep copy, and leave the model as it is.

    Returns:
        A report as `convert` gives it. Left are modules that torch.nn has no equal of: other layers,
        p that is no number, options such as noise_shape and mode="classic", and keyed modules, until
        `keyed(model, None)` takes the keys away. Suspects are calls that pass `call=`, which torch.nn's
        modules do not take.

    Example:
        >>> import torch, thinned
        >>> model = torch.nn.Sequential(thinned.torch.nn.Dropout(0.5))
        >>> unconvert(model).swapped
        {'0': 'torch.nn.Dropout'}
        >>> type(model[0]) is torch.nn.Dropout
        True
    """
    model = copied(model) if copy else model
    swapped: dict[str, str] = {}
    left: dict[str, str] = {}
    possible: dict[str, str] = {}
    done: dict[torch.nn.Module, str] = {}
    for name, module in named(model):
        site = _attention_functions.site_of(module)
        if site is not None and site.key is None:
            _attention_functions.take_site(module)
            swapped[f"{name}.{_attention_functions.CHILD}"] = (
                "nothing: the attention that transformers hands over draws"
            )
        if found := passes_call(module):
            possible[name] = f"{'; '.join(found)}: torch.nn's modules do not take it"
        if module in done:
            swapped[name] = done[module]
        elif isinstance(module, Site):
            if problem := _no_counterpart(module):
                left[name] = problem
            else:
                torchs = _TORCHS[type(module)]
                if torchs in HOLDERS:
                    turn(module, torchs)
                else:
                    become(module, torchs(module.p, module.inplace))
                swapped[name] = done[module] = f"torch.nn.{torchs.__name__}"
    return Conversion(model=model, swapped=swapped, left=left, possible=possible)


def _swap(module: Any, torchs: type[Any]) -> None:
    if torchs in HOLDERS:
        module.dropout = check_p(module.dropout, "dropout")
        turn(module, _OURS[torchs])
    else:
        become(module, _OURS[torchs](module.p, _is_inplace(module)))


def _is_inplace(module: Any) -> bool:
    """A module's inplace: torch's alpha dropout has the argument, and never writes in place."""
    alpha = isinstance(module, (torch.nn.AlphaDropout, torch.nn.FeatureAlphaDropout))
    return bool(module.inplace) and not alpha


def _note(name: str, module: torch.nn.Module, left: dict[str, str], possible: dict[str, str]) -> None:
    """Note what drops in a module that is no dropout module."""
    kind = type(module).__name__
    held = " and ".join(f"{attribute}={rate}" for attribute, rate in rates(module).items())
    if isinstance(module, torch.nn.RNNBase):
        if held and module.num_layers > 1:
            remedy = f"build thinned.torch.nn.{kind}(…, locked=False) and load its state_dict"
            if not hasattr(nn, kind):
                remedy = "stack layers with a thinned.torch.nn.Dropout between them"
            left[name] = f"{kind} holds {held} as a number: {remedy}"
        return
    if isinstance(module, torch.jit.ScriptModule):
        possible[name] = (
            "compiled by torch.jit, with torch's dropout in it: convert the model that it was made of, and "
            "have torch.jit.trace, torch.export or torch.compile do that; torch.jit.script takes none of ours"
        )
        return
    has_site = _attention_functions.site_of(module) is not None
    seen = list(drops(module) or (() if has_site else reads(module)))
    if held and not has_site:
        remedy = f", and thinned.torch.nn has a {kind}" if hasattr(nn, kind) else ""
        if "layerdrop" in held.replace("_", "").lower():
            remedy = ", and thinned.torch.functional.layer_drop runs a loop over layers"
        seen.insert(0, f"{kind} holds {held} as a number{remedy}")
    if seen:
        remedy = "no walk over modules reaches it"
        if _attention_functions.hands_over(module):
            remedy = _attention_functions.REMEDY
        elif getattr(module, "fused_attn", False) is True:  # as timm has it
            remedy += "; where its fused_attn is False, its dropout is called as a module"
        possible[name] = f"{'; '.join(seen)}: {remedy}"


def _no_counterpart(site: Any) -> str | None:
    kind = type(site)
    if kind not in _TORCHS and kind is not _attention_functions.HandedAttention:
        return f"torch.nn has no {kind.__name__}"
    if site.key is not None:
        return "it has a key, which torch.nn's has not: keyed(model, None) takes it away"
    rate = "dropout" if _TORCHS[kind] in HOLDERS else "p"
    if not isinstance(getattr(site, rate), float):
        return f"{rate}={getattr(site, rate)} is no number"
    if head_p := vars(site).get("head_p", 0.0):
        return f"torch.nn.{kind.__name__} has no head_p={head_p}"
    if _TORCHS[kind] in HOLDERS:
        return None
    fresh = kind()
    torchs = vars(_TORCHS[kind]())
    for name, value in vars(site).items():
        if name in vars(fresh) and name not in torchs and value != vars(fresh)[name]:
            return f"torch.nn.{kind.__name__} has no {name}={value!r}"
    return None
