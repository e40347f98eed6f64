"""The TensorFlow front end (extra `thinned[tensorflow]`) has TensorFlow's names: `nn` and `compat`.

On a CPU a native operator does the work, eagerly and in functions. Under XLA, on other devices, in the
sessions of TensorFlow 1 and in saved models it is TensorFlow's own operators, with the same bits.
"""

from thinned._installed import needs

needs("thinned.tensorflow", "tensorflow", "tensorflow")

from thinned.tensorflow import compat, nn
from thinned.tensorflow._dropout import dropout, keep_mask
from thinned.tensorflow._edges import drop_edge, drop_message, drop_node
from thinned.tensorflow._key import fold
from thinned.tensorflow._learned import concrete_dropout
from thinned.tensorflow._structured import cutout, mask_spans, word_dropout

__all__ = [
    "compat",
    "concrete_dropout",
    "cutout",
    "drop_edge",
    "drop_message",
    "drop_node",
    "dropout",
    "fold",
    "keep_mask",
    "mask_spans",
    "nn",
    "word_dropout",
]


def __dir__() -> list[str]:
    return sorted(__all__)
