"""`steps` loops over batches, tells a keyed model the number of each, and can be saved in its middle."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import RandomSampler, SubsetRandomSampler, WeightedRandomSampler

from thinned.torch._keyed import check_keyed, set_step
from thinned.torch._ranks import set_rank

Batch = TypeVar("Batch")

_SHUFFLING = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)
_STATE = ("epoch", "batch", "step", "batches", "batch_size")


class Steps(Generic[Batch]):
    """Batches of a training run, epoch after epoch: in front of each, `set_step(model, step)`.

    The step counts batches since the run began: with accumulated gradients every one of the parts has masks
    of its own, and a resumed run goes on counting where it was saved. `state_dict` and `load_state_dict` are
    for the checkpoint; `accelerator.register_for_checkpointing(steps)` calls them. After loading, the first
    loop skips the batches that the saved epoch had had already.

    The order of batches is the loader's business. Where the loader, its sampler or its batch sampler has a
    `set_epoch`, it is called with the epoch. An order that a generator shuffles is another one in a resumed
    epoch, of which a warning tells.

    Args:
        model: keyed.
        batches: a DataLoader, or whatever else can be iterated once for each epoch.
        rank: of this process, where several have equal parts of each batch: see `set_rank`.
        world: how many processes there are.

    Attributes:
        epoch: number of the present epoch, or after its end of the next.
        batch: how many batches of this epoch were handed out.
        step: how many were handed out in all.

    Raises:
        TypeError: `batches must be iterable once for each epoch, …`; `model must be a torch.nn.Module, …`.
        ValueError: `model has no site …`; `model has no key …`; `rank must be in …`; from `load_state_dict`,
            `the saved run had …`; from a resumed loop, `batches ended after …`.
        RuntimeError: `this loop is over …`, if another one was begun, or a state loaded, in its middle.

    Example:
        >>> import torch, thinned
        >>> from thinned.torch import Steps, keyed, nn
        >>> model = keyed(torch.nn.Sequential(nn.Dropout(0.5)), seed=1)
        >>> steps = Steps(model, [torch.ones(4)] * 3)
        >>> for epoch in range(2):
        ...     for x in steps:
        ...         y = model(x)
        ...     saved = steps.state_dict()
        >>> saved
        {'epoch': 2, 'batch': 0, 'step': 6, 'batches': 3, 'batch_size': None}
    """

    def __init__(
        self, model: torch.nn.Module, batches: Iterable[Batch], *, rank: int = 0, world: int = 1
    ) -> None:
        if not hasattr(batches, "__iter__") or hasattr(batches, "__next__"):
            raise TypeError(
                f"batches must be iterable once for each epoch, got {type(batches).__name__}: "
                "pass a DataLoader"
            )
        if not isinstance(model, torch.nn.Module):
            raise TypeError(
                f"model must be a torch.nn.Module, got {type(model).__name__}: "
                "several are one in a torch.nn.ModuleList"
            )
        check_keyed(model)
        self.model, self.batches = model, batches
        self.epoch = self.batch = self.step = self._skip = self._loops = 0
        if world != 1 or rank != 0:
            set_rank(model, rank, world)

    def __iter__(self) -> Iterator[Batch]:
        """The batches of one epoch, or what a resumed one has left."""
        self._loops += 1
        own, skip, number = self._loops, self._skip, -1
        self._skip = 0
        if self.batch and not skip:  # the last loop was left by `break`
            self.epoch, self.batch = self.epoch + 1, 0
        told = _set_epoch(self.batches, self.epoch)
        if skip and not told and (shuffled := _shuffled(self.batches)):
            warnings.warn(shuffled, stacklevel=2)
        for number, batch in enumerate(self.batches):
            if number < skip:
                continue
            set_step(self.model, self.step)
            self.batch, self.step = number + 1, self.step + 1
            yield batch
            if own != self._loops:
                raise RuntimeError(
                    "this loop is over: another one was begun, or a state loaded, since its last batch. "
                    "A run has one loop at a time; evaluate by a loader of its own"
                )
        if number + 1 < skip:
            raise ValueError(
                f"batches ended after {number + 1}, and the saved run had had {skip} of this epoch: resume "
                "with the batch size, data and number of processes of the saved run"
            )
        self.epoch, self.batch = self.epoch + 1, 0

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]

    def state_dict(self) -> dict[str, Any]:
        """Tells where the run is: after the batches that were handed out so far."""
        known = {"batches": self._known(), "batch_size": _batch_size(self.batches)}
        return {"epoch": self.epoch, "batch": self.batch, "step": self.step, **known}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        if absent := set(_STATE) - set(state):
            raise ValueError(f"state must be from Steps.state_dict(), and lacks {', '.join(sorted(absent))}")
        self._check_same("batches in an epoch", state["batches"], self._known())
        self._check_same("inputs in a batch", state["batch_size"], _batch_size(self.batches))
        self.epoch, self.batch, self.step = state["epoch"], state["batch"], state["step"]
        self._skip = self.batch
        self._loops += 1

    @staticmethod
    def _check_same(what: str, saved: int | None, known: int | None) -> None:
        if saved != known:
            raise ValueError(
                f"the saved run had {saved} {what}, and this loader has {known}: the step "
                "counts batches, so resume with the batch size, data and number of processes of the saved run"
            )

    def _known(self) -> int | None:
        try:
            return len(self)
        except TypeError:  # of data without a length, for which a DataLoader has a __len__ all the same
            return None


def _batch_size(batches: Any) -> int | None:
    sizes = (getattr(one, "batch_size", None) for one in (batches, getattr(batches, "batch_sampler", None)))
    return next((size for size in sizes if size is not None), None)


def _parts(batches: Any) -> list[Any]:
    """The loader and what gives it an order."""
    batch_sampler = getattr(batches, "batch_sampler", None)
    of_batches = getattr(batch_sampler, "sampler", None)
    return [batches, getattr(batches, "sampler", None), batch_sampler, of_batches]


def _set_epoch(batches: Any, epoch: int) -> bool:
    found = {id(one): one for one in _parts(batches) if hasattr(one, "set_epoch")}
    for one in found.values():
        one.set_epoch(epoch)
    return bool(found)


def _shuffled(batches: Any) -> str | None:
    """Gives what to say where the order of a resumed epoch is another."""
    if not any(isinstance(one, _SHUFFLING) for one in _parts(batches)):
        return None
    return (
        "this epoch is resumed in its middle, and its loader shuffles by a generator: the batches come in "
        "another order than in the run that was saved. Give it a sampler with set_epoch, whose order is a "
        "function of the epoch, such as torch's DistributedSampler or accelerate's SeedableRandomSampler"
    )
