"""A Keras LSTM with dropout: two trainings with one seed end with equal weights."""

import keras
import numpy as np

from thinned.keras import LSTM, Dropout


def trained() -> list[np.ndarray]:
    """The weights after two epochs."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 4)),
            LSTM(16, dropout=0.1, recurrent_dropout=0.1, seed=1, name="rows"),
            Dropout(0.5, seed=1, name="drop"),
            keras.layers.Dense(2),
        ]
    )
    model.compile("sgd", "mse")
    rng = np.random.default_rng(0)
    model.fit(
        rng.normal(size=(16, 8, 4)),
        rng.normal(size=(16, 2)),
        batch_size=8,
        epochs=2,
        verbose=0,
        shuffle=False,
    )
    return model.get_weights()


assert all(np.array_equal(a, b) for a, b in zip(trained(), trained(), strict=True))
print("Keras: two trainings are equal to the bit")
