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
        call: on the inputs, and `training` and a key as keyword arguments.
        inputs: tensors.
    """

    call: Callable[..., Any]
    inputs: Callable[[], tuple[torch.Tensor, ...]]


def verb(name: str, *shape: int, p: tuple[Any, ...] = (0.5,), **options: Any) -> Verb:
    function = getattr(functional, name)
    return Verb(
        lambda x, training, key=None: function(x, *p, training=training, key=key, **options),
        lambda: (floats(*shape),),
    )


def attend(q: Any, k: Any, v: Any, training: bool, key: Any = None) -> Any:
    return functional.scaled_dot_product_attention(q, k, v, None, 0.5, training=training, dropout_key=key)


HALF = (torch.tensor(0.5),)

VERBS: dict[str, Verb] = {
    "alpha_dropout": verb("alpha_dropout", 4, 6),
    "concrete_dropout": verb("concrete_dropout", 4, 6, p=HALF),
    "cutout": verb("cutout", 8, 2, 4, 4, p=(2,)),
    "drop_block1d": verb("drop_block1d", 2, 3, 9, p=(0.3, 2)),
    "drop_block2d": verb("drop_block2d", 2, 3, 9, 8, p=(0.3, 2)),
    "drop_block3d": verb("drop_block3d", 2, 3, 9, 8, 7, p=(0.3, 2)),
    "drop_connect_linear": Verb(
        lambda x, w, training, key=None: functional.drop_connect_linear(
            x, w, None, 0.5, training=training, key=key
        ),
        lambda: (floats(4, 6), floats(5, 6)),
    ),
    "drop_head": verb("drop_head", 4, 6, 3),
    "drop_edge": Verb(
        lambda x, training, key=None: functional.drop_edge(x, 0.5, training=training, key=key),
        lambda: (torch.arange(40).reshape(2, 20),),
    ),
    "drop_key": verb("drop_key", 2, 4, 6),
    "drop_message": verb("drop_message", 6, 5),
    "drop_node": verb("drop_node", 24, 3),
    "drop_path": verb("drop_path", 16, 3),
    "dropout": verb("dropout", 4, 6),
    "dropout1d": verb("dropout1d", 4, 6, 3),
    "dropout2d": verb("dropout2d", 4, 6, 3, 3),
    "dropout3d": verb("dropout3d", 4, 6, 3, 3, 3),
    "dropout_add": Verb(
        lambda x, y, training, key=None: functional.dropout_add(x, y, 0.5, training=training, key=key),
        lambda: (floats(4, 6), floats(4, 6)),
    ),
    "dropout_add_layer_norm": Verb(
        lambda x, y, training, key=None: functional.dropout_add_layer_norm(
            x, y, 6, p=0.5, training=training, key=key
        ),
        lambda: (floats(4, 6), floats(4, 6)),
    ),
    "dropout_add_rms_norm": Verb(
        lambda x, y, training, key=None: functional.dropout_add_rms_norm(
            x, y, 6, p=0.5, training=training, key=key
        ),
        lambda: (floats(4, 6), floats(4, 6)),
    ),
    "embedding_dropout": Verb(
        lambda i, w, training, key=None: functional.embedding_dropout(i, w, 0.5, training=training, key=key),
        lambda: (torch.arange(20), floats(20, 3)),
    ),
    "feature_alpha_dropout": verb("feature_alpha_dropout", 4, 6, 3),
    "gaussian_dropout": verb("gaussian_dropout", 4, 6),
    "layer_drop": Verb(
        lambda x, training, key=None: functional.layer_drop(
            x, [torch.tanh, torch.nn.functional.softplus] * 4, 0.5, training, key=key
        ),
        lambda: (floats(4, 6),),
    ),
    "locked_dropout": verb("locked_dropout", 4, 6, 5, batch_first=True),
    "mask_spans": verb("mask_spans", 4, 9, 12, p=(4, 2, -1)),
    "mixout": Verb(
        lambda w, t, training, key=None: functional.mixout(w, t, 0.5, training=training, key=key),
        lambda: (floats(4, 6), floats(4, 6).square()),
    ),
    "patch_dropout": verb("patch_dropout", 4, 9, 2),
    "scaled_dot_product_attention": Verb(attend, lambda: (floats(2, 4, 8), floats(2, 6, 8), floats(2, 6, 3))),
    "shake_drop": verb("shake_drop", 8, 3),
    "shake_shake": Verb(
        lambda x, y, training, key=None: functional.shake_shake(x, y, training=training, key=key),
        lambda: (floats(8, 3), floats(8, 3).square()),
    ),
    "spatial_dropout": verb("spatial_dropout", 4, 6, 5, p=(0.5, "NLD", "NL")),
    "standout": verb("standout", 4, 6, p=HALF),
    "stochastic_depth": verb("stochastic_depth", 16, 3, p=(0.5, "row")),
    "variational_dropout": verb("variational_dropout", 4, 6, p=HALF),
    "variational_conv": Verb(
        lambda x, w, training, key=None: functional.variational_conv(
            x, w, w.square(), training=training, key=key
        ),
        lambda: (floats(2, 2, 4, 4), floats(3, 2, 2, 2)),
    ),
    "variational_linear": Verb(
        lambda x, w, training, key=None: functional.variational_linear(
            x, w, w.square(), training=training, key=key
        ),
        lambda: (floats(4, 6), floats(5, 6)),
    ),
    "word_dropout": Verb(
        lambda x, training, key=None: functional.word_dropout(x, 0.5, 0, training=training, key=key),
        lambda: (torch.arange(1, 41).reshape(4, 10),),
    ),
    "zoneout": Verb(
        lambda new, old, training, key=None: functional.zoneout(new, old, 0.5, training=training, key=key),
        lambda: (floats(4, 6), -floats(4, 6)),
    ),
}
