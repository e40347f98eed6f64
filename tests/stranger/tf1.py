"""A script of TensorFlow 1: a graph, a session, and a fed keep probability."""

import numpy as np
import tensorflow as tf

import thinned
from thinned.tensorflow import compat

v1 = tf.compat.v1
x = np.random.default_rng(0).normal(size=(16, 8)).astype("float32")
with tf.Graph().as_default(), v1.Session() as session:
    v1.set_random_seed(0)
    inputs, keep_prob = v1.placeholder(tf.float32, (None, 8)), v1.placeholder(tf.float32)
    number = v1.placeholder(tf.int64, ())
    weights = v1.get_variable("weights", (8, 1))
    dropped = compat.v1.nn.dropout(inputs, keep_prob, seed=tf.stack([tf.constant(1, tf.int64), number]))
    loss = tf.reduce_mean(tf.square(dropped @ weights - 1))
    train = v1.train.GradientDescentOptimizer(0.1).minimize(loss)
    session.run(v1.global_variables_initializer())
    for step in range(5):
        session.run(train, {inputs: x, keep_prob: 0.8, number: step})
    seen = session.run(dropped, {inputs: x, keep_prob: 0.8, number: 3})
    whole = session.run(dropped, {inputs: x, keep_prob: 1.0, number: 3})
expected = thinned.dropout(x, keep_prob=float(np.float32(0.8)), key=thinned.Key(1, 3), training=True)
assert np.array_equal(seen, expected)
assert np.array_equal(whole, x)
print("TensorFlow 1: the mask of step 3 is NumPy's")
