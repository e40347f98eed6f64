"""The Pallas kernel, interpreted: the bits of `thinned.dropout`; and what it lowers to for a GPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import thinned
from thinned import Key, contract
from thinned.jax import _philox, pallas

KEY = Key(2**63 + 11, 2**40 + 3)


def numbers(size, dtype=np.float32):
    return np.random.default_rng(1).standard_normal(size).astype(dtype)


def ours(x, p=0.3, key=KEY):
    return pallas.dropout(jnp.asarray(x), p, key=key, training=True, interpret=True)


def check(x, p=0.3, key=KEY):
    y = np.asarray(ours(x, p, key))
    theirs = thinned.dropout(np.asarray(x), p, key=key, training=True)
    assert y.dtype == theirs.dtype
    assert y.tobytes() == theirs.tobytes()


# XLA compiles what is interpreted: a second each.
@pytest.mark.parametrize(
    "dtype", ["float32", *(pytest.param(dtype, marks=pytest.mark.full) for dtype in ("float16", "bfloat16"))]
)
def test_values(dtype):
    check(numbers((4, 512), jnp.dtype(dtype)))


@pytest.mark.full
@pytest.mark.parametrize("p", [2.0**-32, 0.5, 1 - 2.0**-32, 1.0])
def test_probabilities(p):
    check(numbers(1024), p)


def test_ties():
    """Of key (5, 5), positions 28166 and 43346, dropped, and 206461, which is kept."""
    check(np.ones(204 * 1024, np.float32), 0.1, Key(5, 5))
    at = np.array([17], np.uint64)  # whose own number is p's threshold, and one below it
    own = int(contract.halfword(KEY, at, 0)[0]) << 16 | int(contract.halfword(KEY, at, 1)[0])
    for more in (0, 1):
        assert (ours(np.ones(1024, np.float32), (own + more) / 2**32)[17] != 0) == (not more)


def test_what_the_kernel_does_not_serve_has_the_same_bits():
    for x in (numbers(1000), numbers(0)):
        check(x)


@pytest.mark.full
def test_a_traced_p_and_the_gradient():
    x, upstream = jnp.asarray(numbers(1024)), jnp.asarray(numbers(1024)[::-1].copy())
    f = jax.jit(lambda x, p: jax.vjp(lambda x: ours(x, p), x))
    y, back = f(x, np.float32(0.25))
    assert np.array_equal(y, thinned.dropout(np.asarray(x), 0.25, key=KEY, training=True))
    expected = thinned.dropout(np.asarray(upstream), 0.25, key=KEY, training=True)
    assert np.array_equal(back(upstream)[0], expected)
    assert np.isnan(jax.jit(ours)(x, np.float32(1.5))).all()


def products(jaxpr, branches):
    """Elements of the products of 64 bits; of branches, if they are counted."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "mul" and equation.outvars[0].aval.dtype == np.uint64:
            total += equation.outvars[0].aval.size
        for value in equation.params.values():
            if hasattr(value, "eqns") or hasattr(value, "jaxpr"):
                total += products(getattr(value, "jaxpr", value), branches)
        if equation.primitive.name == "cond" and branches:
            total += sum(products(branch.jaxpr, branches) for branch in equation.params["branches"])
    return total


def test_products_of_the_generator_for_an_element():
    """Twenty for eight positions, where no position of 1,024 ties; element by element it is 39."""
    x = jnp.ones(1024)
    kernel = jax.make_jaxpr(ours)(x)
    assert products(kernel.jaxpr, False) / 1024 == 2.5
    assert products(kernel.jaxpr, True) / 1024 == 5.0
    steps, start = (1,), jnp.zeros((1, 2), np.uint32)
    words = jnp.ones(4, np.uint32), jnp.array([7, 0], np.uint32)
    each = jax.make_jaxpr(lambda key, least: _philox.keep((1024,), steps, key, least, start))(*words)
    assert 38 <= products(each.jaxpr, True) / 1024 <= 40


def test_it_is_lowered_for_cuda():
    """As far as goes without a GPU: Triton's own code, in the program."""
    call = jax.jit(lambda x: pallas.dropout(x, 0.3, key=KEY, training=True))
    text = call.trace(jnp.ones(2048)).lower(lowering_platforms=("cuda",)).as_text()
    assert "triton" in text
