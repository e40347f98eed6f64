"""The TensorFlow front end (extra `thinned[tensorflow]`): `nn` and `compat` have TensorFlow's own names.

On a CPU a native operator does the work, eagerly and in functions. Under XLA, on other devices, in the
sessions of TensorFlow 1 and in saved models it is TensorFlow's own operators, with the same bits.
"""

from thinned._installed import needs

needs("thinned.tensorflow", "tensorflow", "tensorflow")

from thinned.tensorflow import compat, nn
from thinned.tensorflow._dropout import dropout, keep_mask
from thinned.tensorflow._key import fold

__all__ = ["compat", "dropout", "fold", "keep_mask", "nn"]


def __dir__() -> list[str]:
    return sorted(__all__)
