"""The wrapper of recurrent cells under TensorFlow 1's name."""

from thinned.tensorflow._rnn import DropoutWrapper

__all__ = ["DropoutWrapper"]
