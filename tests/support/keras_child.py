"""Examines modules on Keras's active backend and prints JSON in its last line. Run by `keras_process.py`.

Which frameworks a module loads comes first, while Keras is all that there is.
"""

import json
import sys
from importlib import import_module

import keras
import pytest
from keras_process import BACKENDS


def main(modules, marks, *arguments):
    """Import each module, call what finds something in it, and run the checks of all."""
    names = [pair.split(":") for pair in modules.split(",")]
    if keras.backend.backend() == "tensorflow":
        two_processors()
    said = {module: imported(module) for module, _ in names}
    for module, finder in names:
        said[module]["found"] = import_module(finder).find(quick="not full" in marks)
    options = ["-q", "--no-header", "-m", marks, "-p", "nested_cases", "-p", "keras_tiers"]
    code = pytest.main([*options, *arguments])
    print(json.dumps(said))
    sys.exit(code)


def imported(module):
    before = loaded()
    import_module(module)
    return {"backend": keras.backend.backend(), "before": before, "after": loaded()}


def two_processors():
    """For TensorFlow's strategies, which have to be said before it first runs."""
    import tensorflow as tf

    (processor,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)


def loaded():
    return [name for name in BACKENDS if name in sys.modules]


if __name__ == "__main__":
    main(*sys.argv[1:])
