"""Dropout as modules, in the manner of `torch.nn`.

A layer is a `Site`, which has p, a key and a step; it calls the verb of its name in `functional`. Layers
of torch.nn are subclassed, so that `isinstance` and `state_dict` are as users know them.
"""

from thinned.torch.nn._alpha import AlphaDropout, FeatureAlphaDropout
from thinned.torch.nn._attention import ScaledDotProductAttention
from thinned.torch.nn._block import DropBlock1d, DropBlock2d, DropBlock3d
from thinned.torch.nn._channels import Dropout1d, Dropout2d, Dropout3d
from thinned.torch.nn._connect import DropConnect, DropConnectLinear, drop_connect, remove_drop_connect
from thinned.torch.nn._dropout import Dropout
from thinned.torch.nn._embedding import EmbeddingDropout
from thinned.torch.nn._gaussian import GaussianDropout
from thinned.torch.nn._head import DropHead
from thinned.torch.nn._layer import LayerDrop
from thinned.torch.nn._locked import LockedDropout
from thinned.torch.nn._multihead import MultiheadAttention
from thinned.torch.nn._norm import DropoutAddLayerNorm, DropoutAddRMSNorm
from thinned.torch.nn._path import DropPath, StochasticDepth
from thinned.torch.nn._residual import DropoutAdd
from thinned.torch.nn._rnn import GRU, LSTM
from thinned.torch.nn._wrapper import DropoutWrapper
from thinned.torch.nn._zoneout import ZoneoutCell

__all__ = [
    "GRU",
    "LSTM",
    "AlphaDropout",
    "DropBlock1d",
    "DropBlock2d",
    "DropBlock3d",
    "DropConnect",
    "DropConnectLinear",
    "DropHead",
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
    "GaussianDropout",
    "LayerDrop",
    "LockedDropout",
    "MultiheadAttention",
    "ScaledDotProductAttention",
    "StochasticDepth",
    "ZoneoutCell",
    "drop_connect",
    "remove_drop_connect",
]


def __dir__() -> list[str]:
    return sorted(__all__)
