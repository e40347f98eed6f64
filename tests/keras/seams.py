"""On the active backend: each layer where it meets other people's code.

Run by `test_backends.py` on each of the three; `listed.py` has the layers.
"""

import copy
import pickle
import threading

import keras
import numpy as np
import pytest
from frameworks import BACKEND, WAYS, array, compiled, tensor
from listed import LAYERS, close, count_from, each, forward_and_back, made, number, tk


def test_every_layer_is_listed():
    classes = {name for name in tk.__all__ if isinstance(getattr(tk, name), type)}
    assert classes - set(LAYERS) == {"Keyed"}  # a callback
    assert set(LAYERS) < classes


@each
@pytest.mark.filterwarnings("ignore:.*drops inside keras.remat")
def test_a_block_that_is_computed_again_has_the_masks_of_the_first_time(name):
    if name == "WordDropout":
        pytest.skip("tokens have no gradient")
    layer, x = made(name)
    plain = forward_and_back(layer, lambda block: block, x)
    ways = [keras.remat]
    if name == "Dropout":
        ways.append(lambda block: keras.remat(lambda x: keras.remat(block)(x) * 1.0))
    for way in ways:
        got = forward_and_back(layer, way, x)
        close(got[0], plain[0])
        close(got[1], plain[1])
        assert got[2] == plain[2]
    assert (array(keras.ops.square(layer(x, training=True))) != plain[0]).any()


@each
def test_a_layer_in_a_remat_scope_trains(name):
    if BACKEND == "jax" and name.endswith("Cell"):
        pytest.skip("Keras's own RNN has its flag traced in a RematScope on JAX, and says so")
    with keras.RematScope("full"):
        layer, x = made(name)
    twin, _ = made(name)
    twin.set_weights(layer.get_weights())
    for _ in range(2):
        close(
            keras.ops.stop_gradient(layer(x, training=True)), keras.ops.stop_gradient(twin(x, training=True))
        )
    assert number(layer) == number(twin)


@each
def test_compiled_code_has_the_masks_of_eager(name):
    if BACKEND == "torch" and name != "Dropout":
        pytest.skip("the compiler of torch takes seconds for each: one layer stands for all")
    layer, x = made(name)
    expected = [array(keras.ops.stop_gradient(layer(x, training=True))) for _ in range(2)]
    after = number(layer)
    count_from(layer, 0)
    call = compiled(layer, WAYS[0])
    for one in expected:
        close(keras.ops.stop_gradient(call(tensor(x))), one)
    assert number(layer) == after


@each
def test_a_copy_begins_again_as_what_is_loaded(name):
    """Keras copies by its archive, which holds no counter."""
    layer, x = made(name)
    expected = array(keras.ops.stop_gradient(layer(x, training=True)))
    again = copy.deepcopy(layer)
    assert number(again) == 0
    close(keras.ops.stop_gradient(again(x, training=True)), expected)
    assert number(again) == number(layer)


@each
def test_a_model_is_saved_loaded_and_pickled(name, tmp_path):
    layer, x = made(name)
    inputs = keras.Input(x.shape[1:])
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "model.keras")
    others = [keras.models.load_model(tmp_path / "model.keras"), pickle.loads(pickle.dumps(model))]
    for other in others:
        close(other(x), model(x))
        for one in (other, model):
            count_from(one, 0)
        expected = array(keras.ops.stop_gradient(model(x, training=True)))
        close(keras.ops.stop_gradient(other(x, training=True)), expected)
        assert number(other) == number(model)
        assert not np.allclose(array(model(x)), expected, rtol=1e-3)


@each
def test_threads_have_masks_of_their_own(name):
    layer, x = made(name)
    several = hasattr(layer, "cell")
    if several and layer.cell.__class__.__name__ == "SimpleRNNCell":
        layer.cell.dropout, several = 0.0, False  # the state's mask is left, one a call
    calls = 8
    expected = [array(keras.ops.stop_gradient(layer(x, training=True))) for _ in range(calls)]
    after = number(layer)
    count_from(layer, 0)
    got, failed = [], []

    def work():
        try:
            for _ in range(calls // 4):
                got.append(array(keras.ops.stop_gradient(layer(x, training=True))))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert number(layer) == after
    if several:
        return  # a call draws several masks, which two threads' calls share out in any order
    for one in expected:
        assert any(np.allclose(one, other, rtol=1e-4, atol=1e-5) for other in got)
