"""A site's plan carried out: the classes of the site and of the modules around it are exchanged."""

from __future__ import annotations

from typing import Any

import torch

from thinned.torch import nn
from thinned.torch._conversion._walk import become
from thinned.torch._site import Site
from thinned.torch._thin import _alone, _attention, _branch, _channels, _recurrent, _units
from thinned.torch._thin._branches import Branch
from thinned.torch._thin._chains import Chain
from thinned.torch._thin._heads import Heads
from thinned.torch._thin._link import Link

UNITS: dict[type[Any], type[Any]] = {
    nn.Dropout: _units.ThinDropout,
    torch.nn.Dropout: _units.ThinDropout,
    nn.LockedDropout: _units.ThinLockedDropout,
}
CHANNELS: dict[type[Any], type[Any]] = {
    getattr(home, f"Dropout{rank}d"): getattr(_channels, f"ThinDropout{rank}d")
    for home in (nn, torch.nn)
    for rank in (1, 2, 3)
}
ALONE: dict[type[Any], type[Any]] = {
    nn.MultiheadAttention: _attention.ThinMultiheadAttention,
    nn.LSTM: _recurrent.ThinLSTM,
    nn.GRU: _recurrent.ThinGRU,
}
HEADS: dict[type[Any], type[Any]] = {nn.DropHead: _attention.ThinDropHead}
PATHS: dict[type[Any], type[Any]] = {
    nn.DropPath: _branch.ThinDropPath,
    nn.StochasticDepth: _branch.ThinStochasticDepth,
}
_NEIGHBOURS: dict[type[Any], type[Any]] = {
    torch.nn.Linear: _units.ThinLinear,
    torch.nn.Embedding: _units.ThinEmbedding,
    **{
        getattr(torch.nn, f"{kind}{rank}d"): getattr(_channels, f"Thin{kind}{rank}d")
        for kind in ("Conv", "BatchNorm")
        for rank in (1, 2, 3)
    },
}
BACK = {ours: torchs for torchs, ours in _NEIGHBOURS.items()}
SITES = {**UNITS, **CHANNELS, **HEADS, **PATHS, **ALONE}
_OURS: dict[type[Any], type[Any]] = {
    getattr(torch.nn, name): getattr(nn, name) for name in ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d")
}

Plan = Chain | Heads | Branch | _alone.Alone


def connect(
    site: Any,
    plan: Plan,
    groups: int,
    name: str,
    shares: dict[torch.nn.Module, float],
    sparse: bool,
    fixed: bool,
) -> str:
    """Exchange the classes, and say what is spared."""
    was = type(site)
    if not isinstance(site, Site):  # torch.nn's becomes ours first
        become(site, _OURS[was](site.p, site.inplace))
    site.__class__ = SITES[was]
    vars(site)["_was"] = was
    if site._name == Site._name:
        vars(site)["_name"] = name
    if isinstance(plan, _alone.Alone):
        vars(site).update(link=plan.link(site), groups=groups)
        shares.update(plan.shares)
        return plan.spared
    keep = _alone.keeps(site.p)
    if isinstance(plan, Branch):
        way = _branch.BranchLink(site, plan.first, plan.others, plan.ranks)
        by_sample = getattr(site, "mode", "row") != "batch"  # or one decision keeps all of them, or none
        vars(site).update(link=way, fixed=fixed and by_sample)
        plan.first.register_forward_pre_hook(_branch.Enter(way))
        for module in plan.members:
            shares[module] = shares.get(module, 1.0) * keep
        return f"the branch from {_shown(plan.first)} on, for the kept samples"
    if isinstance(plan, Heads):
        link: Link = _attention.HeadLink(site, plan.sources, plan.sinks, plan.layouts, plan.heads)
    else:
        axis = 1 if site._axes else -1
        link = Link(site, plan.sources, plan.sinks, plan.norms, axis)
    vars(site).update(link=link, groups=groups, fixed=fixed)
    for attribute, modules in (("out_link", plan.sources), ("in_link", plan.sinks), ("link", link.norms)):
        for module in modules:
            module.__class__ = _NEIGHBOURS.get(type(module), type(module))
            vars(module)[attribute] = link
            if attribute == "out_link" and sparse:
                vars(module)["sparse_rows"] = True
            if attribute != "link":
                shares[module] = shares.get(module, 1.0) * keep
    before = " and ".join(map(_shown, plan.sources))
    behind = " and ".join(map(_shown, plan.sinks))
    shown = f"{before} before, {behind} behind" if before else f"{behind} behind"
    why = plan.why if isinstance(plan, Heads) else ""
    return f"{shown}; all heads are attended: {why}" if why else shown


def check_classes(model: torch.nn.Module) -> None:
    """Refuse classes that something else has made of thin ones since: to go back would lose what it did.

    Raises:
        RuntimeError: naming the module and its class.
    """
    ours = (*BACK, *SITES.values())
    for name, module in model.named_modules():
        kind = type(module)
        if isinstance(module, ours) and kind not in ours:
            raise RuntimeError(
                f"module {name!r} is a {kind.__name__} since thin(model): take back first what changed its "
                "class, as torch.nn.utils.parametrize.remove_parametrizations does, or call unthin(model) "
                "before the change, as before fully_shard"
            )


_OF_TABLES = ("num_embeddings", "embedding_dim")


def _shown(module: Any) -> str:
    kind = (BACK.get(type(module)) or type(module)).__name__
    sizes = [
        getattr(module, name, None)
        for names in (("in_features", "out_features"), ("in_channels", "out_channels"), _OF_TABLES)
        for name in names
    ]
    return f"{kind}({', '.join(str(size) for size in sizes if size is not None)})"


def share_of(model: torch.nn.Module, shares: dict[torch.nn.Module, float]) -> float:
    weighed = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
    sizes: dict[torch.nn.Module, int] = {
        module: module.weight.numel()
        for module in model.modules()
        if isinstance(module, weighed) and not torch.nn.parameter.is_lazy(module.weight)
    }
    sizes |= _alone.sizes(model)
    whole = sum(sizes.values())
    return sum(size * shares.get(module, 1.0) for module, size in sizes.items()) / whole if whole else 1.0
