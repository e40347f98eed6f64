"""A model changes here between dropout's two scalings without a change of its function."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from thinned.contract import inverse_scale, keep_probability, threshold
from thinned.torch import nn
from thinned.torch._conversion._consumers import Paths, StaysError
from thinned.torch._conversion._report import Model, Rescaling
from thinned.torch._conversion._walk import copied, named, torch_class
from thinned.torch._site import Site

Mode = Literal["inverted", "classic"]


def to_classic(model: Model, *, copy: bool = False) -> Rescaling[Model]:
    """Move the scale of inverted sites from the activations to the weights that follow.

    With q = 1 − p, a mask m and the weights W that a site feeds, an inverted site computes
    W·(m·a/q) + b in training and W·a + b in evaluation. It becomes a classic one, and W becomes V = W/q:
    V·(m·a) + b in training and V·(q·a) + b in evaluation, which are the same functions, mask by mask and to
    rounding. Biases stay. Weights, and so the model, are those that classic dropout would have trained; an
    optimizer's state and its weight decay are not converted with them.

    A site is moved if all of its output reaches linear modules (Linear, Conv, ConvTranspose) by way of
    functions with f(s·x) = s·f(x) only, such as ReLU, pooling, reshaping and other dropout, and if nothing
    else reaches those or uses their weights. This is read from the model's `torch.fx` graphs of training and
    evaluation, with optional arguments absent and present as far as both can be traced. A model that cannot
    be traced is taken by its `nn.Sequential`s, on the trust that its own code calls them as a whole. Other
    sites stay as they are, so that the function is the same in any case.

    Args:
        model: any module; dropout modules of torch.nn have no mode, see `convert`.
        copy: do it to a deep copy, and leave the model as it is.

    Returns:
        A report: `report.model`; `report.moved`, name → weights and factor; `report.left`, name → reason.
        Classic sites are in neither. `print(report)` shows all.

    Source:
        Srivastava et al., "Dropout", JMLR 2014, sections 4 and 10; CONTRACT.md, section 4.

    Example:
        >>> import torch, thinned
        >>> model = torch.nn.Sequential(thinned.torch.nn.Dropout(0.5), torch.nn.Linear(4, 2))
        >>> print(to_classic(model))
        moved: 1
          0: 1.weight × 2
        >>> model[0]
        Dropout(p=0.5, inplace=False, mode='classic')
    """
    return _rescale(model, copy, "inverted", "classic")


def to_inverted(model: Model, *, copy: bool = False) -> Rescaling[Model]:
    """Move the scale of classic sites from the weights that follow to the activations: `to_classic` undone.

    The weights V of classic training become W = q·V with q = 1 − p, which is the network that the dropout
    paper evaluates: `strip` can then remove the sites, and no multiplication is left in evaluation.

    Args:
        model: any module.
        copy: do it to a deep copy, and leave the model as it is.

    Returns:
        A report as `to_classic` gives it, of the same conditions.

    Source:
        Srivastava et al., "Dropout", JMLR 2014, section 4, figure 2.

    Example:
        >>> import torch, thinned
        >>> model = torch.nn.Sequential(thinned.torch.nn.Dropout(0.5, mode="classic"), torch.nn.Linear(4, 2))
        >>> print(to_inverted(model))
        moved: 1
          0: 1.weight × 0.5
    """
    return _rescale(model, copy, "classic", "inverted")


def _rescale(model: Model, copy: bool, source: Mode, target: Mode) -> Rescaling[Model]:
    model = copied(model) if copy else model
    moved: dict[str, str] = {}
    left: dict[str, str] = {}
    done: dict[torch.nn.Module, tuple[dict[str, str], str]] = {}
    paths: Paths | None = None
    for name, site in named(model):
        if site not in done:
            try:
                if not _has_mode(site, source):
                    continue
                paths = paths or Paths(model)
                done[site] = moved, _move(site, paths, target)
            except StaysError as reason:
                done[site] = left, str(reason)
        entries, what = done[site]
        entries[name] = what
    return Rescaling(model=model, moved=moved, left=left)


def _has_mode(site: torch.nn.Module, mode: Mode) -> bool:
    """Tells whether a module is a site of this mode; inverted ones that cannot be classic are an error."""
    kind = type(site)
    if isinstance(site, nn.Dropout) and kind.forward is nn.Dropout.forward:
        return site.mode == mode
    if mode == "classic" or not (isinstance(site, Site) or torch_class(site)):
        return False
    if not isinstance(site, Site):
        raise StaysError(f"it is torch.nn's {kind.__name__}: convert(model) first")
    raise StaysError(f"{kind.__name__} has no classic mode; Dropout has, with any noise_shape")


def _move(site: Any, paths: Paths, target: Mode) -> str:
    if isinstance(site.p, Tensor) or not isinstance(site.p, float):
        raise StaysError(f"p={site.p} is no number, and the weights can take but one")
    drop = threshold(site.p)
    if drop == 2**32:
        raise StaysError("p=1 keeps nothing, and its scale is no number")
    if drop == 0:
        site.mode = target
        return "no weight, since p=0 has the scale 1"
    factor = inverse_scale(drop) if target == "classic" else keep_probability(drop)
    weights = paths.weights_after(site)
    for name, weight in weights.items():
        _check_range(name, weight, factor)
    with torch.no_grad():
        for weight in weights.values():
            weight.mul_(factor)
    site.mode = target
    return f"{', '.join(weights)} × {factor:g}"


def _check_range(name: str, weight: Tensor, factor: float) -> None:
    if weight.numel() and not weight.is_meta:
        largest = float(weight.detach().abs().max())
        if largest * factor > torch.finfo(weight.dtype).max:
            raise StaysError(f"{name} of {largest:g} × {factor:g} does not fit {weight.dtype}")
