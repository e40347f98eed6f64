"""These rows are about JAX, TensorFlow and Keras, and about the averages experiment in plain NumPy."""

from __future__ import annotations

from thinned import averages, get_num_threads
from thinned._installed import missing
from thinned.bench._elsewhere import race_elsewhere
from thinned.bench._row import Result, Row, result
from thinned.bench._timing import Settings, alternate
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


# A round, keep rate and thread: two of the experiment's blocks. A draw costs the same among more of them.
_MASKS = 64
_PLAIN_DRAWS = 1  # a round and keep rate


def _measure(settings: Settings) -> Result:
    size = settings.size(averages.SIZE)
    masks = max(settings.size(_MASKS * get_num_threads()), 2)
    dropping = tuple(keep for keep in averages.KEEP if keep < 1)

    def ours(keep: tuple[float, ...]) -> float:
        return averages.run(size, masks, keep).seconds / (masks * len(keep))

    ours(averages.KEEP)
    found = alternate(
        {
            "plain NumPy": lambda: averages.time_plain_loop(size, averages.KEEP, 0, _PLAIN_DRAWS),
            "thinned": lambda: ours(averages.KEEP),
            "thinned, without keep rate 1": lambda: ours(dropping),
        },
        settings.repeats,
    )
    return result(
        found,
        found.figure("plain NumPy", "thinned", at_least(20)),
        found.figure("plain NumPy", "thinned, without keep rate 1"),
    )


AVERAGES = (Row("averages experiment, 10^6 elements, a draw", _measure),)
