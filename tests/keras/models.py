"""On the active backend: models that train, are saved, loaded and cloned.

Run by `test_backends.py` on each of the three.
"""

import keras
import numpy as np
import pytest
from frameworks import BACKEND, array
from sklearn.datasets import load_digits

import thinned
from thinned import Key
from thinned.keras import (
    LSTM,
    AlphaDropout,
    DropConnect,
    Dropout,
    GaussianDropout,
    Keyed,
    SpatialDropout1D,
    keyed,
)

IMAGES, LABELS = load_digits(return_X_y=True)
IMAGES, LABELS = (IMAGES[:512] / 16).astype("float32"), LABELS[:512]


def network(**kwargs):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            Dropout(0.1, seed=1, name="inputs"),
            keras.layers.Dense(64, activation="selu"),
            AlphaDropout(0.05, seed=1, name="alpha"),
            GaussianDropout(0.1, seed=1, name="gaussian"),
            DropConnect(keras.layers.Dense(10), 0.2, seed=Key(7), name="connect"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"], **kwargs)
    return model


def fit(model, epochs=1):
    return model.fit(IMAGES, LABELS, epochs=epochs, batch_size=64, shuffle=False, verbose=0).history


# "auto" is True on JAX, elsewhere False on a CPU. torch's True is a test below.
MODES = ["auto", True] if BACKEND == "tensorflow" else ["auto"]


@pytest.mark.parametrize("jit", MODES)
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_it_learns_and_a_loaded_model_predicts_the_same(policy, jit, tmp_path):
    if policy != "float32" and jit != "auto":
        return
    keras.config.set_dtype_policy(policy)
    try:
        model = network(jit_compile=jit)
        history = fit(model, 4)
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
    finally:
        keras.config.set_dtype_policy("float32")
    assert history["accuracy"][-1] > 0.7
    assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in model.layers]
    assert (loaded.predict(IMAGES, verbose=0) == model.predict(IMAGES, verbose=0)).all()
    drops = [layer for layer in model.layers if hasattr(layer, "seed_generator")]
    assert [array(layer.seed_generator.state.value)[1] for layer in drops] == [32] * 4
    # As Keras: a generator's state is not saved, and numbers begin again.
    assert array(loaded.layers[0].seed_generator.state.value)[1] == 0


def test_training_is_reproducible():
    first, second = fit(network()), fit(network())
    assert first == second


def test_masks_in_fit_are_numpys():
    """A layer that does nothing but drop, and a metric that sees what comes out of it."""
    seen = []

    class Watch(keras.layers.Layer):
        def call(self, inputs):
            return inputs

    layer = Dropout(0.3, seed=5, name="a")
    model = keras.Sequential([keras.Input((64,)), layer, Watch()])
    model.compile("sgd", lambda truth, out: keras.ops.mean((truth - out) ** 2))
    for n in range(3):
        target = thinned.dropout(IMAGES[:64], 0.3, key=Key(5).fold("a").fold(n), training=True)
        seen.append(model.train_on_batch(IMAGES[:64], target))
    assert seen == [0, 0, 0]


def one_site(**kwargs):
    keras.utils.set_random_seed(0)
    layers = [keras.Input((64,)), keras.layers.Dense(8), Dropout(0.5, name="a"), keras.layers.Dense(10)]
    model = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01, **kwargs.pop("optimizer", {})), loss, **kwargs)
    return model


def fit_keyed(model, until, begin=0):
    model.fit(
        IMAGES[:160], LABELS[:160], epochs=until, initial_epoch=begin, batch_size=16, shuffle=False,
        verbose=0, validation_data=(IMAGES[:16], LABELS[:16]), callbacks=[Keyed(7)],
    )  # fmt: skip
    return model


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # Keras's own, when it saves
@pytest.mark.full  # seven runs; the count that all of them set is tested below
@pytest.mark.parametrize("settings", [{}, {"steps_per_execution": 3}, {"accumulated": 3}], ids=str)
def test_a_run_that_is_resumed_from_a_file_is_the_plain_loop(settings, tmp_path):
    """Ten batches an epoch: a third of them are three executions, or gradients' parts, and one is left."""
    if BACKEND == "torch" and "steps_per_execution" in settings:
        pytest.skip("Keras has no steps_per_execution on PyTorch")
    settings = dict(settings)
    optimizer = {"gradient_accumulation_steps": settings.pop("accumulated", None)}
    plain = keyed(one_site(optimizer=optimizer), 7)
    for batch in [slice(start, start + 16) for start in range(0, 160, 16)] * 3:
        plain.train_on_batch(IMAGES[batch], LABELS[batch])
    begun = fit_keyed(one_site(optimizer=optimizer, **settings), 1)
    begun.save(tmp_path / "model.keras")
    resumed = fit_keyed(keras.models.load_model(tmp_path / "model.keras"), 3, begin=1)
    for one, other in zip(plain.trainable_variables, resumed.trainable_variables, strict=True):
        assert (array(one.value) == array(other.value)).all()


@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_an_epoch_begins_at_the_optimizers_count_and_a_run_without_it_is_warned_of():
    callback, model = Keyed(7), one_site()
    callback.set_model(model)
    callback.on_train_begin()
    with pytest.warns(UserWarning, match="epoch 2 begins and the optimizer has counted no batch"):
        callback.on_epoch_begin(2)
    model.optimizer.iterations.assign(20)
    callback.on_epoch_begin(2)
    assert keras.ops.convert_to_numpy(model.get_layer("a").seed_generator.state)[1] == 20


def test_a_clone_has_the_same_masks():
    x = np.ones((4, 6, 8), "float32")
    model = keras.Sequential(
        [keras.Input((6, 8)), SpatialDropout1D(0.5, seed=1), LSTM(3, dropout=0.5, seed=1)]
    )
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    assert (array(model(x, training=True)) == array(clone(x, training=True))).all()


@pytest.mark.full  # masks.py compiles layers by torch in the quick tier
@pytest.mark.skipif(BACKEND != "torch", reason="the compiler of torch")
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_torch_compiles_a_step():
    losses = []
    for jit in (True, False):
        keras.utils.set_random_seed(0)
        layers = [keras.Input((64,)), Dropout(0.5, seed=1, name="a"), keras.layers.Dense(10, "softmax")]
        model = keras.Sequential(layers)
        model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=jit)
        assert model.jit_compile == jit
        losses.append([model.train_on_batch(IMAGES[:64], LABELS[:64]) for _ in range(2)])
    # Kernels that the compiler makes may round otherwise.
    np.testing.assert_allclose(*losses, rtol=1e-5)
