"""What is JAX's own: keys as arrays, traced probabilities, two ways to the same bits."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from equal_bits import assert_equal_bits
from known_answers import CROSSING, FOLDS, NUMBERS, TIES

import thinned
from thinned import Key, _kernel, contract
from thinned.jax import _key, _native, _primitive, _rate, dropout, fold, keep_mask

DTYPES = {"float32": np.float32, "float64": np.float64, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def values(shape, dtype, seed=0):
    """Numbers of all sizes: subnormal, infinite, NaN."""
    rng = np.random.default_rng(seed)
    with np.errstate(over="ignore", under="ignore"):
        x = rng.standard_normal(shape) * np.exp(rng.standard_normal(shape) * 20)
        x.reshape(-1)[::7] *= 1e-40
        x.reshape(-1)[3::11] = -np.inf
        x.reshape(-1)[5::13] = np.nan
        return x.astype(DTYPES[dtype])


@pytest.mark.covering
@pytest.mark.parametrize("mode", ["inverted", "classic"])
@pytest.mark.parametrize("noise_shape", [None, (None, 1, None), (1, 9, 1)], ids=str)
def test_both_ways_give_numpys_bits(way, dtype_name, noise_shape, mode):
    x = values((5, 9, 14), dtype_name)
    if way == "jax.numpy" and dtype_name != "float16":
        size = np.abs(np.nan_to_num(x.astype(np.float64)))
        x[size < float(ml_dtypes.finfo(x.dtype).tiny)] = 0  # XLA's own product of subnormal numbers is zero
    with jax.enable_x64(dtype_name == "float64"):
        ours = dropout(jnp.asarray(x), 0.37, key=Key(3, 4), training=True, noise_shape=noise_shape, mode=mode)
    assert_equal_bits(
        ours, thinned.dropout(x, 0.37, key=Key(3, 4), training=True, noise_shape=noise_shape, mode=mode)
    )


@pytest.mark.parametrize(("position", "own"), NUMBERS.items())
def test_a_position_is_kept_at_its_own_number_and_dropped_above(way, position, own):
    where = {"key": Key(5, 5), "global_shape": (2**36,), "start": (position,)}
    assert keep_mask((1,), own / 2**32, **where).all()
    assert not keep_mask((1,), (own + 1) / 2**32, **where).any()


@pytest.mark.parametrize("dtype_name", ["float16", "bfloat16"])
def test_the_narrow_type_is_rounded_to_inside_a_fusion(way, dtype_name):
    """XLA may keep excess precision from one operation to the next; the contract does not."""
    x = np.linspace(0.1, 3, 4096).astype(DTYPES[dtype_name])
    with jax.enable_x64(False):
        ours = jax.jit(lambda x: dropout(x, 0.3, key=Key(1), training=True).astype(jnp.float32) * 3)(x)
    reference = thinned.dropout(x, 0.3, key=Key(1), training=True).astype(np.float32) * np.float32(3)
    assert_equal_bits(ours, reference)


@pytest.mark.parametrize(
    ("dtype", "guard"), [("bfloat16", "reduce_precision"), ("float16", "optimization_barrier")]
)
def test_the_rounding_is_one_that_a_compiler_must_keep(dtype, guard):
    """A CPU keeps it anyway today; other platforms are allowed not to."""
    operands = (_key.words(Key(1)), _rate.words(0.3, thinned.threshold(0.3)), np.zeros((1, 2), np.uint32))
    program = jax.jit(lambda x: _primitive.dropout_plain(x, *operands, strides=(1,), inverted=True))
    assert f"stablehlo.{guard}" in program.lower(jnp.ones(8, dtype)).as_text()


def test_far_positions(way):
    mask = keep_mask((64,), 0.25, key=Key(9, 9), global_shape=(2**40,), start=(2**35 - 5,))
    assert "".join(map(str, np.asarray(mask).astype(int))) == CROSSING
    rows = keep_mask((2, 3), 0.5, key=Key(2), global_shape=(2**31, 2**31), start=(2**31 - 2, 2**31 - 3))
    np.testing.assert_array_equal(
        rows,
        thinned.keep_mask((2, 3), 0.5, key=Key(2), global_shape=(2**31, 2**31), start=(2**31 - 2, 2**31 - 3)),
    )


def test_ties(way):
    for position, kept in TIES.items():
        mask = keep_mask((1,), 0.1, key=Key(5, 5), global_shape=(10**6,), start=(position,))
        assert int(mask[0]) == kept


def test_a_traced_start(way):
    part = jax.jit(lambda i, j: keep_mask((3, 5), 0.4, key=Key(8), global_shape=(30, 50), start=(i, j)))
    whole = thinned.keep_mask((30, 50), 0.4, key=Key(8))
    for i, j in [(0, 0), (7, 11), (27, 45)]:
        np.testing.assert_array_equal(part(i, j), whole[i : i + 3, j : j + 5])


def test_a_traced_start_has_64_bits(way):
    with jax.enable_x64(True):
        part = jax.jit(lambda i: keep_mask((3,), 0.4, key=Key(8), global_shape=(2**40,), start=(i,)))
        for i in (5, 2**32 + 5, 2**39 + 1):
            expected = thinned.keep_mask((3,), 0.4, key=Key(8), global_shape=(2**40,), start=(i,))
            np.testing.assert_array_equal(part(jnp.int64(i)), expected)
            np.testing.assert_array_equal(part(jnp.uint64(i)), expected)


def test_a_start_whose_value_is_known_is_checked():
    def part(start):
        return keep_mask((2, 2), 0.5, key=Key(0), global_shape=(8, 8), start=start)

    whole = thinned.keep_mask((8, 8), 0.5, key=Key(0))
    for start in (jnp.array([1, 2]), (jnp.int32(1), np.int64(2)), np.array([1, 2])):
        np.testing.assert_array_equal(part(start), whole[1:3, 2:4])
    with pytest.raises(ValueError, match="start must not be negative"):
        part(jnp.array([-1, 2]))
    with pytest.raises(ValueError, match="reaches outside global_shape"):
        part(jnp.array([7, 2]))
    for run in (part, jax.jit(part)):
        with pytest.raises(TypeError, match="start must be an integer or a sequence of integers, got"):
            run(jnp.array([1.0, 2.0]))
    with pytest.raises(ValueError, match=r"data must be in \[0, 2\^60\), got -1"):
        fold(Key(0), jnp.int32(-1))


@pytest.mark.parametrize(
    "shape", [(2**40, 2**40), (2**62, 2), (2**62, 4), (2**63,), (2**60,), (2**62, 4, 0)], ids=str
)
def test_a_shape_beyond_64_bits_is_an_error_and_not_the_end_of_the_process(shape):
    for make in (keep_mask, lambda *args, **more: jax.eval_shape(lambda: keep_mask(*args, **more))):
        with pytest.raises(ValueError, match=r"2\^6[03] (elements|positions), got"):
            make(shape, 0.5, key=Key(0))


def test_indices_of_more_than_32_bits():
    """A dimension that long fits no test's memory: its program counts in 64 bits."""
    program = jax.jit(lambda: keep_mask((2**33,), 0.5, key=Key(0)))
    for lowered in (program.lower().as_text(), jax.export.export(program)().mlir_module()):
        assert "iota dim = 0 : tensor<8589934592xui64>" in lowered


@pytest.mark.parametrize(("key", "data", "stream"), FOLDS)
def test_fold(key, data, stream):
    words = np.asarray(fold(key, data))
    assert words.tolist() == [key.seed, 0, stream & (2**32 - 1), stream >> 32]


def test_fold_of_traced_numbers():
    words = jax.jit(fold)(_key.words(Key(2**63 + 7, 2**40)), 12345)
    np.testing.assert_array_equal(words, _key.words(Key(2**63 + 7, 2**40).fold(12345)))
    with jax.enable_x64(True):
        words = jax.jit(fold)(_key.words(Key(7)), jnp.int64(2**59 + 3))
    np.testing.assert_array_equal(words, _key.words(Key(7).fold(2**59 + 3)))
    with pytest.raises(TypeError, match="data must be a string or an integer, got float32"):
        jax.jit(lambda x: fold(Key(1), x))(1.0)


@pytest.mark.parametrize(
    ("random", "exact"),
    [
        (lambda: jax.random.key(42), Key(42)),
        (lambda: jax.random.PRNGKey(42), Key(42)),
        (lambda: jax.random.key(5, impl="rbg"), Key(5 << 32, 5 << 32)),
        (lambda: jax.random.PRNGKey(5, impl="rbg"), Key(5 << 32, 5 << 32)),
        (lambda: jax.random.key(5, impl="unsafe_rbg"), Key(5 << 32, 5 << 32)),
        (lambda: jax.random.wrap_key_data(jnp.array([3, 4], jnp.uint32)), Key(3 << 32 | 4)),
        (lambda: np.array([1, 2, 3, 4], np.uint32), Key(2 << 32 | 1, 4 << 32 | 3)),
    ],
    ids=["key", "PRNGKey", "rbg", "raw rbg", "unsafe_rbg", "both words", "words"],
)
def test_keys(random, exact):
    reference = thinned.keep_mask((50,), 0.5, key=exact)
    np.testing.assert_array_equal(keep_mask((50,), 0.5, key=random()), reference)
    np.testing.assert_array_equal(jax.jit(lambda key: keep_mask((50,), 0.5, key=key))(random()), reference)


def test_jaxs_checker_of_keys_sees_our_draws():
    """One key for two calls draws one mask twice: an error where the checker is on, as between JAX's own."""
    x = jnp.ones(3)
    ours = {
        "dropout": lambda key: dropout(x, 0.5, key=key, training=True),
        "keep_mask": lambda key: keep_mask((3,), 0.5, key=key),
        "jax's": lambda key: jax.random.bernoulli(key, 0.5, (3,)),
    }
    with jax.debug_key_reuse(True):
        for n, first in enumerate(ours.values()):
            for second in list(ours.values())[:2]:
                key = jax.random.key(n)
                first(key)
                with pytest.raises(jax.errors.KeyReuseError):
                    second(key)
        key = jax.random.key(9)
        for step in range(2):  # what is folded is a key of its own
            ours["dropout"](fold(key, step))
        back = jax.grad(lambda x: jax.checkpoint(lambda x: x * ours["dropout"](key))(x).sum())(x)
        np.testing.assert_array_equal(
            back, thinned.dropout(np.ones(3, np.float32), 0.5, key=Key(9), training=True)
        )
    ours["dropout"](key)


def test_what_is_no_key():
    for key in (None, 5, "seed"):
        with pytest.raises(TypeError, match=r"key must be a key, got .*: pass a thinned.Key"):
            keep_mask((3,), 0.5, key=key)
    with pytest.raises(TypeError, match="key must be uint32 words, got int32"):
        keep_mask((3,), 0.5, key=jnp.zeros(4, jnp.int32))
    with pytest.raises(ValueError, match=r"key must be one key, got a PRNG key of shape \(3,\)"):
        keep_mask((3,), 0.5, key=jax.random.split(jax.random.key(0), 3))
    with pytest.raises(ValueError, match=r"key must be one key, got uint32 of shape \(2, 4\).*jax.vmap"):
        keep_mask((3,), 0.5, key=jnp.zeros((2, 4), jnp.uint32))


@pytest.mark.parametrize("p", [0.0, 1.0, 0.1, 0.5, 1e-7, 3e-10, 2**-33, 1 - 2**-24, 0.999])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_a_traced_p_has_the_threshold_of_the_number_it_holds(p, dtype):
    with jax.enable_x64(dtype == "float64"):
        held = jnp.asarray(p, dtype)
        low, high = np.asarray(jax.jit(lambda p: _rate.words(p, None))(held)).tolist()
    assert low + (high << 32) == contract.threshold(float(held))


def test_a_traced_p(way):
    x = jnp.arange(1.0, 65.0)
    program = jax.jit(lambda x, p: dropout(x, p, key=Key(1), training=True))
    for p in np.linspace(0, 1, 10).astype(np.float32):
        assert_equal_bits(program(x, p), thinned.dropout(np.asarray(x), float(p), key=Key(1), training=True))
    assert program._cache_size() == 1
    for p in (-0.1, 1.5, np.nan, np.inf):
        assert np.isnan(program(x, p)).all()
        assert not jax.jit(lambda p: keep_mask((64,), p, key=Key(1)))(p).any()


def test_a_traced_p_in_classic_evaluation():
    x = jnp.arange(1.0, 65.0).at[3].set(jnp.nan)
    program = jax.jit(lambda x, p: dropout(x, p, key=Key(1), training=False, mode="classic"))
    for p in (0.0, 0.3, 1.0):
        reference = thinned.dropout(
            np.asarray(x), float(np.float32(p)), key=Key(1), training=False, mode="classic"
        )
        assert_equal_bits(program(x, p), reference)
    assert np.isnan(program(x, 1.5)).all()


def test_p_has_no_gradient():
    def loss(p, training):
        return dropout(jnp.ones(5), p, key=Key(1), training=training, mode="classic").sum()

    for training in (True, False):
        with pytest.raises(TypeError, match=r"p has no gradient.*stop_gradient"):
            jax.grad(loss)(0.5, training)
    with pytest.raises(TypeError, match=r"p must be a real number, got float32 of shape \(3,\): jax.vmap"):
        jax.jit(loss, static_argnums=1)(jnp.ones(3), True)
    with pytest.raises(TypeError, match="p must be a real number, got bool"):
        jax.jit(loss, static_argnums=1)(True, True)


# Thresholds whose scale, rounded to double first, as the contract says, is another float32.
ROUNDED_TWICE = [3448235697, 3355443193, 3351766009, 2680855093, 2601504098, 2549934327]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_scale_in_integers_is_the_double_rounded(dtype):
    """Over a hundred thousand thresholds, and those where rounding twice differs from rounding once."""
    rng = np.random.default_rng(0)
    drops = np.concatenate(
        [
            rng.integers(0, 2**32, 50_000, dtype=np.uint64),
            np.uint64(2**32) - np.arange(1, 50_000, dtype=np.uint64),
            np.array([0, 1, 2, 2**31, 2**32 - 1, *ROUNDED_TWICE], np.uint64),
        ]
    )
    words = np.stack([drops & np.uint64(2**32 - 1), drops >> np.uint64(32)], axis=-1).astype(np.uint32)
    reference = (2.0**32 / (2.0**32 - drops.astype(np.float64))).astype(dtype)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(_rate.scale(jnp.asarray(words), np.dtype(dtype)), reference)


def test_training_is_static():
    with pytest.raises(TypeError, match="training must be a Python bool, got a traced value"):
        jax.jit(lambda x, training: dropout(x, 0.5, key=Key(1), training=training))(jnp.ones(3), True)


def test_the_kernel_is_in_use():
    if _kernel._native is None:
        pytest.skip("no native kernel was built")
    program = jax.jit(lambda x: dropout(x, 0.1, key=Key(1), training=True))
    assert "thinned_dropout" in program.lower(jnp.ones(8)).compile().as_text()


def test_an_interface_of_another_version_is_not_spoken(monkeypatch, tmp_path):
    header = tmp_path / "xla" / "ffi" / "api" / "c_api.h"
    header.parent.mkdir(parents=True)
    monkeypatch.setattr(jax.ffi, "include_dir", lambda: str(tmp_path))
    for major, minor, known in [(1, 3, None), (0, 99, 99)]:
        header.write_text(f"#define XLA_FFI_API_MAJOR {major}\n#define XLA_FFI_API_MINOR {minor}\n")
        assert _native._interface() == known
        with pytest.warns(RuntimeWarning, match=rf"XLA's interface \(minor={known}\).*jax\.numpy"):
            assert not _native.register.__wrapped__()
    header.write_text("")
    assert _native._interface() is None


def test_the_probability_has_three_names():
    x = jnp.ones(64)
    expected = dropout(x, 0.25, key=Key(1), training=True)
    assert (dropout(x, rate=0.25, key=Key(1), training=True) == expected).all()
    assert (dropout(x, keep_prob=0.75, key=Key(1), training=True) == expected).all()
    by_rate = jax.jit(lambda rate: dropout(x, rate=rate, key=Key(1), training=True))
    assert (by_rate(0.25) == expected).all()
    with pytest.raises(TypeError, match=r"pass exactly one of p, rate .* got p=0\.5 and rate=0\.5"):
        dropout(x, 0.5, rate=0.5, key=Key(1), training=True)
    with pytest.raises(ValueError, match=r"keep_prob must be in \[0, 1\], got 75"):
        dropout(x, keep_prob=75, key=Key(1), training=True)
    with pytest.raises(
        TypeError, match="keep_prob must be a number, got a traced value: pass p=1 - keep_prob"
    ):
        jax.jit(lambda keep: dropout(x, keep_prob=keep, key=Key(1), training=True))(0.5)
