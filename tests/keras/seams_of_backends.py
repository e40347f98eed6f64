"""What one backend has alone: its recomputation, its tapes, its replicas, its ragged tensors."""

import keras
import numpy as np
import pytest
from frameworks import BACKEND, array, tensor
from listed import LAYERS, X, close, forward_and_back, made, number

import thinned
from thinned import Key
from thinned.keras import Dropout


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
