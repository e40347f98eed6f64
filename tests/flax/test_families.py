"""ConcreteDropout, PatchDropout and SpecAugment, of nnx and of linen: what the verbs below them do."""

import jax.numpy as jnp
import numpy as np
import plain_families as plain
import pytest
from flax import nnx

from thinned import Key
from thinned.flax import linen
from thinned.flax import nnx as ours

KEY = Key(5, 2)
TOKENS = jnp.arange(2 * 11 * 3.0).reshape(2, 11, 3)
SPECTROGRAMS = jnp.linspace(1, 2, 5 * 20 * 8).reshape(5, 20, 8)


def called(library, name, *arguments, deterministic=False, **options):
    if library == "nnx":
        return lambda x: getattr(ours, name)(*arguments, **options)(x, deterministic=deterministic, key=KEY)
    layer = getattr(linen, name)(*arguments, **options)
    return lambda x: layer.apply({}, x, deterministic=deterministic, rng=KEY)


# The verbs below them are in conformance/test_families.py; each test here compiles for seconds.
@pytest.mark.full
@pytest.mark.parametrize("library", ["nnx", "linen"])
def test_patches_and_spans(library):
    got = called(library, "PatchDropout", 0.4, prefix_tokens=2)(TOKENS)
    np.testing.assert_array_equal(got, plain.patches(np.asarray(TOKENS), 0.4, 2, KEY))
    assert called(library, "PatchDropout", 0.4, deterministic=True)(TOKENS) is TOKENS
    got = called(library, "SpecAugment", 3, 6, frequency_masks=1)(SPECTROGRAMS)
    expected = plain.spans(np.asarray(SPECTROGRAMS), 3, 1, -1, KEY.fold(0))
    np.testing.assert_array_equal(got, plain.spans(expected, 6, 2, -2, KEY.fold(1)))
    assert called(library, "SpecAugment", 3, 6, deterministic=True)(SPECTROGRAMS) is SPECTROGRAMS
    with pytest.raises(ValueError, match="width must be from 0 to the size of dim, 8, got 9"):
        called(library, "SpecAugment", 9, 6)(SPECTROGRAMS)


@pytest.mark.full
def test_a_concrete_layer_is_the_papers_equation():
    inner = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
    layer = ours.ConcreteDropout(inner, 0.3, samples=50, length_scale=0.1)
    kernel = np.asarray(inner.kernel[...], np.float64)
    dropped = plain.concrete(np.asarray(TOKENS, np.float64), 0.3, KEY)
    np.testing.assert_allclose(layer(TOKENS, key=KEY), dropped @ kernel, rtol=1e-4, atol=1e-4)
    entropy = -0.3 * np.log(0.3) - 0.7 * np.log(0.7)
    expected = (0.01 / (2 * 0.7) * np.square(kernel).sum() - 3 * entropy) / 50
    np.testing.assert_allclose(layer.regularization(), expected, rtol=1e-5)

    def loss(model):
        return jnp.square(model(TOKENS, key=KEY)).mean() + model.regularization()

    assert nnx.grad(loss)(layer).rate_logit[...] != 0
    with pytest.raises(ValueError, match=r"rate must be inside \(0, 1\), got 1.0"):
        ours.ConcreteDropout(inner, 1.0, samples=9)
    with pytest.raises(TypeError, match=r"layer must be an nnx\.Linear or nnx\.Conv, got LayerNorm"):
        ours.ConcreteDropout(nnx.LayerNorm(3, rngs=nnx.Rngs(0)), samples=9)


@pytest.mark.full
def test_a_convolutions_channels_have_one_number():
    inner = nnx.Conv(5, 1, (1, 1), kernel_init=nnx.initializers.ones, rngs=nnx.Rngs(0))
    got = ours.ConcreteDropout(inner, 0.3, samples=9)(jnp.ones((2, 3, 4, 5)), key=KEY)
    factor = plain.concrete(np.ones((2, 5)), 0.3, KEY).sum(1)
    np.testing.assert_allclose(got[..., 0], np.broadcast_to(factor[:, None, None], (2, 3, 4)), rtol=1e-5)


@pytest.mark.full
def test_they_are_sites_by_their_path():
    model = nnx.Sequential(ours.ConcreteDropout(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), 0.3, samples=9))
    own = ours.keyed(model, 7)
    by_key = model.layers[0](TOKENS, key=Key(7).fold("layers.0").fold(3))
    np.testing.assert_array_equal(ours.set_step(own, 3)(TOKENS), by_key)


@pytest.mark.full
def test_monte_carlo_reaches_them():
    pytest.importorskip("torchmetrics", reason="prediction needs the extra mc")
    from thinned.mc.flax import linen_apply, nnx_apply
    from thinned.mc.jax import predict

    model = nnx.Sequential(ours.ConcreteDropout(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), 0.3, samples=9))
    assert predict(nnx_apply(model), TOKENS[:, 0], samples=4, key=KEY).std.max() > 0
    spans = linen.SpecAugment(3, 6, deterministic=True)
    assert predict(linen_apply(spans, {}), SPECTROGRAMS, samples=4, key=KEY).std.max() > 0
