"""Dense layers of a thinned network: the units of PyTorch's fixed variant, and the values of their masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thinned import Key, _fixed
from thinned.jax import fold, kept_units, thin_dense

full = pytest.mark.full  # each shape is a program of its own


@pytest.mark.parametrize(
    ("size", "p"),
    [
        (20, 0.5),
        *(pytest.param(size, p, marks=full) for size in (1, 7, 40) for p in (0.0, 0.1, 0.5, 0.9, 1.0)),
    ],
)
def test_kept_units_are_those_of_every_other_way(size, p):
    key = Key(3, 2**40)
    kept = kept_units(size, p, key=key)
    assert kept.shape == (_fixed.kept_units(p, size),)
    assert kept.tolist() == _fixed.largest(key, 1, size, len(kept))[0].tolist()


def test_kept_units_are_those_of_pytorch():
    torch = pytest.importorskip("torch")
    from thinned.torch import keyed, thin

    model = torch.nn.Sequential(torch.nn.Linear(3, 20), torch.nn.Dropout(0.5), torch.nn.Linear(20, 3))
    thin(model, fixed=True)
    keyed(model, 5)
    (part,) = model[1].draw(20).parts
    assert kept_units(20, 0.5, key=Key(5).fold("1").fold(0)).tolist() == part.tolist()


def network(weights, x, key, p=0.5):
    (w1, b1), (w2, b2) = weights
    into, kept = kept_units(6, 0.2, key=fold(key, 0)), kept_units(20, p, key=fold(key, 1))
    hidden = jax.nn.relu(thin_dense(x, w1, b1, inputs=into, outputs=kept))
    return thin_dense(hidden, w2, b2, inputs=kept)


def masked(weights, x, key, p=0.5):
    (w1, b1), (w2, b2) = weights
    into, kept = kept_units(6, 0.2, key=fold(key, 0)), kept_units(20, p, key=fold(key, 1))
    m1 = jnp.zeros(6).at[into].set(_fixed.scale(6, len(into)))
    m2 = jnp.zeros(20).at[kept].set(_fixed.scale(20, len(kept)))
    return (jax.nn.relu((x * m1) @ w1 + b1) * m2) @ w2 + b2


@pytest.fixture
def weights():
    random = np.random.default_rng(1)
    shapes = ((6, 20), (20,)), ((20, 3), (3,))
    return tuple(tuple(jnp.asarray(random.normal(size=s), jnp.float32) for s in pair) for pair in shapes)


@pytest.fixture
def x():
    return jnp.asarray(np.random.default_rng(2).normal(size=(5, 6)), jnp.float32)


@pytest.mark.parametrize("p", [0.5, pytest.param(0.0, marks=full), pytest.param(1.0, marks=full)])
def test_values_and_derivatives_are_those_of_masks(weights, x, p):
    key = Key(1)

    def loss(of):
        return lambda weights, x: jnp.sum(jnp.sin(of(weights, x, key, p)))

    @jax.jit
    def found(weights, x):
        tangents = (jax.tree.map(jnp.ones_like, weights), jnp.ones_like(x))
        return [
            (
                jax.value_and_grad(loss(of), argnums=(0, 1))(weights, x),
                jax.jvp(loss(of), (weights, x), tangents),
            )
            for of in (network, masked)
        ]

    ours, theirs = found(weights, x)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert one.shape == other.shape
        assert np.allclose(one, other, rtol=1e-4, atol=1e-4)
        assert np.array_equal(one == 0, other == 0)


@full
def test_one_program_serves_all_steps(weights, x):
    traces = []

    @jax.jit
    def step(weights, x, number):
        traces.append(1)
        return network(weights, x, fold(Key(1), number))

    for number in range(4):
        expected = network(weights, x, Key(1).fold(number))
        assert np.allclose(step(weights, x, number), expected, atol=1e-5)
    assert len(traces) == 1


@full
def test_examples_with_keys_of_their_own(weights, x):
    keys = jnp.stack([fold(Key(1), number) for number in range(3)])
    every = jax.vmap(lambda key: network(weights, x, key))(keys)
    for number in range(3):
        assert np.allclose(every[number], network(weights, x, Key(1).fold(number)), atol=1e-5)

    def loss(weights):
        return jnp.sum(jax.vmap(lambda key: network(weights, x, key))(keys) ** 2)

    def each(weights):
        return sum(jnp.sum(network(weights, x, Key(1).fold(number)) ** 2) for number in range(3))

    for one, other in zip(*(jax.tree.leaves(jax.grad(of)(weights)) for of in (loss, each)), strict=True):
        assert np.allclose(one, other, rtol=1e-3, atol=1e-3)


def test_what_does_not_fit_is_said(weights, x):
    with pytest.raises(ValueError, match="x has 5 features, but kernel has 6, of which 3 are kept"):
        thin_dense(x[:, :5], weights[0][0], inputs=jnp.arange(3))
    with pytest.raises(ValueError, match="kernel must have two dimensions"):
        thin_dense(x, weights[0][1])
    with pytest.raises(TypeError, match="p must be a number, got a traced value"):
        jax.jit(lambda p: kept_units(5, p, key=Key(0)))(0.5)
    with pytest.raises(ValueError, match="size must be at least 1"):
        kept_units(0, 0.5, key=Key(0))
