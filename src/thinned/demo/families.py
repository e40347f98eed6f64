"""One residual network is defined here, with each member of the family where its users put it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from thinned import Key
from thinned.torch import members, r_drop, regularization, twice
from thinned.torch import nn as ours
from thinned.torch.schedules import Curriculum

Module = Callable[[], nn.Module]
Linear = Callable[[int, int, int], nn.Module]
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]

_BLOCKS: Final = 3
_MEMBERS: Final = 4


def _plain_linear(inputs: int, outputs: int, samples: int) -> nn.Module:
    return nn.Linear(inputs, outputs)


def _mean(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(model(x), y)


def _with_divergence(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(model(x), y) + regularization(model)


def _agreeing(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    one, other = twice(model, x)
    return (cross_entropy(one, y) + cross_entropy(other, y)) / 2.0 + r_drop(one, other)


@dataclass(frozen=True)
class Family:
    """A member of the family, and where it stands in the network.

    Args:
        name: of its layer.
        rate: in words.
        units: what stands behind the ReLU of each block.
        path: what stands at the end of a block's branch.
        linear: a linear layer of the blocks, of inputs, outputs and the number of training samples.
        inputs: what stands in front of the network.
        activation: of the blocks.
        head: what is made of the last layer.
        loss: of a model, inputs and labels.
        members: whether its evaluation is an ensemble of fixed masks.
    """

    name: str
    rate: str
    units: Module = nn.Identity
    path: Module = nn.Identity
    linear: Linear = _plain_linear
    inputs: Module = nn.Identity
    activation: Module = nn.ReLU
    head: Callable[[nn.Module], nn.Module] = field(default=lambda layer: layer)
    loss: Loss = _mean
    members: bool = False

    @property
    def draws(self) -> bool:
        """Tells whether training draws masks."""
        return self.name != "none" and not self.members


class _Block(nn.Module):
    def __init__(self, family: Family, width: int, samples: int) -> None:
        super().__init__()
        self.first = family.linear(width, width, samples)
        self.activation, self.units = family.activation(), family.units()
        self.second, self.path = nn.Linear(width, width), family.path()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.path(self.second(self.units(self.activation(self.first(x)))))  # type: ignore[no-any-return]


def network(family: Family, inputs: int, classes: int, width: int, samples: int) -> nn.Sequential:
    """A linear layer with ReLU, three residual blocks x + W₂ σ(W₁ x), and a linear head."""
    return nn.Sequential(
        family.inputs(),
        nn.Linear(inputs, width),
        nn.ReLU(),
        *(_Block(family, width, samples) for _ in range(_BLOCKS)),
        family.head(nn.Linear(width, classes)),
    )


def _concrete(inputs: int, outputs: int, samples: int) -> nn.Module:
    return ours.ConcreteDropout(nn.Linear(inputs, outputs), 0.1, samples=samples)


def _variational(inputs: int, outputs: int, samples: int) -> nn.Module:
    return ours.VariationalDropout(nn.Linear(inputs, outputs), 0.1, samples=samples)


def _sparse(inputs: int, outputs: int, samples: int) -> nn.Module:
    return ours.SparseVariationalLinear(inputs, outputs, samples=samples)


def _connected(inputs: int, outputs: int, samples: int) -> nn.Module:
    return ours.drop_connect(nn.Linear(inputs, outputs), p=0.5)


def families(width: int, steps: int) -> list[Family]:
    """All that fit the network, each with its usual rate.

    Args:
        width: of the blocks, for masks that are made for so many features.
        steps: of training, for a rate that follows a schedule.
    """
    half: Any = {"units": lambda: ours.Dropout(0.5)}
    curriculum = Curriculum(0.5, 10.0 / steps)
    return [
        Family("none", "–"),
        Family("Dropout", "0.5", **half),
        Family("Dropout, low", "0.1", units=lambda: ours.Dropout(0.1)),
        Family("Dropout of inputs", "0.2", inputs=lambda: ours.Dropout(0.2)),
        Family("Curriculum", "0 → 0.5", units=lambda: ours.Dropout(curriculum)),
        Family("GaussianDropout", "0.5", units=lambda: ours.GaussianDropout(0.5)),
        Family("AlphaDropout", "0.1, SELU", units=lambda: ours.AlphaDropout(0.1), activation=nn.SELU),
        Family("DropConnect", "0.5, a batch", linear=_connected),
        Family("DropPath", "0.2", path=lambda: ours.DropPath(0.2)),
        Family("ShakeDrop", "0.5", path=lambda: ours.ShakeDrop(0.5)),
        Family("Standout", "learned", activation=ours.Standout),
        Family("ConcreteDropout", "learned", linear=_concrete, loss=_with_divergence),
        Family("VariationalDropout", "learned", linear=_variational, loss=_with_divergence),
        Family("SparseVariational", "learned", linear=_sparse, loss=_with_divergence),
        Family(
            "MultiSampleDropout", "0.5, 8 copies", head=lambda layer: ours.MultiSampleDropout(layer, 0.5, 8)
        ),
        Family("R-Drop", "0.3, α 1", units=lambda: ours.Dropout(0.3), loss=_agreeing),
        Family(
            "FixedDropout",
            f"0.5, {_MEMBERS} members",
            units=lambda: ours.FixedDropout(0.5, _MEMBERS, key=Key(0)),
            members=True,
        ),
        Family(
            "Masksembles",
            f"scale 2, {_MEMBERS} members",
            units=lambda: ours.Masksembles(width, _MEMBERS, 2.0, key=Key(0)),
            members=True,
        ),
    ]


def probabilities(family: Family, model: nn.Module, x: Tensor) -> Tensor:
    """Gives what a trained network says: by weight scaling, or the mean of its members."""
    with torch.no_grad():
        if family.members:
            return members(model, x).double().softmax(-1).mean(0)
        return model(x).double().softmax(-1)  # type: ignore[no-any-return]
