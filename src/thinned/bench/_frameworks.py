"""These rows are about JAX, TensorFlow and Keras."""

from __future__ import annotations

from thinned._installed import missing
from thinned.bench._elsewhere import race_elsewhere
from thinned.bench._row import Result, Row, result
from thinned.bench._timing import Settings
from thinned.bench._verdict import at_least


def _row(
    name: str, framework: str, theirs: str, slower: float, packages: tuple[str, ...], **environment: str
) -> Row:
    def measure(settings: Settings) -> Result:
        if lacking := missing(packages):
            return Result(skipped=lacking)
        found = race_elsewhere(framework, settings, **environment)
        figures = [found.figure(theirs, "thinned", at_least(slower))]
        if "x + 1" in found.seconds:
            figures.append(found.figure("thinned", "x + 1"))
        return result(found, *figures)

    return Row(name, measure)


ROWS = (
    _row("JAX, jitted, 16 Mi", "jax", "flax.nnx.Dropout", 10, ("jax", "flax")),
    _row("TensorFlow, eager, 16 Mi", "tensorflow", "tf.nn.dropout", 5, ("tensorflow",)),
    _row("TensorFlow, tf.function, 16 Mi", "tensorflow_function", "tf.nn.dropout", 5, ("tensorflow",)),
    *(
        _row(
            f"Keras on {title}, a layer, 1 Mi",
            "keras",
            "keras.layers.Dropout",
            3,
            ("keras", backend),
            KERAS_BACKEND=backend,
        )
        for title, backend in {"PyTorch": "torch", "JAX": "jax", "TensorFlow": "tensorflow"}.items()
    ),
)
