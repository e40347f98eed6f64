"""A call at a site of a model is recorded here, by every front end in one form."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from thinned.contract import check_integer

# What a mask shares: nothing; a channel; a sample; a dimension; or its output does not show it.
ELEMENTS, CHANNELS, PATHS, LOCKED, OTHER = "elements", "channels", "paths", "locked", "other"

_POSITIONS: Final = 2**18
_RATE_NAMES: Final = ("p", "drop_prob", "drop_rate", "rate", "dropout", "drop", "prob", "dropout_p")
DROPS: Final = re.compile(r"(?i)drop|stochastic.?depth")
_PATHS = re.compile(r"(?i)drop.?path|stochastic.?depth")
_LOCKED = re.compile(r"(?i)locked|variational|spatial|rnn.?dropout")
_CHANNELS = re.compile(r"(?i)(dropout|drop)[123]d|channel")


@dataclass
class Call:
    """One call at one site.

    Args:
        name: of the site.
        number: how many calls of this site came before in this run.
        kind: what its mask shares.
        p: its drop probability, where it says one.
        training: whether it was told to drop; None where it is not known.
        input: as it was before, float32 or float64, where it was looked at.
        output: likewise.
        dtype: of the input, such as "bfloat16".
        seconds: how long it took.
        by_function: not by a layer that a user wrote.
        shape: of the whole input; that of `input` if empty.
        again: in the backward pass, where a checkpoint computes again.
        given: what was handed in, for who made it.
        made: what was handed out, for who takes it.
    """

    name: str
    number: int
    kind: str
    p: float | None
    training: bool | None
    input: npt.NDArray[Any]
    output: npt.NDArray[Any]
    dtype: str = "float32"
    seconds: float = 0.0
    by_function: bool = True
    shape: tuple[int, ...] = ()
    again: bool = False
    given: Any = None
    made: Any = None


@dataclass
class Run:
    """Holds what one forward pass, and perhaps its backward pass, showed."""

    calls: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    seconds: float = 0.0
    backward: bool = False

    def without_tensors(self) -> Any:
        """This run without what it handed around, which would be kept in memory."""
        for call in self.calls:
            call.given = call.made = None
        self.outputs = []
        return self


@dataclass
class Evidence:
    """Holds what the rules look at.

    Args:
        evaluations: runs in evaluation mode.
        trainings: runs in training mode.
        changed: what an evaluation changed of the model, by name.
    """

    evaluations: Sequence[Any]
    trainings: Sequence[Any]
    changed: Sequence[str]

    def calls(self) -> dict[tuple[str, int], list[Any]]:
        """The training calls of each site, by name and number in a run, without those computed again."""
        found: dict[tuple[str, int], list[Any]] = {}
        for run in self.trainings:
            for call in run.calls:
                if not call.again:
                    found.setdefault((call.name, call.number), []).append(call)
        return found

    def frozen(self, name: str) -> bool:
        """Tells whether a site stands in a part that is not trained at all."""
        return False

    def by_batch(self, name: str) -> bool:
        """Tells whether a layer says that it drops whole batches."""
        return False


def sampled(shape: Sequence[int]) -> tuple[slice, ...]:
    """Samples a large array: every n-th position along its last dimensions, the first one last.

    At most 262,144 positions are left, and of a dimension at least 8 as long as others can give way.
    """
    steps = [1] * len(shape)
    for least in (8, 1):
        for dim in range(len(shape) - 1, -1, -1):
            left = math.prod(-(-size // step) for size, step in zip(shape, steps, strict=True))
            most = max(shape[dim] // least, steps[dim], 1)
            steps[dim] = min(steps[dim] * -(-left // _POSITIONS), most) if left else 1
    return tuple(slice(None, None, step) for step in steps)


def check_repeats(repeats: Any) -> None:
    """Refuse what is no number of training passes."""
    if check_integer("repeats", repeats) < 2:
        raise ValueError(f"repeats must be at least 2, got {repeats}")


def kind_of(name: str) -> str:
    """Return what a layer's mask shares, by the name of its class."""
    for pattern, kind in ((_PATHS, PATHS), (_LOCKED, LOCKED), (_CHANNELS, CHANNELS)):
        if pattern.search(name):
            return kind
    return ELEMENTS


def rate_of(layer: Any) -> float | None:
    """The drop probability that a layer holds as a number."""
    for name in _RATE_NAMES:
        rate = getattr(layer, name, None)
        if isinstance(rate, (int, float)) and not isinstance(rate, bool) and 0 <= rate <= 1:
            return float(rate)
    return None


def is_thinned(input: npt.NDArray[Any], output: npt.NDArray[Any]) -> bool:
    """Tells whether an output is the input with some elements dropped, and the others times one number."""
    if output.shape != input.shape:
        return False
    at = (output != 0) & (input != 0)
    ratio = output[at].astype(np.float64) / input[at].astype(np.float64)
    return not ratio.size or bool(np.abs(ratio - ratio.mean()).max() <= 0.02 * abs(ratio.mean()))
