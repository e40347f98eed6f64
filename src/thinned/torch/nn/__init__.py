"""This package has dropout as modules, in the manner of `torch.nn`.

A layer is a `Site`, which has p, a key and a step; it calls the verb of its name in `functional`. Layers
of torch.nn are subclassed, so that `isinstance` and `state_dict` are as users know them.
"""

from thinned.torch.nn._attention import DropHead, DropKey, ScaledDotProductAttention
from thinned.torch.nn._block import DropBlock1d, DropBlock2d, DropBlock3d
from thinned.torch.nn._boxes import Cutout, SpecAugment
from thinned.torch.nn._channels import (
    AlphaDropout,
    Dropout1d,
    Dropout2d,
    Dropout3d,
    FeatureAlphaDropout,
    SpatialDropout,
)
from thinned.torch.nn._connect import DropConnect, DropConnectLinear, drop_connect, remove_drop_connect
from thinned.torch.nn._depth import DropPath, LayerDrop, StochasticDepth
from thinned.torch.nn._dropout import Dropout, GaussianDropout
from thinned.torch.nn._graph import DropEdge, DropMessage, DropNode
from thinned.torch.nn._learned import ConcreteDropout, Standout, VariationalDropout
from thinned.torch.nn._locked import LockedDropout
from thinned.torch.nn._members import FixedDropout, Masksembles
from thinned.torch.nn._mixout import Mixout, mixout
from thinned.torch.nn._multi_sample import MultiSampleDropout
from thinned.torch.nn._multihead import MultiheadAttention
from thinned.torch.nn._residual import DropoutAdd, DropoutAddLayerNorm, DropoutAddRMSNorm
from thinned.torch.nn._rnn import GRU, LSTM
from thinned.torch.nn._shake import ShakeDrop, ShakeShake
from thinned.torch.nn._sparse import SparseVariationalConv2d, SparseVariationalLinear
from thinned.torch.nn._tokens import EmbeddingDropout, PatchDropout, WordDropout
from thinned.torch.nn._wrapper import DropoutWrapper
from thinned.torch.nn._zoneout import ZoneoutCell

__all__ = [
    "GRU",
    "LSTM",
    "AlphaDropout",
    "ConcreteDropout",
    "Cutout",
    "DropBlock1d",
    "DropBlock2d",
    "DropBlock3d",
    "DropConnect",
    "DropConnectLinear",
    "DropEdge",
    "DropHead",
    "DropKey",
    "DropMessage",
    "DropNode",
    "DropPath",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "DropoutAdd",
    "DropoutAddLayerNorm",
    "DropoutAddRMSNorm",
    "DropoutWrapper",
    "EmbeddingDropout",
    "FeatureAlphaDropout",
    "FixedDropout",
    "GaussianDropout",
    "LayerDrop",
    "LockedDropout",
    "Masksembles",
    "Mixout",
    "MultiSampleDropout",
    "MultiheadAttention",
    "PatchDropout",
    "ScaledDotProductAttention",
    "ShakeDrop",
    "ShakeShake",
    "SparseVariationalConv2d",
    "SparseVariationalLinear",
    "SpatialDropout",
    "SpecAugment",
    "Standout",
    "StochasticDepth",
    "VariationalDropout",
    "WordDropout",
    "ZoneoutCell",
    "drop_connect",
    "mixout",
    "remove_drop_connect",
]


def __dir__() -> list[str]:
    return sorted(__all__)
