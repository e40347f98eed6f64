"""Layers that have their projections themselves: attention with heads, and recurrent layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from thinned.contract import keep_probability, threshold
from thinned.torch._thin._attention import HeadLink
from thinned.torch._thin._graphs import StaysError, drops
from thinned.torch._thin._link import Link
from thinned.torch.nn._part_keys import is_off


@dataclass(frozen=True)
class Alone:
    """It says what such a layer spares, and has the share of its multiplications that is left."""

    spared: str
    shares: dict[torch.nn.Module, float] = field(default_factory=dict)

    def link(self, site: Any) -> Link:
        """Without a module around it."""
        return HeadLink(site, (), (), (), 0)


def plan(site: Any, groups: int, fixed: bool) -> Alone:
    """Gives what is spared of a layer.

    Raises:
        StaysError: if nothing is.
    """
    if groups > 1 and drops(site):
        raise StaysError(f"{type(site).__name__} has one decision for the whole batch: take groups=1")
    if fixed and drops(site):
        raise StaysError(f"{type(site).__name__} decides for each of its parts by itself: take fixed=False")
    return _recurrent(site) if isinstance(site, torch.nn.RNNBase) else _attention(site)


def _attention(site: Any) -> Alone:
    if is_off(site.head_p):
        raise StaysError("head_p=0: it drops no heads, and nothing else that is not to be computed")
    if not is_off(site.dropout):
        raise StaysError(
            f"dropout={site.dropout} drops single probabilities of all heads, which are computed: set it to 0"
        )
    shares = dict.fromkeys((site, site.out_proj), keeps(site.head_p))
    return Alone("its heads: the projections and the attention of kept ones", shares)


def _recurrent(site: Any) -> Alone:
    names = ["input_p", "hidden_p"] + (["dropout"] if site.num_layers > 1 else [])
    rates = {name: getattr(site, name) for name in names if not is_off(getattr(site, name))}
    if not rates:
        raise StaysError(f"{' and '.join(names)} are 0: it drops nothing that is not to be computed")
    if not site.locked:
        raise StaysError("locked=False: each time has its own features")
    units = keeps(site.hidden_p)
    whole = left = 0.0
    for name in site._weight_names():
        weight = getattr(site, name)
        if weight.dim() < 2:
            continue
        kind, number = name.split("_")[1], int(name.split("_l")[1][0])
        inward = keeps(site.input_p) if not number else keeps(site.dropout) * units
        whole += weight.numel()
        left += weight.numel() * units * (inward if kind == "ih" else units)
    shown = " and ".join(f"{name}={rate}" for name, rate in rates.items())
    return Alone(f"its gates, of what {shown} keep", {site: left / whole})


def keeps(p: Any) -> float:
    """Gives the share that is expected to be kept."""
    return keep_probability(threshold(p)) if isinstance(p, float) else 1.0


def sizes(model: torch.nn.Module) -> dict[torch.nn.Module, int]:
    """Tells how many weights such layers have, without those of modules in them."""
    kinds = (torch.nn.RNNBase, torch.nn.MultiheadAttention)
    return {
        module: sum(weight.numel() for weight in module.parameters(recurse=False) if weight.dim() > 1)
        for module in model.modules()
        if isinstance(module, kinds)
    }
