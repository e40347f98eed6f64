"""Run Keras's own tests of its dropout and recurrent layers with ours in their place.

    KERAS_BACKEND=jax python tests/keras/kerass_own.py

The tests are those that Keras installs with itself. Where Keras's layer raises with a message about `rate`, a
ValueError of ours about it is taken for that and printed: see docs/keras/README.md. All else has to pass.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
import unittest
from unittest import mock

import keras
from keras.src import layers, testing

import thinned.keras

OURS = [
    "AdditiveAttention",
    "AlphaDropout",
    "Attention",
    "Dropout",
    "GRU",
    "GRUCell",
    "GaussianDropout",
    "GroupQueryAttention",
    "LSTM",
    "LSTMCell",
    "MultiHeadAttention",
    "SimpleRNN",
    "SimpleRNNCell",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
]
MODULES = [
    "attention.additive_attention",
    "attention.attention",
    "attention.grouped_query_attention",
    "attention.multi_head_attention",
    "regularization.alpha_dropout",
    "regularization.dropout",
    "regularization.gaussian_dropout",
    "regularization.spatial_dropout",
    "rnn.bidirectional",
    "rnn.dropout_rnn_cell",
    "rnn.gru",
    "rnn.lstm",
    "rnn.rnn",
    "rnn.simple_rnn",
    "rnn.stacked_rnn_cells",
    "rnn.time_distributed",
]


@contextlib.contextmanager
def or_our_error(case, kind, pattern):
    """`assertRaisesRegex`, to which our message about the rate is as good."""
    try:
        yield
    except kind as error:
        if re.search(pattern, str(error)):
            return
        if not str(error).startswith("rate must be in [0, 1], got "):
            raise
        print(f"other message: Keras has {pattern!r}, we {str(error)!r}")
        return
    case.fail(f"{kind.__name__} not raised")


def cases(suite):
    """All but those that pytest would skip on this backend."""
    for part in suite:
        if isinstance(part, unittest.TestSuite):
            yield from cases(part)
            continue
        marks = getattr(getattr(part, part._testMethodName), "pytestmark", [])
        if any(mark.name == "skipif" and mark.args[0] for mark in marks):
            print(f"skipped, as Keras says: {part.id()}")
        else:
            yield part


def main():
    suite = unittest.TestSuite()
    with contextlib.ExitStack() as stack:
        for name in OURS:
            stack.enter_context(mock.patch.object(layers, name, getattr(thinned.keras, name)))
        stack.enter_context(mock.patch.object(testing.TestCase, "assertRaisesRegex", or_our_error))
        for name in MODULES:
            module = importlib.import_module(f"keras.src.layers.{name}_test")
            suite.addTests(cases(unittest.defaultTestLoader.loadTestsFromModule(module)))
        result = unittest.TextTestRunner(verbosity=1).run(suite)
    print(f"{keras.backend.backend()}: {result.testsRun} tests")
    return not result.wasSuccessful()


if __name__ == "__main__":
    sys.exit(main())
