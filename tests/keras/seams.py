"""On the active backend: each layer where it meets other people's code.

Run by `test_backends.py` on each of the three. A new layer is in every test by being listed in `LAYERS`.
"""

import copy
import functools
import pickle
import threading

import keras
import numpy as np
import pytest
from frameworks import BACKEND, WAYS, array, compiled, gradient, tensor

import thinned
from thinned import Key
from thinned.keras import Dropout

tk = thinned.keras
X = np.random.default_rng(0).uniform(0.5, 1.5, (4, 5, 6)).astype("float32")
IMAGES = np.random.default_rng(1).uniform(0.5, 1.5, (4, 5, 5, 6)).astype("float32")
VOLUMES = np.random.default_rng(2).uniform(0.5, 1.5, (4, 3, 3, 3, 6)).astype("float32")
TOKENS = np.arange(1, 81).reshape(4, 20).astype("int32")
RATES = {"dropout": 0.4, "recurrent_dropout": 0.4}


def in_rnn(kind):
    return lambda **kwargs: keras.layers.RNN(kind(3, **RATES, **kwargs))


def connected(**kwargs):
    return tk.DropConnect(keras.layers.Dense(3), 0.4, **kwargs)


def concrete(**kwargs):
    return tk.ConcreteDropout(keras.layers.Dense(3), 0.4, samples=9, **kwargs)


def alone(kind):
    """The layer for one sequence: its own query, and key."""
    listed = issubclass(kind, keras.layers.Attention)

    class Alone(kind):
        def build(self, shape):
            super().build(*([[shape] * 2] if listed else [shape] * 2))

        def call(self, x, training=False):
            return super().call(*([[x, x]] if listed else [x, x]), training=training)

        def compute_mask(self, x, mask=None):
            return mask

        def compute_output_spec(self, x, training=False):
            return keras.KerasTensor(x.shape, self.compute_dtype)

    Alone.__name__ = kind.__name__ + "Alone"
    return keras.saving.register_keras_serializable("tests")(Alone)


ATTENTION = {name: alone(getattr(tk, name)) for name in ("Attention", "AdditiveAttention")}
HEADS = {name: alone(getattr(tk, name)) for name in ("MultiHeadAttention", "GroupQueryAttention")}

LAYERS = {
    **{name: (functools.partial(kind, dropout=0.4), X) for name, kind in ATTENTION.items()},
    "MultiHeadAttention": (functools.partial(HEADS["MultiHeadAttention"], 2, 3, dropout=0.4), X),
    "GroupQueryAttention": (functools.partial(HEADS["GroupQueryAttention"], 3, 4, 2, dropout=0.4), X),
    "Dropout": (functools.partial(tk.Dropout, 0.4), X),
    "AlphaDropout": (functools.partial(tk.AlphaDropout, 0.4), X),
    "GaussianDropout": (functools.partial(tk.GaussianDropout, 0.4), X),
    "SpatialDropout1D": (functools.partial(tk.SpatialDropout1D, 0.4), X),
    "SpatialDropout2D": (functools.partial(tk.SpatialDropout2D, 0.4), IMAGES),
    "SpatialDropout3D": (functools.partial(tk.SpatialDropout3D, 0.4), VOLUMES),
    "DropConnect": (connected, X),
    "ConcreteDropout": (concrete, X),
    "WordDropout": (functools.partial(tk.WordDropout, 0.4, 0), TOKENS),
    "SpecAugment": (functools.partial(tk.SpecAugment, 3, 3), X),
    "Cutout": (functools.partial(tk.Cutout, 3, data_format="channels_last"), IMAGES),
    "DropBlock2D": (functools.partial(tk.DropBlock2D, 0.4, 2, data_format="channels_last"), IMAGES),
    "SimpleRNN": (functools.partial(tk.SimpleRNN, 3, **RATES), X),
    "GRU": (functools.partial(tk.GRU, 3, **RATES), X),
    "LSTM": (functools.partial(tk.LSTM, 3, **RATES), X),
    "SimpleRNNCell": (in_rnn(tk.SimpleRNNCell), X),
    "GRUCell": (in_rnn(tk.GRUCell), X),
    "LSTMCell": (in_rnn(tk.LSTMCell), X),
}
# These have nothing of their own: all that is ours is in a mixin or base, which another layer has too.
ALIKE = (
    "GroupQueryAttention",
    "AdditiveAttention",
    "WordDropout",
    "SpecAugment",
    "Cutout",
    "DropBlock2D",
    "ConcreteDropout",
)
each = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.full) if name in ALIKE else name for name in LAYERS]
)


def made(listed):
    """A built layer whose next call has number 0, and inputs for it."""
    make, x = LAYERS[listed]
    layer = make(seed=Key(3))
    layer(x)
    count_from(layer, 0)
    return layer, x


def count_from(layer, number):
    state_of(layer).assign([0, number])


def state_of(layer):
    """The variable that counts calls."""
    (state,) = [v for v in layer.non_trainable_variables if "seed_generator" in v.path]
    return state


def number(layer):
    return int(array(state_of(layer).value)[1])


def close(got, expected):
    """Compilers and threads may add in another order; a mask that differs shows in the first digit."""
    np.testing.assert_allclose(array(got), array(expected), rtol=1e-4, atol=1e-5)


def forward_and_back(layer, wrap, x):
    """Of the square of the outputs, whose gradient needs them again; counted from number 5."""

    def block(x):
        return keras.ops.square(layer(x, training=True))

    y_shape = tuple(layer(x).shape)
    count_from(layer, 5)
    run = wrap(block)
    if BACKEND == "jax":
        import jax

        y, pull = jax.vjp(run, tensor(x))
        return array(y), array(pull(jax.numpy.ones_like(y))[0]), number(layer)
    seen = []

    def keep(x):
        seen.append(run(x))
        return seen[0]

    back = gradient(keep, x, np.ones(y_shape, "float32"))
    return array(keras.ops.stop_gradient(seen[0])), array(back), number(layer)


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


@pytest.mark.skipif(BACKEND != "jax", reason="JAX keeps what it has traced")
def test_a_function_that_remat_keeps_is_warned_of():
    layer = Dropout(0.5, seed=1)
    with pytest.warns(RuntimeWarning, match="give keras.remat a new function for each call"):
        keras.remat(lambda x: layer(x, training=True))(tensor(X))


@pytest.mark.skipif(BACKEND != "torch", reason="torch's checkpoints")
@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("rng", [True, False])
def test_torchs_checkpoints(reentrant, rng):
    from torch.utils.checkpoint import checkpoint

    layer, x = made("LSTM")
    plain = forward_and_back(layer, lambda block: block, x)

    def wrap(block):
        return lambda x: checkpoint(block, x, use_reentrant=reentrant, preserve_rng_state=rng)

    again = forward_and_back(layer, wrap, x)
    close(again[1], plain[1])
    assert again[2] == plain[2]


@pytest.mark.skipif(BACKEND != "torch", reason="torch's backward passes")
def test_a_graph_that_is_kept_is_computed_again_alike():
    """A block called thrice, the gradients in another order than torch's own, and one of them twice."""
    import torch

    layer = Dropout(0.5, seed=1, name="a")
    block = keras.remat(lambda x: torch.square(layer(x, training=True)))
    x = torch.ones(50, requires_grad=True)
    outs = [block(x) for _ in range(3)]
    for n in (1, 0, 2, 1):
        (back,) = torch.autograd.grad(outs[n].sum(), x, retain_graph=True)
        mask = thinned.keep_mask(50, 0.5, key=Key(1).fold("a").fold(n))
        assert (array(back != 0) == mask).all()
    assert number(layer) == 3


@pytest.mark.skipif(BACKEND != "torch", reason="torch's backward passes")
def test_a_backward_pass_of_somebody_elses_making_is_refused():
    import torch

    layer = Dropout(0.5, seed=1, name="mine")

    class Recomputes(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return layer(x, training=True)

        @staticmethod
        def backward(ctx, upstream):
            with torch.enable_grad():
                x = ctx.saved_tensors[0].detach().requires_grad_()
                return torch.autograd.grad(layer(x, training=True), x, upstream)[0]

    with pytest.raises(RuntimeError, match="layer 'mine' drops in a block that is computed again"):
        Recomputes.apply(torch.ones(5, requires_grad=True)).sum().backward()


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow's functions")
@pytest.mark.parametrize("xla", [False, pytest.param(True, marks=pytest.mark.full)], ids=["function", "XLA"])
def test_recomputation_in_a_graph(xla):
    import tensorflow as tf

    layer = Dropout(0.5, seed=1, name="a")
    block = tf.recompute_grad(lambda x: tf.square(layer(x, training=True)))

    @tf.function(jit_compile=xla, autograph=False)
    def both(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = block(x) + block(x)
        return y, tape.gradient(y, x)

    for n in (0, 2):
        y, back = both(tf.ones(50))
        masks = [thinned.keep_mask(50, 0.5, key=Key(1).fold("a").fold(n + k)) for k in range(2)]
        assert (y.numpy() == 4.0 * (masks[0] * 1.0 + masks[1])).all()
        assert (back.numpy() == 8.0 * (masks[0] * 1.0 + masks[1])).all()


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow's tapes")
def test_tapes_that_are_asked_in_any_order():
    """Of one tensor, through one block: what tells the calls apart is the call alone."""
    import tensorflow as tf

    layer = Dropout(0.5, seed=1, name="a")
    block = tf.recompute_grad(lambda x: tf.square(layer(x, training=True)))
    x = tf.ones(50)
    tapes = []
    for n in range(4):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y = block(x)
        if n != 1:  # whose memory the next call's may be
            tapes.append((n, tape, y))
        del tape
    for n, tape, y in [*reversed(tapes), *tapes]:
        mask = thinned.keep_mask(50, 0.5, key=Key(1).fold("a").fold(n))
        assert ((tape.gradient(y, x) != 0).numpy() == mask).all(), n
    assert number(layer) == 4


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow's strategies")
@pytest.mark.parametrize("traced", [False, True], ids=["eager", "function"])
def test_replicas_have_masks_of_their_own(traced):
    """Replica r of R has number n · R + r."""
    import tensorflow as tf

    from thinned.tensorflow import nn

    strategy = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
    x = np.ones((2, 40), "float32")
    with strategy.scope():
        layer = Dropout(0.5, seed=1, name="a")

    def each_has(call):
        run = (
            tf.function(lambda: strategy.run(call), autograph=False) if traced else lambda: strategy.run(call)
        )
        return [[one.numpy() for one in strategy.experimental_local_results(run())] for _ in range(2)]

    for n, replicas in enumerate(each_has(lambda: layer(x, training=True))):
        for r, got in enumerate(replicas):
            key = Key(1).fold("a").fold(2 * n + r)
            assert (got == thinned.dropout(x, 0.5, key=key, training=True)).all()
    for a, b in each_has(lambda: nn.dropout(x, 0.5, seed=7)):
        assert (a != b).any()


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow's ragged tensors")
@pytest.mark.parametrize("name", ["Dropout", "AlphaDropout", "GaussianDropout"])
def test_ragged_tensors_drop_by_their_values(name):
    import tensorflow as tf

    layer = LAYERS[name][0](seed=Key(1))
    values = tf.ones(9)
    ragged = tf.RaggedTensor.from_row_lengths(values, [2, 0, 7])
    y = layer(ragged, training=True)
    assert y.row_lengths().numpy().tolist() == [2, 0, 7]
    twin = LAYERS[name][0](seed=Key(1))
    assert (y.flat_values == twin(values, training=True)).numpy().all()
    assert (layer(ragged).flat_values == values).numpy().all()
    sparse = tf.sparse.from_dense(np.eye(3, dtype="float32"))
    assert (tf.sparse.to_dense(layer(sparse)) == tf.sparse.to_dense(sparse)).numpy().all()
    with pytest.raises(TypeError, match=r"got a tf\.SparseTensor: drop tf\.sparse\.to_dense\(x\)"):
        layer(sparse, training=True)
