"""On the active backend: recurrent layers and DropConnect.

Run by `test_backends.py` on each of the three.
"""

import keras
import ml_dtypes
import numpy as np
import pytest
from frameworks import array, gradient, same_bits, tensor

import thinned
from thinned import Key
from thinned.keras import GRU, LSTM, DropConnect, Dropout, GRUCell, LSTMCell, SimpleRNN, SimpleRNNCell

X = np.random.default_rng(0).normal(size=(3, 5, 4)).astype("float32")
GATES = {SimpleRNN: 1, GRU: 3, LSTM: 4}
CELLS = {SimpleRNN: SimpleRNNCell, GRU: GRUCell, LSTM: LSTMCell}


def dropped(x, rate, key, **kwargs):
    return thinned.dropout(x, rate, key=key, training=True, **kwargs)


def number(layer):
    return int(array(layer.seed_generator.state.value)[1])


def twin(layer, kind):
    """Keras's own layer with the same weights."""
    config = {
        k: v for k, v in layer.get_config().items() if k not in ("seed", "dropout", "recurrent_dropout")
    }
    other = getattr(keras.layers, kind.__name__).from_config(config)
    other.build(X.shape)
    other.set_weights(layer.get_weights())
    return other


@pytest.mark.parametrize("kind", CELLS.values())
def test_a_cells_masks_are_numpys(kind):
    cell = kind(6, dropout=0.3, recurrent_dropout=0.4, seed=2, name="cell")
    key, state = Key(2).fold("cell"), np.ones((3, 6), "float32")
    masks = cell.get_dropout_mask(tensor(X[:, 0]))
    masks = masks if isinstance(masks, list) else [masks]
    again = cell.get_recurrent_dropout_mask(tensor(state))
    again = again if isinstance(again, list) else [again]
    for n, mask in enumerate(masks):
        for time in range(2):
            assert same_bits(tensor(X[:, time]) * mask, dropped(X[:, time], 0.3, key.fold(n)))
    for n, mask in enumerate(again, len(masks)):
        assert same_bits(tensor(state) * mask, dropped(state, 0.4, key.fold(n)))
    assert number(cell) == len(masks) + len(again)
    cell.reset_dropout_mask()
    cell.reset_recurrent_dropout_mask()
    mask = cell.get_dropout_mask(tensor(X[:, 0]))
    mask = mask[0] if isinstance(mask, list) else mask
    low = X[:, 0].astype(ml_dtypes.bfloat16)
    assert same_bits(tensor(low) * mask, dropped(low, 0.3, key.fold(len(masks) + len(again))))


@pytest.mark.parametrize(
    ("kind", "dtype"), [(SimpleRNN, "float32"), (GRU, "float32"), (LSTM, "float32"), (GRU, "mixed_bfloat16")]
)
def test_dropout_of_the_inputs_is_that_of_the_sequence(kind, dtype):
    layer = kind(6, dropout=0.3, seed=2, name="r", dtype=dtype)
    layer.build(X.shape)
    x = X.astype(ml_dtypes.bfloat16) if dtype == "mixed_bfloat16" else X
    for n in range(2):
        expected = twin(layer, kind)(dropped(x, 0.3, Key(2).fold("r").fold(n), noise_shape=(None, 1, None)))
        assert (array(layer(X, training=True)) == array(expected)).all()
    assert number(layer.cell) == 2


@pytest.mark.parametrize(
    ("kind", "rates"),
    [
        *((kind, {"dropout": 0.3, "recurrent_dropout": 0.4}) for kind in GATES),
        (LSTM, {"recurrent_dropout": 0.4}),
    ],
)
def test_recurrent_dropout_is_keras_with_numpys_masks(kind, rates):
    layer = kind(6, **rates, seed=2, name="r", return_sequences=True)
    got = array(layer(X, training=True))
    other = twin(layer, kind)
    cell, key, drawn = other.cell, Key(2).fold("r"), 0

    def masks(like, rate):
        nonlocal drawn
        count = getattr(cell, "dropout_mask_count", None)
        made = []
        for _ in range(count or 1):
            made.append(tensor(dropped(np.ones(tuple(like.shape), "float32"), rate, key.fold(drawn))))
            drawn += 1
        return made if count else made[0]

    for name, rate in rates.items():
        setattr(cell, name, rate)
    if kind is not SimpleRNN:
        cell.implementation, cell.dropout_mask_count = 1, GATES[kind]
    cell._create_dropout_mask = masks
    # Products are the same to the bit; XLA and others may add them in another order.
    np.testing.assert_allclose(got, array(other(X, training=True)), rtol=2e-5, atol=1e-6)
    assert drawn == number(layer.cell) == GATES[kind] * len(rates)
    assert not np.allclose(got, array(layer(X)), atol=0.01)


@pytest.mark.parametrize("kind", GATES)
def test_evaluation_draws_nothing_and_is_keras(kind):
    layer = kind(6, dropout=0.3, recurrent_dropout=0.4, seed=2)
    y = array(layer(X))
    assert number(layer.cell) == 0
    np.testing.assert_allclose(y, array(twin(layer, kind)(X)), rtol=1e-5, atol=1e-7)
    layer(X, training=True)
    assert (array(layer(X)) == y).all()


@pytest.mark.parametrize("kind", GATES)
def test_rates_of_one_drop_all(kind):
    bad = np.full_like(X, np.nan)
    layer = kind(6, dropout=1, recurrent_dropout=1, bias_initializer="ones")
    config = layer.cell.get_config()
    assert (config["dropout"], config["recurrent_dropout"]) == (1, 1)
    y = array(layer(bad, training=True))
    assert np.isfinite(y).all()
    assert (y == array(layer(np.zeros_like(X), training=True))).all()


LEARNED = "a learned first state"


@pytest.mark.parametrize("way", ["stateful", "unrolled", LEARNED, "both directions", "several cells"])
@pytest.mark.parametrize("kind", GATES)
def test_states_that_are_variables(kind, way):
    """A variable is the first of the two that a cell multiplies, and knows no mask."""
    rates, states = {"dropout": 0.3, "recurrent_dropout": 0.4}, 2 if kind is LSTM else 1
    if way == "several cells":
        layer = keras.layers.RNN([CELLS[kind](6, **rates, seed=2) for _ in range(2)], stateful=True)
    elif way == "both directions":
        layer = keras.layers.Bidirectional(kind(6, **rates, stateful=True))
    else:
        layer = kind(6, **rates, stateful=way != LEARNED, unroll=way == "unrolled", seed=2)
    start = {}
    if way == LEARNED:
        start["initial_state"] = [keras.Variable(np.full((3, 6), 0.5, "float32")) for _ in range(states)]
    first, second = (array(keras.ops.stop_gradient(layer(X, training=True, **start))) for _ in range(2))
    assert np.isfinite(first).all()
    assert (first != second).any()
    if way == LEARNED:
        plain = kind(6, **rates, seed=2, name=layer.name)
        plain.build(X.shape)
        plain.set_weights(layer.get_weights())
        as_tensors = [tensor(np.full((3, 6), 0.5, "float32")) for _ in range(states)]
        got = array(keras.ops.stop_gradient(plain(X, training=True, initial_state=as_tensors)))
        np.testing.assert_allclose(first, got, rtol=1e-5)


@pytest.mark.parametrize("kind", CELLS.values())
def test_a_cell_called_with_variables_has_numpys_masks(kind):
    cell = kind(6, dropout=0.3, recurrent_dropout=0.4, seed=2, name="cell")
    states = [np.full((3, 6), 0.5, "float32")] * (2 if kind is LSTMCell else 1)
    outputs = []
    for wrap in (tensor, keras.Variable):
        outputs.append(cell(wrap(X[:, 0]), [wrap(state) for state in states], training=True)[0])
    assert (array(keras.ops.stop_gradient(outputs[0])) == array(keras.ops.stop_gradient(outputs[1]))).all()


def test_two_layers_with_one_seed_differ_and_both_directions():
    outputs = []
    for name in ("a", "b", "a"):
        layer = GRU(6, recurrent_dropout=0.5, dropout=0.5, seed=1, name=name, kernel_initializer="ones")
        layer.build(X.shape)
        layer.cell.recurrent_kernel.assign(np.ones((6, 18)))
        outputs.append(array(layer(X, training=True)))
    assert (outputs[0] == outputs[2]).all()
    assert (outputs[0] != outputs[1]).any()
    both = keras.layers.Bidirectional(LSTM(6, recurrent_dropout=0.5, seed=1, name="lstm"))
    both(X, training=True)
    assert both.forward_layer.cell.mask_name == "forward_lstm"
    assert both.backward_layer.cell.mask_name == "backward_lstm"


def test_cells_in_keras_rnn():
    stack = keras.layers.RNN(
        [GRUCell(4, dropout=0.3, recurrent_dropout=0.3, seed=1), LSTMCell(5, dropout=0.3, seed=1)]
    )
    assert array(stack(X, training=True)).shape == (3, 5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(stack))
    assert [type(cell) for cell in again.cell.cells] == [GRUCell, LSTMCell]


def test_arguments_by_position_and_a_function_that_cannot_be_stored():
    layer = GRU(6, lambda x: x * 0.5, dropout=0.1)
    assert layer.activation(2.0) == 1.0
    assert type(layer.cell) is GRUCell
    assert len(layer._layers) == 1


KERNELS = {
    "Dense": (lambda **kw: keras.layers.Dense(7, **kw), (6, 4)),
    "Conv1D": (lambda **kw: keras.layers.Conv1D(7, 3, **kw), (3, 5, 4)),
    "Conv2D": (lambda **kw: keras.layers.Conv2D(3, 2, **kw), (2, 5, 5, 4)),
    "Conv3D": (lambda **kw: keras.layers.Conv3D(3, 2, **kw), (2, 4, 4, 4, 2)),
    "DepthwiseConv2D": (lambda **kw: keras.layers.DepthwiseConv2D(2, **kw), (2, 5, 5, 4)),
}


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("name", KERNELS)
def test_drop_connect_uses_a_dropped_copy_of_the_kernel(name, dtype):
    make, shape = KERNELS[name]
    inner = make(dtype=dtype, bias_initializer="ones")
    layer = DropConnect(inner, 0.4, seed=3, name="c")
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    plain = array(layer(x))
    kernel = keras.ops.convert_to_numpy(inner.kernel.value)
    y = array(layer(x, training=True))
    assert (keras.ops.convert_to_numpy(inner.kernel.value) == kernel).all()
    low = kernel.astype(ml_dtypes.bfloat16) if dtype == "mixed_bfloat16" else kernel
    inner.kernel.assign(dropped(low, 0.4, Key(3).fold("c").fold(0)).astype("float32"))
    assert (array(inner(x)) == y).all()
    assert (y != plain).any()


def test_drop_connect_keeps_what_the_layer_adds_and_trains_what_is_kept():
    inner = keras.layers.Dense(7, activity_regularizer="l2", kernel_regularizer="l1")
    layer = DropConnect(inner, 0.4, seed=Key(3))
    y = layer(X[:, 0], training=True)
    kernel = array(inner.kernel.value)
    expected = sorted([0.01 * np.abs(kernel).sum(), 0.01 * (array(y) ** 2).sum() / 3])
    np.testing.assert_allclose(sorted(float(array(loss)) for loss in layer.losses), expected, rtol=1e-5)
    kept = thinned.keep_mask(kernel.shape, 0.4, key=Key(3).fold(1))

    def run(kernel):
        with keras.StatelessScope([(inner.kernel, kernel)]):
            return layer(tensor(X[:, 0]), training=True)

    layer.activity_regularizer = inner.activity_regularizer = None
    back = array(gradient(run, kernel, np.ones((3, 7), "float32")))
    assert (back[~kept] == 0).all()
    assert (back[kept] != 0).all()


def test_drop_connect_needs_a_kernel():
    with pytest.raises(ValueError, match="DropConnect needs a layer with a kernel, got <LayerNormalization"):
        DropConnect(keras.layers.LayerNormalization(), 0.5)(X)
    with pytest.raises(ValueError, match="DropConnect needs a layer with a kernel"):
        DropConnect(Dropout(0.5), 0.5)(X)


def test_drop_connect_around_a_trained_layer_and_back():
    inner = keras.layers.Dense(7)
    inner.build((None, 4))
    layer = DropConnect(inner, 0.4, seed=3)
    assert (array(layer(X)) == array(inner(X))).all()
    assert [w.path for w in layer.weights] == [w.path for w in inner.weights]
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config()
    assert layer.compute_output_shape((3, 5, 4)) == (3, 5, 7)
