"""A model's keys: one for each site, by its name, folded by the step."""

from __future__ import annotations

import warnings
from typing import TypeVar

import torch
from torch import Tensor

from thinned.contract import Key, check_integer
from thinned.torch._site import Site

Model = TypeVar("Model", bound=torch.nn.Module)


def keyed(model: Model, seed: int | Key | None) -> Model:
    """Give every site of a model its key: a mask is a function of seed, name and step, and nothing else.

    A site's key is `Key(seed).fold(qualified name).fold(step)`. There is no generator state to save: a run
    that is resumed at step n has the masks that it would have had. A site that is called more than once in
    one step draws the same mask each time, unless each call says which it is: `layer(x, call=1)`.

    Args:
        model: its sites are the modules of `thinned.torch.nn`, found by `named_modules`; a module that has
            two names goes by its first.
        seed: integer in [0, 2^64), or a Key, which then stands for Key(seed); None takes all keys away.

    Returns:
        The model itself, at step 0.

    Raises:
        TypeError: `seed must be an integer, got …`.
        ValueError: `seed must be in [0, 2^64), got …`; `model has no site …`.

    Warns:
        UserWarning: where torch.nn's own dropout modules stand beside ours: those have no key.

    Source:
        CONTRACT.md, section 5.

    Example:
        >>> import torch, thinned
        >>> model = keyed(torch.nn.Sequential(thinned.torch.nn.Dropout(0.5)), seed=1)
        >>> a = model(torch.ones(100))
        >>> b = model(torch.ones(100))
        >>> c = set_step(model, 1)(torch.ones(100))
        >>> torch.equal(a, b), torch.equal(a, c)
        (True, False)
    """
    root = seed if seed is None or isinstance(seed, Key) else Key(seed)
    sites = sites_of(model)
    others = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.modules.dropout._DropoutNd) and not isinstance(module, Site)
    ]
    if others:
        warnings.warn(
            f"{', '.join(others)} draw from torch's generator, not by a key: pass convert(model)",
            stacklevel=2,
        )
    step = torch.zeros((), dtype=torch.int64)
    for name, site in sites.items():
        site.give_key(None if root is None else root.fold(name), step)
    return model


def set_step(model: Model, n: int | Tensor) -> Model:
    """Set the step of every site: of its key, and of its schedule if p is one.

    The step is held in a tensor that compiled code reads, so that all steps run the same code.

    Args:
        model: keyed, or with sites whose p is a `thinned.torch.schedules.Schedule`.
        n: integer in [0, 2^60), or an integer tensor of no dimension.

    Returns:
        The model itself.

    Raises:
        TypeError: `n must be an integer, got …`.
        ValueError: `n must be in [0, 2^60), got …`; `model has no site …`.

    Example:
        >>> import torch, thinned
        >>> from thinned.torch.schedules import Late
        >>> layer = thinned.torch.nn.Dropout(Late(0.5, after=10))
        >>> bool((set_step(layer, 9)(torch.ones(100)) == 0).any())
        False
        >>> bool((set_step(layer, 10)(torch.ones(100)) == 0).any())
        True
    """
    number = check_integer("n", n.item() if isinstance(n, Tensor) else n)
    if not 0 <= number < 2**60:
        raise ValueError(f"n must be in [0, 2^60), got {number}")
    fresh = torch.zeros((), dtype=torch.int64)
    for site in sites_of(model).values():
        if site.step is None:
            site.step = fresh
        site.step.fill_(number)
    return model


def sites_of(model: torch.nn.Module) -> dict[str, Site]:
    """Every site by its name; a ValueError where there is none."""
    sites = {name: module for name, module in model.named_modules() if isinstance(module, Site)}
    if not sites:
        raise ValueError(
            "model has no site: no module of it is of thinned.torch.nn; convert(model) exchanges torch.nn's"
        )
    return sites
