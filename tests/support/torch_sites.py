"""Every layer of `thinned.torch.nn` and every verb of `thinned.torch.functional`: what seams are tried on.

A layer or a verb is in the tests of this folder by being listed here; `test_torch_seams.py` holds that none
is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from thinned.torch import functional, nn


@dataclass(frozen=True)
class Layer:
    """A site: how it is made and called.

    Attributes:
        make: a fresh layer; options as keyword arguments.
        inputs: the arguments of a call.
        identity: whether evaluation gives back the first argument, the same object.
        inplace: whether it takes `inplace`.
        alone: whether it is the verb of its name, and nothing beside.
        turns: whether an exported program of it can be turned to evaluation, whose shapes it has then.
    """

    make: Callable[..., torch.nn.Module]
    inputs: Callable[[], tuple[Any, ...]]
    identity: bool = False
    inplace: bool = False
    alone: bool = True
    turns: bool = True

    @property
    def kind(self) -> type[torch.nn.Module]:
        """The class that the entry stands for."""
        return next(type(m) for m in self.make().modules() if type(m).__module__.startswith("thinned."))


def floats(*shape: int) -> torch.Tensor:
    """Values without a zero: what is 0 was dropped."""
    return torch.arange(1.0, 1.0 + torch.Size(shape).numel()).reshape(shape) / 64


def connected() -> torch.nn.Module:
    return nn.drop_connect(torch.nn.Linear(6, 5), p=0.5)


def blocks(rank: int) -> Layer:
    kind = getattr(nn, f"DropBlock{rank}d")
    shape = (2, 3, *(9, 8, 7)[:rank])
    return Layer(
        lambda **options: kind(0.3, 2, **options), lambda: (floats(*shape),), identity=True, inplace=True
    )


def channels(rank: int) -> Layer:
    kind = getattr(nn, f"Dropout{rank}d")
    shape = (4, 6, *(3, 3, 3)[:rank])
    return Layer(
        lambda **options: kind(0.5, **options), lambda: (floats(*shape),), identity=True, inplace=True
    )


def elements(kind: Any, *arguments: Any, shape: tuple[int, ...] = (4, 6, 5), inplace: bool = False) -> Layer:
    return Layer(
        lambda **options: kind(*arguments, **options),
        lambda: (floats(*shape),),
        identity=True,
        inplace=inplace,
    )


LAYERS: dict[str, Layer] = {
    "AlphaDropout": elements(nn.AlphaDropout, 0.5, inplace=True),
    "ConcreteDropout": Layer(
        lambda: nn.ConcreteDropout(torch.nn.Linear(6, 5), 0.5, samples=9),
        lambda: (floats(4, 6),),
        alone=False,
    ),
    "Cutout": Layer(lambda: nn.Cutout(2), lambda: (floats(8, 2, 4, 4),), identity=True),
    "DropBlock1d": blocks(1),
    "DropBlock2d": blocks(2),
    "DropBlock3d": blocks(3),
    "DropConnect": Layer(connected, lambda: (floats(4, 6),)),
    "DropConnectLinear": Layer(lambda: nn.DropConnectLinear(6, 5, p=0.5), lambda: (floats(4, 6),)),
    "DropHead": elements(nn.DropHead, 0.5),
    "DropEdge": Layer(lambda: nn.DropEdge(0.5), lambda: (torch.arange(40).reshape(2, 20),), alone=False),
    "DropKey": Layer(lambda: nn.DropKey(0.5), lambda: (floats(2, 4, 6),)),
    "DropMessage": elements(nn.DropMessage, 0.5, shape=(6, 5)),
    "DropNode": elements(nn.DropNode, 0.5, shape=(24, 3)),
    "DropPath": elements(nn.DropPath, 0.5, shape=(16, 3, 2)),
    "Dropout": elements(nn.Dropout, 0.5, inplace=True),
    "Dropout1d": channels(1),
    "Dropout2d": channels(2),
    "Dropout3d": channels(3),
    "DropoutAdd": Layer(lambda: nn.DropoutAdd(0.5), lambda: (floats(4, 6), floats(4, 6))),
    "DropoutAddLayerNorm": Layer(
        lambda: nn.DropoutAddLayerNorm(6, 0.5), lambda: (floats(4, 6), floats(4, 6))
    ),
    "DropoutAddRMSNorm": Layer(lambda: nn.DropoutAddRMSNorm(6, 0.5), lambda: (floats(4, 6), floats(4, 6))),
    "DropoutWrapper": Layer(
        lambda: nn.DropoutWrapper(torch.nn.GRUCell(6, 5), 0.5, 0.5, 0.5),
        lambda: (floats(4, 6), floats(4, 5)),
    ),
    "EmbeddingDropout": Layer(
        lambda: nn.EmbeddingDropout(torch.nn.Embedding(20, 3), 0.5),
        lambda: (torch.arange(20),),
    ),
    "FeatureAlphaDropout": elements(nn.FeatureAlphaDropout, 0.5, inplace=True),
    "GRU": Layer(lambda: nn.GRU(6, 5, weight_p=0.5, input_p=0.5, hidden_p=0.1), lambda: (floats(3, 4, 6),)),
    "GaussianDropout": elements(nn.GaussianDropout, 0.5, inplace=True),
    "LSTM": Layer(
        lambda: nn.LSTM(6, 5, 2, dropout=0.5, weight_p=0.5, output_p=0.5),
        lambda: (floats(3, 4, 6),),
    ),
    "LayerDrop": Layer(
        lambda: nn.LayerDrop([torch.nn.Tanh(), torch.nn.Softplus()] * 4, 0.5), lambda: (floats(4, 6),)
    ),
    "LockedDropout": Layer(
        lambda: nn.LockedDropout(0.5, batch_first=True),
        lambda: (floats(4, 6, 5),),
        identity=True,
    ),
    "Mixout": Layer(
        lambda: nn.Mixout(torch.ones(4, 6), 0.5), lambda: (floats(4, 6),), identity=True, alone=False
    ),
    "MultiSampleDropout": Layer(
        lambda: nn.MultiSampleDropout(torch.nn.Linear(6, 5), 0.5, 3), lambda: (floats(4, 6),), alone=False
    ),
    "MultiheadAttention": Layer(
        lambda: nn.MultiheadAttention(8, 4, 0.5, head_p=0.1),
        lambda: (floats(4, 2, 8), floats(6, 2, 8), floats(6, 2, 8)),
    ),
    "PatchDropout": Layer(
        lambda: nn.PatchDropout(0.5), lambda: (floats(4, 9, 2),), identity=True, turns=False
    ),
    "ScaledDotProductAttention": Layer(
        lambda: nn.ScaledDotProductAttention(0.5), lambda: (floats(2, 4, 8), floats(2, 6, 8), floats(2, 6, 3))
    ),
    "ShakeDrop": Layer(lambda: nn.ShakeDrop(0.5), lambda: (floats(8, 3),)),
    "ShakeShake": Layer(nn.ShakeShake, lambda: (floats(8, 3), floats(8, 3).square())),
    "SpatialDropout": Layer(
        lambda: nn.SpatialDropout(0.5, "NLD", "NL"), lambda: (floats(4, 6, 5),), identity=True, alone=False
    ),
    "SpecAugment": Layer(lambda: nn.SpecAugment(4, 4), lambda: (floats(4, 9, 12),), identity=True),
    "SparseVariationalConv2d": Layer(
        lambda: nn.SparseVariationalConv2d(2, 3, 2, samples=9, padding=1), lambda: (floats(2, 2, 4, 4),)
    ),
    "SparseVariationalLinear": Layer(
        lambda: nn.SparseVariationalLinear(6, 5, samples=9), lambda: (floats(4, 6),)
    ),
    "Standout": Layer(nn.Standout, lambda: (floats(4, 6),), alone=False),
    "StochasticDepth": elements(nn.StochasticDepth, 0.5, "row", shape=(16, 3, 2)),
    "VariationalDropout": Layer(
        lambda: nn.VariationalDropout(torch.nn.Linear(6, 5), 0.4, samples=9),
        lambda: (floats(4, 6),),
        alone=False,
    ),
    "WordDropout": Layer(
        lambda: nn.WordDropout(0.5, 0),
        lambda: (torch.arange(1, 41).reshape(4, 10),),
        identity=True,
        alone=False,
    ),
    "ZoneoutCell": Layer(
        lambda: nn.ZoneoutCell(torch.nn.LSTMCell(6, 5), 0.5, 0.5),
        lambda: (floats(4, 6), (floats(4, 5), floats(4, 5))),
    ),
}


@dataclass(frozen=True)
class Verb:
    """A function: how it is called, on inputs, in training or not, by a key or without.

    Attributes:
        call: on the inputs, and `training`, a key and what else as keyword arguments; the rate as `p`.
        inputs: tensors.
        rate: a number or a tensor, and None where there is no rate.
        keeps: whether evaluation gives back the first argument, the same object.
        name: that of the function.
    """

    call: Callable[..., Any]
    inputs: Callable[[], tuple[torch.Tensor, ...]]
    rate: Any
    keeps: bool
    name: str


def verb(
    name: str,
    *inputs: Any,
    p: Any = 0.5,
    keeps: bool | None = None,
    before: tuple[Any, ...] = (),
    **more: Any,
) -> Verb:
    """Of tensors, or of their shapes; `before` are arguments between them and p, `more` behind."""
    function = getattr(functional, name)
    attention = name == "scaled_dot_product_attention"

    def call(*x: Any, training: Any, key: Any = None, **given: Any) -> Any:
        named = {} if p is None else {"dropout_p" if attention else "p": given.pop("p", p)}
        named["dropout_key" if attention else "key"] = key
        return function(*x, *before, **named, training=training, **{**more, **given})

    def made() -> tuple[torch.Tensor, ...]:
        return tuple(floats(*each) if isinstance(each, tuple) else each() for each in inputs)

    return Verb(call, made, p, len(inputs) == 1 if keeps is None else keeps, name)


def edges() -> torch.Tensor:
    return torch.arange(40).reshape(2, 20)


HALF = torch.tensor(0.5)
LAYERS_OF_DROP = [torch.tanh, torch.nn.functional.softplus] * 4
LISTED = [
    verb("alpha_dropout", (4, 6)),
    verb("concrete_dropout", (4, 6), p=HALF),
    verb("cutout", (8, 2, 4, 4), size=2, p=1.0),
    verb("drop_block1d", (2, 3, 9), p=0.3, block_size=2),
    verb("drop_block2d", (2, 3, 9, 8), p=0.3, block_size=2),
    verb("drop_block3d", (2, 3, 9, 8, 7), p=0.3, block_size=2),
    verb("drop_connect_linear", (4, 6), (5, 6), bias=None),
    verb("drop_head", (4, 6, 3)),
    verb("drop_edge", edges, keeps=False),
    verb("drop_key", (2, 4, 6), keeps=False),
    verb("drop_message", (6, 5)),
    verb("drop_node", (24, 3)),
    verb("drop_path", (16, 3)),
    verb("dropout", (4, 6)),
    verb("dropout1d", (4, 6, 3)),
    verb("dropout2d", (4, 6, 3, 3)),
    verb("dropout3d", (4, 6, 3, 3, 3)),
    verb("dropout_add", (4, 6), (4, 6)),
    verb("dropout_add_layer_norm", (4, 6), (4, 6), normalized_shape=6),
    verb("dropout_add_rms_norm", (4, 6), (4, 6), normalized_shape=6),
    verb("embedding_dropout", lambda: torch.arange(20), (20, 3)),
    verb("feature_alpha_dropout", (4, 6, 3)),
    verb("gaussian_dropout", (4, 6)),
    verb("layer_drop", (4, 6), keeps=False, before=(LAYERS_OF_DROP,)),
    verb("locked_dropout", (4, 6, 5), batch_first=True),
    verb("mask_spans", (4, 9, 12), p=None, width=4, count=2, dim=-1),
    verb("mixout", (4, 6), lambda: floats(4, 6).square(), keeps=True),
    verb("patch_dropout", (4, 9, 2)),
    verb("scaled_dot_product_attention", (2, 4, 8), (2, 6, 8), (2, 6, 3)),
    verb("shake_drop", (8, 3), keeps=False),
    verb("shake_shake", (8, 3), lambda: floats(8, 3).square(), p=None),
    verb("spatial_dropout", (4, 6, 5), layout="NLD", independent="NL"),
    verb("standout", (4, 6), p=HALF, keeps=False),
    verb("stochastic_depth", (16, 3), mode="row"),
    verb("variational_dropout", (4, 6), p=HALF),
    verb("variational_conv", (2, 2, 4, 4), (3, 2, 2, 2), lambda: floats(3, 2, 2, 2).square(), p=None),
    verb("variational_linear", (4, 6), (5, 6), lambda: floats(5, 6).square(), p=None),
    verb("word_dropout", lambda: torch.arange(1, 41).reshape(4, 10), replacement=0),
    verb("zoneout", (4, 6), lambda: -floats(4, 6)),
]
VERBS: dict[str, Verb] = {each.name: each for each in LISTED}
