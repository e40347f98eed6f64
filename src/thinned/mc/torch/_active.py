"""A context manager turns dropout on in a model that evaluates, and lists what it found."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from thinned._arguments import check_key
from thinned.contract import Key, check_integer
from thinned.mc.torch._sampling import Sampling
from thinned.mc.torch._training_flags import Also, switched
from thinned.torch import _compat, _key
from thinned.torch._conversion import _functional
from thinned.torch._draws import Draw, watching


class Active(Sampling):
    """Holds what `active` gives: the number of the next sample, which may be set, and the last call's sites.

    Attributes:
        key: the samples' key.
        sample: the number of the next call of the model; its sites draw by `key.fold(sample).fold(n)`.

    Example:
        >>> import torch, thinned
        >>> from thinned import results
        >>> from thinned.mc.torch import active
        >>> model = torch.nn.Dropout(0.5).eval()
        >>> with active(model, key=thinned.Key(0)) as held:
        ...     _ = model(torch.ones(2, 3))
        >>> isinstance(held, results.Active), held.sample, len(held.sites)
        (True, 1, 1)
    """

    def __init__(self, model: torch.nn.Module, key: Key) -> None:
        super().__init__(model)
        self.key = key
        self.sample = 0
        self.start(key.fold(0))
        self._left: list[None] = []  # the same list in states that are computed again

    @property
    def sites(self) -> list[Draw]:
        """The sites that the last call of the model reached, in order of execution."""
        return list(self.found)

    def begin(self) -> None:
        """A call of the model begins."""
        super().begin()
        self.start(self.key.fold(check_integer("sample", self.sample)))
        self.sample += 1

    def next_key(self, name: str) -> Key | Tensor:
        """Returns the key of the next site."""
        if self._left:
            raise RuntimeError(
                "a checkpoint is computed again after thinned.mc.active was left, and its modules evaluate: "
                "call backward inside"
            )
        return super().next_key(name)


@contextmanager
def active(model: torch.nn.Module, *, key: Key | None = None, also: Also = ()) -> Iterator[Active]:
    """Run a model with its dropout on and everything else in evaluation.

    Every stochastic call in the model's forward pass draws, however it is reached: dropout modules, torch's
    and ours; functions called with `training=False`; the probabilities of `scaled_dot_product_attention`; the
    numbers that `MultiheadAttention`, `LSTM`, `GRU` and `RNN` hold; random numbers that a forward pass draws
    itself. torch leaves its fused transformer path, which has no dropout. Batch normalisation evaluates, and
    no buffer moves. Compiled code runs as it was written. What was set is put back, whatever happens inside.

    Call number k of the model draws by `key.fold(k)`: at its n-th site, by `key.fold(k).fold(n)` and the
    positions in the site's own tensor. Those of a batch depend on the batch, as in training; those of
    `predict` do not.

    Args:
        model: any module. It may be in training or in evaluation: neither matters inside.
        key: of the masks. Without one, one is drawn from torch's default CPU generator on entry.
        also: more modules that drop only in training, by name or class: drop paths written by hand that no
            name or rate betrays. They are told that they train; batch normalisation among them is not.

    Yields:
        `Active`: `sample`, the number of the next call, and `sites`, those of the last call.

    Raises:
        TypeError: `model must be a torch.nn.Module, got …`; `key must be a thinned.Key, got …`.
        ValueError: `also=… is no module of the model: …`.
        RuntimeError: where another thread is inside `active` with the model, or calls it meanwhile.

    Source:
        Gal and Ghahramani, "Dropout as a Bayesian Approximation", ICML 2016.

    Example:
        >>> import torch, thinned
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5)).eval()
        >>> x = torch.ones(2, 4)
        >>> with active(model, key=thinned.Key(0)):
        ...     a, b = model(x), model(x)
        >>> torch.equal(a, b), torch.equal(model(x), model(x)), model[1].training
        (False, True, False)
    """
    check_model(model)
    root = Key(*_key.as_words(None)) if key is None else check_key(key)
    with switched(model, also, "active"), watching(), Active(model, root) as run:
        try:
            yield run
        finally:
            run._left.append(None)


def sites(model: torch.nn.Module, *args: Any, also: Also = (), **kwargs: Any) -> list[Draw]:
    """List what draws in one forward pass under `active`, in order, and the rates that nothing used.

    Args:
        model: any module; it stays as it is.
        args: the model's arguments, as for a call.
        also: as in `active`.
        kwargs: the model's keyword arguments.

    Returns:
        A `Draw` for each call that drew: `name` of the module, `kind`, `p`, `shape`, and `how` it was
        reached. Behind them, with `reached=False`, the rates of modules in which nothing drew: a branch that
        was not taken, or a formulation that is not known; name such a module in `also`.

    Raises:
        TypeError: `model must be a torch.nn.Module, got …`; whatever the model raises.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5))
        >>> for site in sites(model, torch.ones(2, 4)):
        ...     print(site)
        1: dropout p=0.5, the module Dropout
    """
    check_model(model)
    state = torch.get_rng_state()
    try:
        with active(model, key=Key(0), also=also) as run, torch.no_grad():
            model(*args, **kwargs)
    finally:
        torch.set_rng_state(state)
    return [*run.sites, *unreached(model, run.sites)]


def unreached(model: torch.nn.Module, reached: list[Draw]) -> list[Draw]:
    """The rates of modules in whose forward pass, or below which, nothing drew."""
    names = {site.name for site in reached}
    found = []
    for name, module in model.named_modules():
        inner = (part == name or part.startswith(f"{name}.") or not name for part in names)
        if any(inner):
            continue
        for attribute, p in held(module).items():
            how = f"nothing drew by its {attribute}"
            found.append(Draw(name, type(module).__name__, p, (), how, reached=False))
    return found


def held(module: torch.nn.Module) -> dict[str, float]:
    """A module's drop probabilities: of a layer of torch's, or whatever else has such a name."""
    if isinstance(module, torch.nn.RNNBase) and module.num_layers == 1:
        return {}
    numbers = _functional.rates(module)
    if isinstance(module, _compat.DROPOUTS) and isinstance(module.p, float) and module.p:
        numbers["p"] = module.p
    return {name: p for name, p in numbers.items() if not math.isnan(p)}


def check_model(model: Any) -> None:
    """A torch module."""
    if not isinstance(model, torch.nn.Module):
        raise TypeError(
            f"model must be a torch.nn.Module, got {type(model).__name__}: thinned.mc.keras and "
            "thinned.mc.jax have a predict for theirs"
        )
