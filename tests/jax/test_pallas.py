"""The Pallas kernel, interpreted: the bits of `thinned.dropout`; and what it lowers to for a GPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as Spec

import thinned
from thinned import Key, contract
from thinned.jax import _philox, fold, pallas

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


def dropped(x, key):
    return thinned.dropout(np.asarray(x), 0.3, key=key, training=True)


KEYS = [KEY.fold(n) for n in range(3)]
ROWS = numbers((3, 1024))
EACH = np.stack([dropped(row, key) for row, key in zip(ROWS, KEYS, strict=True)])


@pytest.fixture
def keys():
    return jnp.stack([fold(KEY, n) for n in range(3)])


@pytest.mark.full
def test_vmap_over_keys_and_rows_and_its_gradient(keys):
    each = jax.vmap(lambda x, key: ours(x, key=key))
    np.testing.assert_array_equal(each(ROWS, keys), EACH)
    upstream = ROWS[::-1]
    back = jax.vjp(lambda x: each(x, keys), ROWS)[1](jnp.asarray(upstream))[0]
    np.testing.assert_array_equal(
        back, np.stack([dropped(g, key) for g, key in zip(upstream, KEYS, strict=True)])
    )
    same = jax.vmap(lambda key: ours(ROWS[0], key=key))(keys)
    np.testing.assert_array_equal(same, np.stack([dropped(ROWS[0], key) for key in KEYS]))


@pytest.mark.full
def test_a_scan_over_keys_and_its_gradient(keys):
    def total(x):
        step = lambda sum, one: (sum + ours(one[0], key=one[1]).sum(), ours(one[0], key=one[1]))  # noqa: E731
        return jax.lax.scan(step, jnp.zeros(()), (x, keys))

    gradient, found = jax.grad(total, has_aux=True)(jnp.asarray(ROWS))
    np.testing.assert_array_equal(found, EACH)
    np.testing.assert_array_equal(gradient, np.stack([dropped(np.ones_like(ROWS[0]), key) for key in KEYS]))


@pytest.mark.full
def test_a_checkpoint_draws_the_mask_again(keys):
    loss = jax.checkpoint(lambda x, key: ours(x, key=key).sum())
    for key, own in zip(keys, KEYS, strict=True):
        np.testing.assert_array_equal(
            jax.grad(loss)(jnp.asarray(ROWS[0]), key), dropped(np.ones_like(ROWS[0]), own)
        )


ROWS_OF = Spec("a")


def over_a_mesh(interpret, spec=ROWS_OF, **options):
    """Each device's rows by a key of its own."""
    mesh = Mesh(np.array(jax.devices()[:2]), ("a",))

    def part(x):
        key = fold(KEY, jax.lax.axis_index("a"))
        return pallas.dropout(x, 0.3, key=key, training=True, interpret=interpret)

    return jax.shard_map(part, mesh=mesh, in_specs=spec, out_specs=Spec("a"), **options)


TWO = pytest.mark.skipif(jax.device_count() < 2, reason=f"{jax.device_count()} devices")


@TWO
@pytest.mark.parametrize("spec", [ROWS_OF, Spec()], ids=str)
def test_shard_map_has_the_kernel_and_its_gradient(spec):
    """Of rows for each device and of one row for all, whose gradient is the sum of the devices'."""
    of = over_a_mesh(False, spec)
    x = jax.ShapeDtypeStruct((2, 1024), np.float32)
    assert "pallas_call" in str(jax.make_jaxpr(of)(x))
    gradient = jax.make_jaxpr(jax.grad(lambda x: of(x).sum()))(x)
    assert "pallas_call" in str(gradient)
    assert gradient.out_avals[0].shape == (2, 1024)


@TWO
@pytest.mark.full
@pytest.mark.parametrize("check_vma", [False, True])
def test_shard_map_has_the_bits_of_each_parts_key(check_vma):
    of = over_a_mesh(True, check_vma=check_vma)
    np.testing.assert_array_equal(jax.jit(of)(ROWS[:2]), EACH[:2])
    if check_vma:  # the gradient of what all devices share is a sum
        shared = jax.grad(lambda x: over_a_mesh(True, Spec())(x).sum())(jnp.asarray(ROWS[:1]))
        ones = np.ones_like(ROWS[0])
        np.testing.assert_array_equal(shared[0], dropped(ones, KEYS[0]) + dropped(ones, KEYS[1]))


@TWO
@pytest.mark.full
def test_shard_map_is_lowered_for_cuda():
    text = jax.jit(over_a_mesh(False)).trace(ROWS[:2]).lower(lowering_platforms=("cuda",)).as_text()
    assert "triton" in text


@pytest.mark.full
def test_vmap_is_lowered_for_cuda(keys):
    call = jax.jit(jax.vmap(lambda x, key: pallas.dropout(x, 0.3, key=key, training=True)))
    assert "triton" in call.trace(ROWS, keys).lower(lowering_platforms=("cuda",)).as_text()
