"""Breaks of TensorFlow's front end."""

from __future__ import annotations

from breaks import of

BREAKS = of(
    "src/thinned/tensorflow",
    [
        (
            "TensorFlow's gradient",
            "_operation.py",
            "[x], lambda upstream: [gradient(upstream)])",
            "[x], lambda upstream: [upstream])",
            "tensorflow/test_operator.py",
        ),
        (
            "TensorFlow's gradient in a graph",
            "_operation.py",
            "tf.custom_gradient(lambda _: (run(), gradient))(x)",
            "tf.custom_gradient(lambda _: (run(), lambda upstream: upstream))(x)",
            "tensorflow/test_operator.py",
        ),
        (
            "TensorFlow's order of halfwords",
            "_plain.py",
            "for half in (word & low, tf.bitwise.right_shift(word, sixteen)):",
            "for half in (tf.bitwise.right_shift(word, sixteen), word & low):",
            "tensorflow/test_dropout.py",
        ),
        (
            "TensorFlow's threshold",
            "_plain.py",
            "return halves[0] * 65536 + halves[1] >= drop",
            "return halves[0] * 65536 >= drop",
            "tensorflow/test_dropout.py",
        ),
        (
            "kept where u is above D only, in TensorFlow's operators",
            "_plain.py",
            "halves[1] >= drop",
            "halves[1] > drop",
            "tensorflow/test_dropout.py",
        ),
    ],
)
