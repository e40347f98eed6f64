"""nnx.Dropout under nnx's transformations: the same bits as without them."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jax_masks import equal, numpys
from sklearn.datasets import load_digits

from thinned.flax.nnx import DropConnect, Dropout
from thinned.jax import _native

X = jnp.linspace(1, 2, 16 * 24).reshape(16, 24)


def handed_out(seed=7):
    """The stream that a layer of `rngs=nnx.Rngs(seed)` has."""
    return nnx.Rngs(seed)["dropout"].fork()


def test_jit_advances_the_count():
    layer, stream = Dropout(0.5, rngs=nnx.Rngs(7)), handed_out()
    step = nnx.jit(lambda layer, x: layer(x))
    for _ in range(3):
        assert equal(step(layer, X), numpys(X, 0.5, stream()))
    assert layer.rngs.count[...] == 3


def test_split_and_merge():
    graph, state = nnx.split(Dropout(0.5, rngs=nnx.Rngs(7)))

    @jax.jit
    def step(state, x):
        layer = nnx.merge(graph, state)
        y = layer(x)
        return nnx.state(layer), y

    stream = handed_out()
    for _ in range(2):
        state, y = step(state, X)
        assert equal(y, numpys(X, 0.5, stream()))


@pytest.mark.parametrize("remat", [False, True])
def test_forward_and_backward_have_one_mask(remat):
    class Block(nnx.Module):
        def __init__(self):
            self.linear = nnx.Linear(24, 24, rngs=nnx.Rngs(0))
            self.drop = Dropout(0.5, rngs=nnx.Rngs(7))

        def __call__(self, x):
            return self.drop(self.linear(x))

    block = Block()
    run = nnx.remat(Block.__call__) if remat else Block.__call__
    gradient = nnx.jit(nnx.grad(lambda block, x: run(block, x).sum()))(block, X)
    mask = numpys(np.ones((16, 24), np.float32), 0.5, handed_out()())
    np.testing.assert_allclose(gradient["linear"]["kernel"][...], np.asarray(X).T @ mask, rtol=1e-5)
    assert block.drop.rngs.count[...] == 1


def test_vmap_with_split_rngs():
    layer = Dropout(0.5, rngs=nnx.Rngs(7))

    @nnx.split_rngs(splits=16)
    @nnx.vmap(in_axes=(nnx.StateAxes({nnx.RngState: 0, ...: None}), 0))
    def each(layer, x):
        return layer(x)

    keys = jax.random.split(handed_out()(), 16)
    expected = [numpys(x, 0.5, jax.random.fold_in(key, 0)) for x, key in zip(X, keys, strict=True)]
    assert equal(each(layer, X), np.stack(expected))


def test_an_ensemble_made_under_vmap():
    @nnx.split_rngs(splits=3)
    @nnx.vmap
    def made(rngs):
        return Dropout(0.5, rngs=rngs)

    layers = made(nnx.Rngs(7))
    y = nnx.vmap(lambda layer, x: layer(x), in_axes=(0, None))(layers, X)
    keys = [jax.random.fold_in(key, 0) for key in layers.rngs.key[...]]
    assert equal(y, np.stack([numpys(X, 0.5, key) for key in keys]))
    assert len({row.tobytes() for row in np.asarray(y)}) == 3


def test_scan_draws_a_key_a_step():
    layer, stream = Dropout(0.5, rngs=nnx.Rngs(7)), handed_out()

    @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0))
    def steps(layer, x):
        return layer, layer(x)

    _, y = steps(layer, X)
    assert equal(y, np.stack([numpys(x, 0.5, stream()) for x in X]))
    assert layer.rngs.count[...] == 16


@pytest.mark.parametrize(("rows", "columns"), [(8, 1), (2, 4), (1, 8)])
def test_a_sharded_step_has_the_whole_arrays_mask_and_no_collective(rows, columns):
    if len(jax.devices()) < 8:
        pytest.skip("needs XLA_FLAGS=--xla_force_host_platform_device_count=8")
    mesh = Mesh(np.array(jax.devices()[:8]).reshape(rows, columns), ("rows", "columns"))
    x = jax.device_put(X, NamedSharding(mesh, PartitionSpec("rows", "columns")))
    graph, state = nnx.split(Dropout(0.3, rngs=nnx.Rngs(7)))
    step = jax.jit(lambda state, x: nnx.merge(graph, state)(x))
    y = step(state, x)
    assert equal(y, numpys(X, 0.3, handed_out()()))
    assert y.sharding.is_equivalent_to(x.sharding, 2)
    program = step.lower(state, x).compile().as_text()
    assert ("thinned_dropout" in program) == _native.register()
    assert not re.search(r"all-(gather|reduce|to-all)|collective-permute", program)


@pytest.mark.parametrize(("dims", "noise"), [((), None), ((0,), (1, None))])
def test_a_mesh_of_explicit_axes(dims, noise):
    """The sharding is in the type; flax 0.12 fails here where dimensions share a decision."""
    if len(jax.devices()) < 8:
        pytest.skip("needs XLA_FLAGS=--xla_force_host_platform_device_count=8")
    mesh = jax.make_mesh((2, 4), ("rows", "columns"), axis_types=(AxisType.Explicit,) * 2)
    mask = handed_out()()
    with jax.set_mesh(mesh):
        layer = Dropout(0.3, broadcast_dims=dims, rngs=nnx.Rngs(7))
        x = jax.device_put(X, NamedSharding(mesh, PartitionSpec("rows", "columns")))
        gradient = nnx.jit(nnx.grad(lambda x, layer: layer(x).sum()))(x, layer)
        assert equal(gradient, numpys(np.ones_like(X), 0.3, mask, noise))
        assert jax.typeof(gradient) == jax.typeof(x)


@pytest.mark.full  # the masks of a training step are held above
def test_training_on_the_digits():
    """A small network learns, with a new mask in each step, and evaluates without one."""
    digits = load_digits()
    x, y = jnp.asarray(digits.data / 16, jnp.float32), jnp.asarray(digits.target)

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.hidden = nnx.Linear(64, 64, rngs=rngs)
            self.drop = Dropout(0.3, rngs=rngs)
            self.out = DropConnect(nnx.Linear(64, 10, rngs=rngs), 0.2, rngs=rngs)

        def __call__(self, x):
            return self.out(self.drop(nnx.relu(self.hidden(x))))

    net = Net(nnx.Rngs(0))
    optimizer = nnx.Optimizer(net, optax.adam(2e-2), wrt=nnx.Param)

    @nnx.jit
    def step(net, optimizer, x, y):
        def loss(net):
            return optax.softmax_cross_entropy_with_integer_labels(net(x), y).mean()

        value, gradient = nnx.value_and_grad(loss)(net)
        optimizer.update(net, gradient)
        return value

    losses = [float(step(net, optimizer, x[:1400], y[:1400])) for _ in range(30)]
    assert losses[-1] < 0.2 * losses[0]
    assert net.drop.rngs.count[...] == net.out.dropout.rngs.count[...] == 30
    net.eval()
    assert equal(net(x[1400:]), net(x[1400:]))
    assert (net(x[1400:]).argmax(-1) == y[1400:]).mean() > 0.85
