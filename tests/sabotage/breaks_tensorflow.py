"""Breaks of TensorFlow's front end."""

from breaks import of

BREAKS = of(
    "src/thinned/tensorflow",
    """
TensorFlow's gradient | _operation.py | tensorflow/test_operator.py
-[x], lambda upstream: [gradient(upstream)])
+[x], lambda upstream: [upstream])

TensorFlow's gradient in a graph | _operation.py | tensorflow/test_operator.py
-tf.custom_gradient(lambda _: (run(), gradient))(x)
+tf.custom_gradient(lambda _: (run(), lambda upstream: upstream))(x)

TensorFlow's order of halfwords | _plain.py | tensorflow/test_dropout.py
-for half in (word & low, tf.bitwise.right_shift(word, sixteen)):
+for half in (tf.bitwise.right_shift(word, sixteen), word & low):

TensorFlow's threshold | _plain.py | tensorflow/test_dropout.py
-return halves[0] * 65536 + halves[1] >= drop
+return halves[0] * 65536 >= drop

kept where u is above D only, in TensorFlow's operators | _plain.py | tensorflow/test_dropout.py
-halves[1] >= drop
+halves[1] > drop
""",
)
