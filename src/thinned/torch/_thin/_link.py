"""What modules around a thin site share: its decision in this call, and who has taken it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from thinned.torch import _compat, _recomputed
from thinned.torch._draws._mode import THREAD
from thinned.torch._observers import SWITCH, masks_are_wanted, samples_are_drawn
from thinned.torch._site import traced
from thinned.torch._thin._kept import Kept


def unwatched() -> bool:
    """Whether no tool looks at this call, and no checkpoint: what is asked of those is asked once."""
    if torch.compiler.is_compiling():  # the compiler does not know the modes that are asked for below
        return False
    watched = (
        THREAD.entered
        or SWITCH.masks
        or _compat.function_modes()
        or _compat.dispatch_modes()
        or _compat.transforms_active()
        or _compat.tracing_state() is not None
    )
    return not watched and _compat.outside_checkpoints()


_PLAIN = (Tensor, torch.nn.Parameter)


class _Now(threading.local):
    kept: Kept | None = None  # of the call under way
    key: Any = None  # that a branch drew when it began
    unread: tuple[torch.nn.Module, ...] = ()  # modules behind that have not read it


class _Frames:
    """The same for compiled code, which forgets between its frames what it wrote to a thread's own.

    A graph that is broken between a site and its neighbours is therefore for one thread at a time.
    """

    kept: Kept | None = None
    unread: tuple[torch.nn.Module, ...] = ()


class Link:
    """A site with the modules before it, which compute what it keeps, and those behind, which read no more.

    A cycle is: the first module before the site draws, the site lets pass, those behind it read. Each step
    begins where the one before it ended in the same thread, so that a recomputation is a cycle of its own. A
    checkpoint that begins within a cycle goes by what was kept in its first run. After the last of those
    behind has read, nothing is kept: a call of one alone is an ordinary one.

    Args:
        site: the layer that decides.
        sources: modules whose rows are the site's units, in the order of their calls; none where the site
            itself takes what it keeps out of its input.
        sinks: modules whose columns they are.
        norms: modules between, with parameters for each unit, which have to evaluate.
        axis: of the units in a tensor.

    Attributes:
        places: the modules around the site, and where each is to stand: its parent, and its name there.
    """

    def __init__(
        self,
        site: Any,
        sources: tuple[torch.nn.Module, ...] = (),
        sinks: tuple[torch.nn.Module, ...] = (),
        norms: tuple[torch.nn.Module, ...] = (),
        axis: int = -1,
    ) -> None:
        self.site, self.sources, self.sinks, self.norms, self.axis = site, sources, sinks, norms, axis
        self.places: tuple[tuple[torch.nn.Module, str, torch.nn.Module], ...] = ()
        self._now, self._frames = _Now(), _Frames()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_now", "_frames")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _now=_Now(), _frames=_Frames())

    def begin(
        self, module: torch.nn.Module, size: int, like: Tensor, free: bool | None = None
    ) -> Kept | None:
        """What a module before the site is to compute; None for everything.

        Args:
            module: the one that asks.
            size: how many units there are.
            like: its input.
            free: `unwatched()`, where it is known for this call of the module.
        """
        free = unwatched() if free is None else free
        if self.sources and module is not self.sources[0]:
            kept = self.at(module, free)
        else:
            self._begin(None)
            kept = None
            if self._applies(like, free):
                if free or not torch.compiler.is_compiling():
                    self._check_places()
                kept = self._drawn(size, free)
                self._begin(kept)
        return None if kept is None or kept.whole else kept

    def _drawn(self, size: int, free: bool) -> Kept | None:
        if free:
            return self.site.draw(size, free)  # type: ignore[no-any-return]
        with as_site(self.site):
            drawn = self.site.draw(size)  # in a recomputation too, so that generators move on as before
        return self._as_before(drawn)

    def given(self, output: Tensor, kept: Kept) -> Any:
        """What a module before the site hands on."""
        return output

    def at(self, module: torch.nn.Module, free: bool | None = None) -> Kept | None:
        """What is kept in the call under way, or in that which a checkpoint computes again."""
        if unwatched() if free is None else free:
            return self._under_way().kept if self.site.training else None
        if traced():
            return self._frames.kept if self._is_static() else None

        def now() -> Kept | None:
            kept = self._under_way().kept  # of a pass that failed half-way too
            return None if kept is None or masks_are_wanted() or not is_on(self.site) else kept

        return _recomputed.held((self, module), now, now)

    def _as_before(self, drawn: Kept | None) -> Kept | None:
        """What the call that a checkpoint computes again kept, though p is another by now."""
        if traced():
            return drawn
        return _recomputed.held((self, "drawn"), lambda: drawn, lambda: drawn)

    def end(self) -> None:
        """Nothing is kept: all that were to read it have."""
        self._under_way().kept = None

    def _begin(self, kept: Kept | None) -> None:
        room: _Now | _Frames = self._now
        if self.site.fixed:
            self._frames.kept = None
            room = self._frames if self._is_static() else room
        room.kept, room.unread = kept, self.sinks

    def _under_way(self) -> _Now | _Frames:
        if self.site.fixed and (self._frames.kept is not None or self._is_static()):
            return self._frames
        return self._now

    def passed(self, module: torch.nn.Module, input: Tensor, free: bool | None = None) -> Kept | None:
        """What a thinned tensor at the site, or a module around, holds; None where it is whole."""
        kept = self.at(module, free)
        return kept if kept is not None and input.shape[self.axis] == kept.width else None

    def read(
        self, module: torch.nn.Module, input: Tensor, size: int, free: bool | None = None
    ) -> Kept | None:
        """What of a module behind the site is in its input; None for everything."""
        kept = self.passed(module, input, free)
        room = self._under_way()
        left = room.unread
        alone = len(left) == 1 and left[0] is module  # most often: then nothing is to be gone through
        left = room.unread = () if alone else tuple(one for one in left if one is not module)
        if not left:
            room.kept = None
        if kept is None and self.site.fits(input) and input.shape[self.axis] != size:
            raise RuntimeError(
                f"a thin layer of {size} inputs was given {input.shape[self.axis]}, which its site, "
                f"{self.site._name}, has not kept: the modules around a site are called in the order of the "
                "model's forward pass; thinned.torch.unthin(model) takes the connection away"
            )
        return None if kept is None or kept.whole else kept

    def _check_places(self) -> None:
        """Refuse modules that were exchanged since `thin` saw them: the new ones may read dropped units."""
        for parent, name, module in self.places:
            if _compat.children_of(parent).get(name) is not module:
                raise RuntimeError(
                    f"module {name!r} of {type(parent).__name__}, at the thin site {self.site._name!r}, is "
                    "not the one that thin(model) saw: exchange modules between unthin(model) and thin(model)"
                )

    def _is_static(self) -> bool:
        """Whether a compiled graph thins: shapes do not change with the mask."""
        if not self.site.fixed or not torch.compiler.is_dynamo_compiling():
            return False
        return not (torch.compiler.is_exporting() or _compat.transforms_active() or THREAD.entered)

    def _applies(self, like: Tensor, free: bool = False) -> bool:
        """Whether this call is thinned: it drops, and no tool is at work that has to see the masks."""
        site = self.site
        if type(like) not in _PLAIN or like.is_meta:
            return False
        if not (site.training if free else is_on(site) and not masks_are_wanted()) or site.is_off():
            return False
        if self.norms and any(norm.training for norm in self.norms):
            return False
        return site.fits(like) and (free or not traced() or self._is_static())


@contextmanager
def as_site(site: torch.nn.Module) -> Iterator[None]:
    """What is drawn is drawn in a site's name, though a module before it asks."""
    modes = list(THREAD.entered)
    for mode in modes:
        mode.enter(site)
    try:
        yield
    finally:
        for mode in modes:
            mode.leave(site)


def is_on(site: torch.nn.Module) -> bool:
    """Whether a site drops now: in training, and where Monte Carlo prediction has it drop."""
    return site.training or samples_are_drawn()
