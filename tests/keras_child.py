"""Examines a module on Keras's active backend and prints JSON in its last line. Run by `keras_process.py`.

Which frameworks the module loads comes first, while Keras is all that there is.
"""

import json
import sys
from importlib import import_module

import keras
import pytest
from keras_process import BACKENDS


def main(module, finder, *arguments):
    """Import the module, call what finds something in it, and run its checks."""
    if keras.backend.backend() == "tensorflow":
        two_processors()
    said = {"backend": keras.backend.backend(), "before": loaded()}
    import_module(module)
    said["after"] = loaded()
    said["found"] = import_module(finder).find()
    said["checks"] = pytest.main(["-q", "--no-header", *arguments])
    print(json.dumps(said))


def two_processors():
    """For TensorFlow's strategies, which have to be said before it first runs."""
    import tensorflow as tf

    (processor,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)


def loaded():
    return [name for name in BACKENDS if name in sys.modules]


if __name__ == "__main__":
    main(*sys.argv[1:])
