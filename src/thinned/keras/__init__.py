"""This package has dropout for Keras 3, with equal masks on PyTorch, JAX and TensorFlow.

A mask is a function of a layer's seed, its name and the number of the call. The active backend's front end
does the work: `thinned.torch`, `thinned.jax` or `thinned.tensorflow`; no other is loaded.
"""

from thinned._installed import needs_keras

needs_keras("thinned.keras")

from thinned.keras._attention import GroupQueryAttention, MultiHeadAttention
from thinned.keras._audit import audit
from thinned.keras._augment import Cutout, SpecAugment, WordDropout
from thinned.keras._block import DropBlock2D
from thinned.keras._cells import GRUCell, LSTMCell, SimpleRNNCell
from thinned.keras._concrete import ConcreteDropout
from thinned.keras._connect import DropConnect
from thinned.keras._dropout import AlphaDropout, Dropout, GaussianDropout
from thinned.keras._functional import dropout, keep_mask, r_drop
from thinned.keras._keyed import Keyed, keyed
from thinned.keras._rnn import GRU, LSTM, SimpleRNN
from thinned.keras._scores import AdditiveAttention, Attention
from thinned.keras._spatial import SpatialDropout1D, SpatialDropout2D, SpatialDropout3D

__all__ = [
    "GRU",
    "LSTM",
    "AdditiveAttention",
    "AlphaDropout",
    "Attention",
    "ConcreteDropout",
    "Cutout",
    "DropBlock2D",
    "DropConnect",
    "Dropout",
    "GRUCell",
    "GaussianDropout",
    "GroupQueryAttention",
    "Keyed",
    "LSTMCell",
    "MultiHeadAttention",
    "SimpleRNN",
    "SimpleRNNCell",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
    "SpecAugment",
    "WordDropout",
    "audit",
    "dropout",
    "keep_mask",
    "keyed",
    "r_drop",
]


def __dir__() -> list[str]:
    return sorted(__all__)
