"""Recurrent code of TensorFlow 1 with tf_keras: each cell under each driver. Run by test_tf1_rnn.py."""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"
import sys
import warnings

import numpy as np
import tensorflow as tf

import thinned
from thinned.tensorflow import compat

warnings.simplefilter("ignore")  # each of these cells and drivers says that it is deprecated
v1 = tf.compat.v1
X = np.random.default_rng(0).normal(size=(4, 6, 3)).astype(np.float32)
CELLS = ("BasicRNNCell", "BasicLSTMCell", "LSTMCell", "GRUCell")
UNITS = 5


def dynamic_rnn(cell):
    """Outputs of shape (batch, time, units)."""
    return v1.nn.dynamic_rnn(cell, tf.constant(X), dtype=tf.float32)[0]


def static_rnn(cell):
    """The same, unrolled."""
    outputs, _ = v1.nn.static_rnn(cell, tf.unstack(tf.constant(X), axis=1), dtype=tf.float32)
    return tf.stack(outputs, 1)


def run(kind, driver, theirs=False, **options):
    """Outputs with keep probability 0.5, 1, 1 and 0.5, and after a step of training."""
    wrapper = v1.nn.rnn_cell.DropoutWrapper if theirs else compat.v1.nn.rnn_cell.DropoutWrapper
    with tf.Graph().as_default(), v1.Session() as session:
        v1.set_random_seed(0)
        keep_prob = v1.placeholder_with_default(1.0, ())

        def wrapped(number):
            return wrapper(
                getattr(v1.nn.rnn_cell, kind)(UNITS),
                output_keep_prob=keep_prob,
                **{"seed": number, **given(options, number)},
            )

        outputs = driver(v1.nn.rnn_cell.MultiRNNCell([wrapped(number) for number in range(2)]))
        names = [variable.name for variable in v1.trainable_variables()]
        train = v1.train.GradientDescentOptimizer(0.1).minimize(tf.reduce_mean(outputs**2))
        session.run(v1.global_variables_initializer())
        feeds = ({keep_prob: 0.5}, {}, {}, {keep_prob: 0.5})
        found = [session.run(outputs, feed) for feed in feeds]
        session.run(train, {keep_prob: 0.5})
        return names, [*found, session.run(outputs)]


def given(options, number):
    """With the size of the input, of which a variational wrapper is told."""
    sizes = {"input_size": UNITS if number else X.shape[-1]} if "variational_recurrent" in options else {}
    return {**options, **sizes}


def masks(outputs):
    """How many masks there are among the steps."""
    return len({(outputs[:, step] == 0).tobytes() for step in range(outputs.shape[1])})


def check(kind, driver):
    """Variables have TensorFlow's names; masks are ours and vary as TensorFlow's do."""
    names, (first, whole, again, other, trained) = run(kind, driver)
    their_names, (theirs, *_) = run(kind, driver, theirs=True)
    assert (names, np.array_equal(whole, again)) == (their_names, True)
    assert not np.array_equal(first == 0, other == 0), "another mask in each run"
    assert 0.3 < (first == 0).mean() < 0.7
    assert masks(first) == masks(theirs), "static_rnn's steps share an integer seed, and so a mask"
    assert not np.array_equal(trained, whole)
    key, options = thinned.Key(3), {"variational_recurrent": True, "dtype": tf.float32}
    for outputs in run(kind, driver, seed=key, **options)[1][::3]:
        kept = thinned.keep_mask((1, UNITS), 0.5, key=key.fold("output"))
        assert ((outputs == 0) == ~kept).all(), "one mask for all steps and samples, NumPy's"


for name in sys.argv[1:] or CELLS:
    for one in (dynamic_rnn, static_rnn):
        check(name, one)
        print(name, one.__name__, file=sys.stderr)
