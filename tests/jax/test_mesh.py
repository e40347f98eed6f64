"""Eight devices: every mesh gives the slices of one mask, and no device asks another for anything."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as Spec

import thinned
import thinned.jax as tj
from thinned import Key
from thinned.jax import _key, _primitive, _rate, dropout, keep_mask

X = np.random.default_rng(0).standard_normal((24, 70)).astype(np.float32)
WHOLE = thinned.dropout(X, 0.3, key=Key(5, 6), training=True)
DEVICES = 8

pytestmark = pytest.mark.skipif(jax.device_count() < DEVICES, reason=f"{jax.device_count()} devices")


def mesh_of(*sizes, **options):
    devices = np.array(jax.devices()[: int(np.prod(sizes))]).reshape(sizes)
    return Mesh(devices, tuple("abc"[: len(sizes)]), **options)


def thin(x):
    return dropout(x, 0.3, key=Key(5, 6), training=True)


def collectives(program, *inputs):
    text = program.lower(*inputs).compile().as_text()
    return sorted(re.findall(r"(all-gather|all-reduce|all-to-all|collective-permute)(?:-start)?\(", text))


EVEN = [
    ((8,), Spec("a")),
    ((4, 2), Spec("a", "b")),
    ((4, 2), Spec("b", None)),
    ((4, 2), Spec(("a", "b"))),
    ((4, 2), Spec(("b", "a"), None)),
    ((2, 2, 2), Spec(("a", "c"), "b")),
    ((4, 2), Spec()),
    ((3,), Spec("a")),
    ((6,), Spec("a")),
    ((3, 2), Spec("a", "b")),
    ((5,), Spec(None, "a")),
    ((7,), Spec(None, "a")),
]


@pytest.mark.parametrize(("sizes", "spec"), EVEN, ids=str)
def test_a_divided_input(sizes, spec):
    sharding = NamedSharding(mesh_of(*sizes), spec)
    x = jax.device_put(X, sharding)
    program = jax.jit(thin)
    y = program(x)
    assert y.sharding.is_equivalent_to(sharding, 2)
    np.testing.assert_array_equal(y, WHOLE)
    assert collectives(program, x) == []


@pytest.mark.parametrize("n", [5, 7])
@pytest.mark.parametrize("spec", [Spec("a"), Spec(None, "a")], ids=str)
def test_uneven_parts(n, spec):
    """24 rows over 5 or 7 devices, 70 columns over 5 or 7 of which one is even. JAX cannot return an array in
    uneven parts: it gathers at the end, with or without dropout."""
    sharding = NamedSharding(mesh_of(n), spec)

    def divided(f):
        return jax.jit(lambda x: f(jax.lax.with_sharding_constraint(x + 1, sharding)))

    program, plain = divided(thin), divided(lambda x: x * 2)
    np.testing.assert_array_equal(
        program(X), thinned.dropout(X + np.float32(1), 0.3, key=Key(5, 6), training=True)
    )
    assert collectives(program, X) == collectives(plain, X)


def test_in_jax_numpy():
    """What other platforms run."""
    x = jax.device_put(X, NamedSharding(mesh_of(4, 2), Spec("a", "b")))
    operands = (_key.words(Key(5, 6)), _rate.words(0.3, thinned.threshold(0.3)), np.zeros((2, 2), np.uint32))
    program = jax.jit(lambda x: _primitive.dropout_plain(x, *operands, strides=(70, 1), inverted=True))
    np.testing.assert_array_equal(program(x), WHOLE)
    assert collectives(program, x) == []


def test_a_mask_is_made_in_parts():
    sharding = NamedSharding(mesh_of(4, 2), Spec("b", "a"))
    program = jax.jit(lambda: keep_mask((24, 64), 0.3, key=Key(5, 6)), out_shardings=sharding)
    np.testing.assert_array_equal(program(), thinned.keep_mask((24, 64), 0.3, key=Key(5, 6)))
    assert program().sharding == sharding
    assert collectives(program) == []


def test_a_noise_shape():
    x = jax.device_put(X, NamedSharding(mesh_of(4, 2), Spec("a", "b")))
    program = jax.jit(lambda x: dropout(x, 0.3, key=Key(5, 6), training=True, noise_shape=(None, 1)))
    np.testing.assert_array_equal(
        program(x), thinned.dropout(X, 0.3, key=Key(5, 6), training=True, noise_shape=(None, 1))
    )
    assert collectives(program, x) == []


def test_examples_with_their_own_keys():
    mesh = mesh_of(4, 2)
    x = jax.device_put(X, NamedSharding(mesh, Spec("a", "b")))
    keys = jax.device_put(
        np.stack([_key.words(Key(5, i)) for i in range(len(X))]), NamedSharding(mesh, Spec("a"))
    )
    program = jax.jit(jax.vmap(lambda x, key: dropout(x, 0.3, key=key, training=True)))
    rows = [thinned.dropout(row, 0.3, key=Key(5, i), training=True) for i, row in enumerate(X)]
    np.testing.assert_array_equal(program(x, keys), np.stack(rows))
    assert collectives(program, x, keys) == []


def test_the_gradient_is_divided_alike():
    x = jax.device_put(X, NamedSharding(mesh_of(4, 2), Spec("a", "b")))
    program = jax.jit(jax.grad(lambda x: (thin(x) * jax.lax.stop_gradient(x)).sum()))
    np.testing.assert_array_equal(program(x), WHOLE)
    assert program(x).sharding == x.sharding
    assert collectives(program, x) == []


def test_explicit_sharding():
    mesh = mesh_of(4, 2, axis_types=(AxisType.Explicit,) * 2)
    with jax.set_mesh(mesh):
        x = jax.device_put(X, NamedSharding(mesh, Spec("a", "b")))
        for program in (thin, jax.jit(thin)):
            y = program(x)
            assert jax.typeof(y).sharding.spec == Spec("a", "b")
            np.testing.assert_array_equal(y, WHOLE)


@pytest.mark.parametrize(("axes", "check_vma"), [("ab", True), ("ab", False), ("a", True)], ids=str)
def test_shard_map(axes, check_vma):
    """A shard says where it stands. Over some axes only, jax.numpy does the work."""
    mesh = mesh_of(4, 2)
    spec = Spec("a", "b") if "b" in axes else Spec("a")

    @functools.partial(
        jax.shard_map, mesh=mesh, in_specs=spec, out_specs=spec, axis_names=set(axes), check_vma=check_vma
    )
    def shards(x):
        rows, columns = x.shape
        start = (
            jax.lax.axis_index("a") * rows,
            jax.lax.axis_index("b") * columns if "b" in axes else 0,
        )
        return dropout(x, 0.3, key=Key(5, 6), training=True, global_shape=X.shape, start=start)

    x = jax.device_put(X, NamedSharding(mesh, spec))
    program = jax.jit(shards)
    np.testing.assert_array_equal(program(x), WHOLE)
    assert collectives(program, x) == []
    gradient = jax.jit(jax.grad(lambda x: (shards(x) * jax.lax.stop_gradient(x)).sum()))
    np.testing.assert_array_equal(gradient(x), WHOLE)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_inputs_that_are_on_no_mesh(kind):
    """Inside `jax.set_mesh`, where XLA then says nothing of names."""
    with jax.set_mesh(mesh_of(4, 2, axis_types=(kind,) * 2)):
        np.testing.assert_array_equal(jax.jit(thin)(X), WHOLE)
        np.testing.assert_array_equal(
            jax.jit(lambda: keep_mask(X.shape, 0.3, key=Key(5, 6)))(),
            thinned.keep_mask(X.shape, 0.3, key=Key(5, 6)),
        )
        if kind == AxisType.Auto:
            for spec in (Spec("a", "b"), Spec("b"), Spec(None, "b")):

                def divided(f, spec=spec):
                    return jax.jit(lambda x: f(jax.lax.with_sharding_constraint(x, spec)))

                program = divided(thin)
                np.testing.assert_array_equal(program(X), WHOLE)
                assert collectives(program, X) == collectives(divided(lambda x: x * 2), X)


def test_remat_and_scan_on_a_mesh():
    x = jax.device_put(X, NamedSharding(mesh_of(8), Spec("a")))

    def step(x, _):
        return jnp.tanh(thin(x)), None

    def loss(x, wrap):
        return jax.lax.scan(wrap(step), x, length=3)[0].sum()

    plain = jax.jit(jax.grad(functools.partial(loss, wrap=lambda f: f)))(x)
    again = jax.jit(jax.grad(functools.partial(loss, wrap=jax.checkpoint)))(x)
    np.testing.assert_array_equal(np.asarray(plain) != 0, WHOLE != 0)
    np.testing.assert_allclose(plain, again, rtol=1e-6)


# Families that draw numbers and no mask, and the shape of the numbers for so many rows.
FAMILIES = {
    "concrete_dropout": (lambda x, **place: tj.concrete_dropout(x, 0.3, **on, **place), lambda n: (n, 70)),
    "mask_spans": (lambda x, **place: tj.mask_spans(x, 20, 2, 1, **on, **place), lambda n: (n, 2, 2)),
    "patch_dropout": (
        lambda x, **place: tj.patch_dropout(x[..., None], 0.3, **on, **place),
        lambda n: (n, 69),
    ),
}
on = {"key": Key(5, 6), "training": True}


@pytest.mark.full
@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_has_parts_of_one_whole_and_no_collective(name):
    family, numbers = FAMILIES[name]
    whole, mesh = np.asarray(family(jnp.asarray(X))), mesh_of(8)
    sharded = jax.device_put(X, NamedSharding(mesh, Spec("a")))
    np.testing.assert_allclose(jax.jit(family)(sharded), whole, rtol=1e-6)
    assert not collectives(jax.jit(family), sharded)

    def part(x):
        shape = numbers(len(X))
        start = (jax.lax.axis_index("a") * x.shape[0], *(0,) * (len(shape) - 1))
        return family(x, global_shape=shape, start=start)

    parts = jax.shard_map(part, mesh=mesh, in_specs=Spec("a"), out_specs=Spec("a"))
    np.testing.assert_allclose(jax.jit(parts)(sharded), whole, rtol=1e-6)
