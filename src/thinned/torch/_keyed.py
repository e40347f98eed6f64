"""A model gets its keys here: one for each site, by its name, folded by the step."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from thinned.contract import Key, check_integer
from thinned.torch import _compat, _unkeyed
from thinned.torch._counters import Clock, number
from thinned.torch._site import Site

Model = TypeVar("Model", bound=torch.nn.Module)


def keyed(
    model: Model,
    seed: int | Key | None,
    *,
    calls: Literal["count"] | None = None,
    check: Any = None,
) -> Model:
    """Give every site of a model its key: a mask is a function of seed, name and step, and nothing else.

    A site's key is `Key(seed).fold(qualified name).fold(step)`. There is no generator state to save: a run
    that is resumed at step n has the masks that it would have had. A site that is called more than once in
    one step draws the same mask each time, unless each call says which it is, `layer(x, call=1)`, or `calls`
    has them counted.

    Args:
        model: its sites are the modules of `thinned.torch.nn`, found by `named_modules`; a module that has
            two names goes by its first.
        seed: integer in [0, 2^64), or a Key, which then stands for Key(seed); None takes all keys away.
        calls: "count" numbers the calls within a step: call n, from 0, of a site in the f-th forward pass of
            the model, from 1, is `call=f * 2**20 + n`. What an activation checkpoint of torch.utils computes
            again has the number that it had. Forward passes are those of `model`, by a hook; those that
            evaluate are not counted.
        check: inputs of the model, a tensor, a tuple of positional arguments or a dict of named ones: it is
            run once, in training and without gradients, and whatever draws without a key is named in a
            warning. Buffers, generators and modes are then what they were.

    Returns:
        The model itself, at step 0.

    Raises:
        TypeError: `seed must be an integer, got …`.
        ValueError: `seed must be in [0, 2^64), got …`; `model has no site …`; `calls must be "count" or None,
            got …`; `check: … has no values yet …`.

    Warns:
        UserWarning: where torch.nn's own dropout stands beside ours, modules or numbers that they hold: those
            have no key. With `check`, each draw that no key reaches. In a later call, once, where one mask is
            drawn for two calls that autograd records: `… has drawn …`.

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
    if calls not in (None, "count"):
        raise ValueError(f'calls must be "count" or None, got {calls!r}')
    root = seed if seed is None or isinstance(seed, Key) else Key(seed)
    sites = sites_of(model)
    if root is not None and check is None and (others := _unkeyed.keyless(model)):
        warnings.warn(
            f"{', '.join(others)} draw from torch's generator, not by a key: convert(model) exchanges "
            "dropout modules and says what to do about others; within thinned.torch.keys(model, seed, step=n)"
            " all have one",
            stacklevel=2,
        )
    _forget_passes(model)
    clock = Clock()
    for name, site in sites.items():
        site.give_key(None if root is None else root.fold(name), clock, name or type(site).__name__)
    if check is not None:
        _unkeyed.warn_of_draws(model, check)
    if calls and root is not None:
        clock.counting = True
        model.register_forward_pre_hook(clock.begin)
    return model


def set_step(model: Model, n: int | Tensor) -> Model:
    """Set the step of every site: of its key, and of its schedule if p is one.

    The step is held in a tensor that compiled code reads, so that all steps run the same code.

    Args:
        model: keyed, or with sites whose p is a `thinned.torch.schedules.Schedule`.
        n: integer in [0, 2^60), or an integer tensor of one element.

    Returns:
        The model itself.

    Raises:
        TypeError: `n must be an integer, got …`.
        ValueError: `n must be in [0, 2^60), got …`; `n must be one integer, got a tensor of shape …`; `model
            has no site …`.

    Example:
        >>> import torch, thinned
        >>> from thinned.torch.schedules import Late
        >>> layer = thinned.torch.nn.Dropout(Late(0.5, after=10))
        >>> bool((set_step(layer, 9)(torch.ones(100)) == 0).any())
        False
        >>> bool((set_step(layer, 10)(torch.ones(100)) == 0).any())
        True
    """
    if isinstance(n, Tensor) and n.numel() != 1:
        raise ValueError(f"n must be one integer, got a tensor of shape {tuple(n.shape)}")
    step = check_integer("n", n.item() if isinstance(n, Tensor) else n)
    if not 0 <= step < 2**60:
        raise ValueError(f"n must be in [0, 2^60), got {step}")
    for clock in _clocks(model):
        clock.set(step)
    return model


def count_steps(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Counting:
    """Set the step after each step of an optimizer: the loop of a training run then says nothing of steps.

    It counts on from the step that the model is at. A step that the optimizer does not take, as a gradient
    scaler may decide, is not counted: the next pass has its masks again, of which the first one is warned.
    With several optimizers, count those of one.

    Args:
        model: keyed, or with sites whose p is a schedule.
        optimizer: whose steps are counted, by `register_step_post_hook`.

    Returns:
        A handle; `remove()` ends the counting.

    Raises:
        TypeError: `optimizer must be a torch.optim.Optimizer, got …`.
        ValueError: `model has no site …`.

    Example:
        >>> import torch, thinned
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 4), thinned.torch.nn.Dropout(0.5))
        >>> optimizer = torch.optim.SGD(keyed(model, seed=1).parameters(), lr=0.1)
        >>> handle = count_steps(model, optimizer)
        >>> for _ in range(3):
        ...     model(torch.ones(2, 4)).sum().backward()
        ...     optimizer.step()
        >>> int(model[1].step)
        3
    """
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}")
    for clock in _clocks(model):
        clock.told = True

    def begin(*_: Any) -> None:
        # A closure may be called many times in one step, which is to have one mask.
        for clock in _clocks(model):
            clock.quiet = True

    def end(*_: Any) -> None:
        for clock in _clocks(model):
            clock.quiet = False
            clock.set(number(clock.step) + 1)

    return Counting(optimizer.register_step_pre_hook(begin), optimizer.register_step_post_hook(end))


class Counting:
    """Holds what `count_steps` gives: `remove()` ends it.

    Example:
        >>> counting = Counting()
        >>> counting.remove()
    """

    def __init__(self, *handles: RemovableHandle) -> None:
        self._handles = handles

    def remove(self) -> None:
        """Count no more."""
        for handle in self._handles:
            handle.remove()


@contextmanager
def unnoticed(model: torch.nn.Module) -> Iterator[None]:
    """Calls that are no steps of a training run: no warning of masks that are drawn twice."""
    clocks = {site._clock for site in model.modules() if isinstance(site, Site) and site._clock is not None}
    before = {clock: clock.quiet for clock in clocks}
    for clock in clocks:
        clock.quiet = True
    try:
        yield
    finally:
        for clock, quiet in before.items():
            clock.quiet = quiet
            clock.forget()


def sites_of(model: torch.nn.Module) -> dict[str, Site]:
    """Every site by its name; a ValueError where there is none."""
    sites = {name: module for name, module in model.named_modules() if isinstance(module, Site)}
    if not sites:
        raise ValueError(
            "model has no site: no module of it is of thinned.torch.nn; convert(model) exchanges torch.nn's"
        )
    return sites


def check_keyed(model: torch.nn.Module) -> None:
    """A ValueError where no site has a key: the step would change no mask."""
    if all(site.key is None for site in sites_of(model).values()):
        raise ValueError(
            "model has no key: its masks are drawn anew each time. Call keyed(model, seed) first"
        )


def _clocks(model: torch.nn.Module) -> list[Clock]:
    """The clocks of a model's sites, all of which have one then."""
    sites = sites_of(model).values()
    fresh = Clock()
    for site in sites:
        if site._clock is None:
            site.give_key(site.key, fresh)
    return list(dict.fromkeys(site._clock for site in sites if site._clock is not None))


def _forget_passes(model: torch.nn.Module) -> None:
    """Remove the hook of an earlier counting."""
    for module in model.modules():
        hooks = _compat.forward_pre_hooks_of(module)
        for number_of, hook in list(hooks.items()):
            if isinstance(getattr(hook, "__self__", None), Clock):
                del hooks[number_of]
