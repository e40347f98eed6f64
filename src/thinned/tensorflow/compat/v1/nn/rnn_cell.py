"""The wrapper of recurrent cells has TensorFlow 1's name here."""

from thinned.tensorflow._rnn import DropoutWrapper

__all__ = ["DropoutWrapper"]
