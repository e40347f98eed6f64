"""Models whose dropped units, channels and branches are not computed."""

from __future__ import annotations

from typing import Any

import torch

from thinned.contract import check_integer
from thinned.torch import _compat, nn
from thinned.torch._conversion._report import Model
from thinned.torch._conversion._walk import copied, foreign, named, torch_class
from thinned.torch._site import Site
from thinned.torch._thin import _alone, _branch, _connection, _spare, _units
from thinned.torch._thin._branches import Branch, branch
from thinned.torch._thin._chains import Chain, chain
from thinned.torch._thin._graphs import Graphs, StaysError, drops, graphs, is_site
from thinned.torch._thin._heads import Heads, heads
from thinned.torch._thin._report import Thinning


def thin(
    model: Model, groups: int = 1, *, fixed: bool = False, copy: bool = False, sparse: bool = False
) -> Thinning[Model]:
    """Have a model's dropout not computed: each training step runs a smaller network.

    Sites and the modules around them are exchanged in place. Between two linear maps, of units or of
    channels, a site's decision is from now on **shared**: by the whole batch, or by each of `groups` parts
    of it. What it drops is then neither computed by the map before it nor read by the one behind. `DropPath`
    and `StochasticDepth` keep their decision for each sample, and their branch runs for the kept samples
    only.

    - *Units*: Linear, functions of single elements, Dropout, Linear, in chains of any length; products of two
      maps, as of gated layers; where no Linear stands before it, the site takes what it keeps out of its
      input.
    - *Channels*: Conv, batch normalisation that evaluates, functions of single channels, Dropout1d to 3d,
      Conv.
    - *Branches*: DropPath and StochasticDepth behind a branch that begins with one module.

    The masks are those of the contract: a unit site's is that of a noise shape with 1 in every dimension but
    that of the units, and `groups` in the first. Within `thinned.torch.masked()`, in evaluation, and where a
    tool traces or transforms the model (torch.compile, torch.export, torch.func), all is computed and then
    masked. Outputs and gradients are equal to rounding; gradients are dense, and 0 where nothing was kept.

    What is thin is read from the model's `torch.fx` graphs, of the whole model or of the parts that can be
    traced. Modules stay the same objects, and `state_dict` is the same.

    Args:
        model: any module.
        groups: parts of the batch, at least 1, each with a thinned network of its own. More are nearer to
            one mask a sample, and cost more.
        fixed: keep a fixed number of the n units or channels of a site in each group, and of the n samples of
            a branch: (1 − p)·n to the nearest integer and at least one, those whose numbers u(i) of the
            contract are largest. This is not the contract's Bernoulli mask: units are not dropped
            independently of each other. They are multiplied by n over the number that is kept. Shapes do not
            change with the mask, and compiled code is thinned too, one graph for all steps.
        copy: do it to a deep copy, and leave the model as it is.
        sparse: gradients of weights are sparse tensors of the kept rows, as of `torch.nn.Embedding`. SGD
            without weight decay then updates these rows alone, exactly. Optimizers to which other rows
            matter refuse them: AdamW, and SGD with weight decay.

    Returns:
        A report: `report.thinned`, name → what is spared; `report.share`, the expected share of
        multiplications left; `report.left`, name → why a site stays as it is; `report.model`.
        `print(report)` shows all.

    Raises:
        TypeError: `groups must be an integer, got …`.
        ValueError: `groups must be at least 1, got …`.

    Source:
        Graham, Reizenstein and Robinson, "Efficient batchwise dropout training using submatrices", 2015;
        Gao Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016.

    Example:
        >>> import torch
        >>> layers = [torch.nn.Linear(8, 64), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(64, 64)]
        >>> print(thin(torch.nn.Sequential(*layers)))
        thinned: 1
          2: Linear(8, 64) before, Linear(64, 64) behind
        multiplications left, expected: 50%
    """
    if check_integer("groups", groups) < 1:
        raise ValueError(f"groups must be at least 1, got {groups}")
    model = copied(model) if copy else model
    names: dict[torch.nn.Module, str] = {}
    for name, module in named(model):
        names.setdefault(module, name)
    found = graphs(model)
    done: dict[torch.nn.Module, _connection.Plan] = {}
    left: dict[str, str] = {}
    for module, name in names.items():
        if not is_site(module) or isinstance(module, (_units.ThinSite, _branch.ThinPath)):
            continue
        try:
            done[module] = _plan(module, found, groups, fixed)
        except StaysError as reason:
            left[name] = str(reason)
    left |= _holders(names)
    for site, plan in list(done.items()):
        if isinstance(plan, Branch) and (inside := _by_sample(plan, done, groups)):
            left[names[site]] = (
                f"its branch holds {', '.join(names[other] for other in inside)}, with a mask of positions "
                "in the whole batch: set its p to 0"
            )
            del done[site]
        elif isinstance(plan, Branch) and groups > 1 and (outside := _reads_groups(plan, done)):
            left[names[site]] = (
                f"its branch reads {names[outside]}, whose groups are of the whole batch: take groups=1"
            )
            del done[site]
    shares: dict[torch.nn.Module, float] = {}
    places = {child: (parent, name) for parent in reversed(names) for name, child in parent.named_children()}
    thinned = {
        names[site]: _connection.connect(site, plan, groups, names[site], shares, sparse, fixed)
        for site, plan in done.items()
    }
    for site, plan in done.items():
        members = (*getattr(plan, "members", ()), site)
        link = vars(site)["link"]
        link.places = tuple((*places[module], module) for module in members if module in places)
    return Thinning(model=model, thinned=thinned, left=left, share=_connection.share_of(model, shares))


def unthin(model: Model) -> Model:
    """Take `thin` back, in place: every module is again of the class that it was of.

    Masks are again each layer's own. Keys, steps and probabilities stay.

    Raises:
        RuntimeError: `module … is a ParametrizedThinLinear since thin(model): …`; nothing is changed then.

    Example:
        >>> import torch
        >>> layers = [torch.nn.Linear(8, 64), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(64, 2)]
        >>> report = thin(torch.nn.Sequential(*layers))
        >>> unthin(report.model)[0]
        Linear(in_features=8, out_features=64, bias=True)
    """
    _connection.check_classes(model)
    for module in model.modules():
        state = vars(module)
        before = _compat.HOOKS["forward_pre"](module)
        for number, hook in list(before.items()):
            if isinstance(hook, _branch.Enter):
                del before[number]
        if isinstance(module, (_units.ThinSite, _branch.ThinPath)):
            module.__class__ = state.pop("_was")
            for name in ("link", "groups", "fixed"):
                state.pop(name, None)
        elif type(module) in _connection.BACK:
            module.__class__ = _connection.BACK[type(module)]
            for weight in module.parameters(recurse=False):
                _spare.forget(weight)
            for name in ("link", "out_link", "in_link", "sparse_rows"):
                state.pop(name, None)
    return model


def _plan(site: torch.nn.Module, found: Graphs, groups: int, fixed: bool) -> _connection.Plan:
    """Gives what is around a site, the same in all graphs."""
    kind = type(site)
    torchs = torch_class(site)
    if kind not in _connection.SITES:
        if not isinstance(site, Site) and torchs is not None and (problem := foreign(site, torchs)):
            raise StaysError(problem)
        if kind is nn.DropoutWrapper:
            raise StaysError(
                "DropoutWrapper is called once for each time by a loop, each call with its own decision: "
                "nn.LSTM(…, hidden_p=…) shares it over time"
            )
        raise StaysError(f"{kind.__name__} drops nothing that is not to be computed")
    if groups > 1 and not getattr(site, "batch_first", True):
        raise StaysError("batch_first=False: groups are parts of the first dimension, which is time")
    noise = getattr(site, "noise_shape", None)
    if noise is not None and (groups > 1 or noise[-1] == 1 or any(one != 1 for one in noise[:-1])):
        raise StaysError(f"its noise_shape {noise} is not one decision for each unit of the whole batch")
    if kind in _connection.ALONE:
        return _alone.plan(site, groups, fixed)
    find = branch if kind in _connection.PATHS else heads if kind in _connection.HEADS else chain
    more = {branch: (), heads: (groups,), chain: (_axes_of(kind), groups)}[find]
    plans: list[_connection.Plan] = [
        find(graph, site, *more) for graph in found.of(site) if graph.calls_of(site)
    ]
    if any(plan != plans[0] for plan in plans):
        raise StaysError("training and evaluation, or optional arguments, lead from it to other places")
    return plans[0]


def _holders(names: dict[torch.nn.Module, str]) -> dict[str, str]:
    """Gives layers of torch.nn that drop inside of them, by a number that they hold."""
    found: dict[str, str] = {}
    for module, name in names.items():
        kinds = (torch.nn.RNNBase, torch.nn.MultiheadAttention)
        if isinstance(module, kinds) and not isinstance(module, Site) and module.dropout:
            found[name] = (
                f"dropout={module.dropout} of torch.nn's {type(module).__name__} decides for each element: "
                "thinned.torch.convert(model) makes it a layer that may share decisions"
            )
    return found


def _axes_of(kind: type[Any]) -> int:
    return _connection.CHANNELS[kind]._axes if kind in _connection.CHANNELS else 0


def _by_sample(plan: Branch, done: dict[torch.nn.Module, Any], groups: int) -> list[torch.nn.Module]:
    """Tells which sites in a branch drop, and do not share their decision with all samples."""
    return [
        other
        for other in plan.others
        if (groups > 1 or not isinstance(done.get(other), (Chain, Heads, _alone.Alone))) and drops(other)
    ]


def _reads_groups(plan: Branch, done: dict[torch.nn.Module, Any]) -> torch.nn.Module | None:
    """Gives the site of units from outside of a branch that a module in it reads."""
    chains = ((site, other) for site, other in done.items() if isinstance(other, (Chain, Heads)))
    return next((site for site, other in chains if plan.members.intersection(other.sinks)), None)
