"""On the active backend: the layers of attention, whose probabilities are dropped.

Run by `test_backends.py` on each of the three.
"""

import keras
import numpy as np
import pytest
from frameworks import array, gradient, tensor

import thinned
from thinned import Key
from thinned.keras import AdditiveAttention, Attention, Dropout, GroupQueryAttention, MultiHeadAttention

QUERY = np.random.default_rng(0).normal(size=(2, 5, 8)).astype("float32")
VALUE = np.random.default_rng(1).normal(size=(2, 7, 8)).astype("float32")
ALLOWED = np.random.default_rng(2).random((2, 5, 7)) > 0.4
ALLOWED[0, 1] = False  # a query that may look nowhere

HEADS = {
    "MultiHeadAttention": (MultiHeadAttention, keras.layers.MultiHeadAttention, (2, 4)),
    "GroupQueryAttention": (GroupQueryAttention, keras.layers.GroupQueryAttention, (4, 4, 2)),
}
SCORES = {
    "Attention": (Attention, keras.layers.Attention),
    "AdditiveAttention": (AdditiveAttention, keras.layers.AdditiveAttention),
}


def values(x):
    return array(keras.ops.stop_gradient(x))


def made(name, **options):
    kind, _, sizes = HEADS[name]
    layer = kind(*sizes, dropout=0.4, seed=3, name="mix", **options)
    layer(QUERY, VALUE)
    return layer


def by_hand(layer, key, **options):
    """What Keras's probabilities give, dropped by NumPy."""
    scores = values(layer(QUERY, VALUE, return_attention_scores=True, **options)[1])
    dropped = thinned.dropout(scores, 0.4, key=key, training=True)
    heads = values(layer._value_dense(tensor(VALUE)))
    heads = np.repeat(heads, scores.shape[1] // heads.shape[2], 2)
    return values(layer._output_dense(tensor(np.einsum("bnts,bsnh->btnh", dropped, heads))))


MASKS = {
    "none": {},
    "causal": {"use_causal_mask": True},
    "mask": {"attention_mask": ALLOWED},
    "both": {"attention_mask": ALLOWED, "use_causal_mask": True},
}


@pytest.mark.covering(strength=1)  # both layers have one mixin, which knows of both masks
@pytest.mark.parametrize("masks", MASKS)
@pytest.mark.parametrize("name", HEADS)
def test_call_n_has_the_mask_of_seed_name_and_n(name, masks):
    """Whether the probabilities are asked for or not; those that are given are not dropped, as Keras's."""
    layer, options = made(name), MASKS[masks]
    for n in range(4):
        expected = by_hand(layer, Key(3).fold("mix").fold(n), **options)
        if n % 2:
            got, scores = layer(QUERY, VALUE, training=True, return_attention_scores=True, **options)
            evaluated = layer(QUERY, VALUE, return_attention_scores=True, **options)[1]
            np.testing.assert_allclose(values(scores), values(evaluated), atol=1e-6)
        else:
            got = layer(QUERY, VALUE, training=True, **options)
        np.testing.assert_allclose(values(got), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_gradients_have_the_same_mask(name):
    """Of the way that computes the probabilities again, and of the one that keeps them."""
    layer = made(name)
    upstream = np.random.default_rng(4).normal(size=QUERY.shape).astype("float32")

    def run(asked):
        layer._dropout_layer.seed_generator.state.assign([3, 0])

        def call(x):
            y = layer(x, VALUE, training=True, return_attention_scores=asked)
            return y[0] if asked else y

        return array(gradient(call, QUERY, upstream))

    np.testing.assert_allclose(run(False), run(True), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_evaluation_and_weights_are_kerass(name):
    kind, keras_kind, sizes = HEADS[name]
    layer, theirs = made(name), keras_kind(*sizes, dropout=0.4, name="mix")
    theirs(QUERY, VALUE)
    assert [v.shape for v in layer.get_weights()] == [v.shape for v in theirs.get_weights()]
    theirs.set_weights(layer.get_weights())
    for options in MASKS.values():
        np.testing.assert_array_equal(
            values(layer(QUERY, VALUE, **options)), values(theirs(QUERY, VALUE, **options))
        )
    for whole in (layer, kind.from_config(layer.get_config())):
        assert whole.get_config() == layer.get_config()
        assert whole.get_config()["dropout"] == 0.4
    assert isinstance(layer, keras_kind)


@pytest.mark.parametrize("name", HEADS)
def test_weights_pass_between_kerass_layer_and_ours(name, tmp_path):
    kind, keras_kind, sizes = HEADS[name]

    def model_of(kind, seed):
        keras.utils.set_random_seed(seed)
        query, value = keras.Input((None, 8)), keras.Input((None, 8))
        attention = kind(*sizes, dropout=0.4, name="mix")
        return keras.Model([query, value], attention(query, value))

    ours, theirs = model_of(kind, 0), model_of(keras_kind, 1)
    for source, target in ((theirs, ours), (ours, theirs)):
        source.layers[-1].set_weights([w + 0.1 for w in source.layers[-1].get_weights()])
        source.save_weights(tmp_path / "of.weights.h5")
        target.load_weights(tmp_path / "of.weights.h5")
        np.testing.assert_array_equal(values(target([QUERY, VALUE])), values(source([QUERY, VALUE])))


def test_keras_masks_of_sequences_and_mixed_precision():
    layer = made("MultiHeadAttention")
    present = np.array([[1, 1, 0, 1, 0, 1, 1], [1, 0, 0, 0, 0, 0, 0]], bool)
    given = by_hand(layer, Key(3).fold("mix").fold(0), attention_mask=present[:, None])
    masked = tensor(VALUE)
    got = layer(QUERY, masked, training=True, attention_mask=present[:, None])
    np.testing.assert_allclose(values(got), given, rtol=1e-5, atol=1e-5)
    half = MultiHeadAttention(2, 4, dropout=0.4, seed=3, name="mix", dtype="mixed_bfloat16")
    half(QUERY, VALUE)
    half.set_weights(layer.get_weights())
    layer._dropout_layer.seed_generator.state.assign([3, 0])
    low, whole = half(QUERY, VALUE, training=True), layer(QUERY, VALUE, training=True)
    assert keras.backend.standardize_dtype(low.dtype) == "bfloat16"
    np.testing.assert_allclose(values(low), values(whole), rtol=0.1, atol=0.1)


def test_axes_and_a_watched_layer_take_kerass_way():
    """More axes than one; and whoever looks at the layer that drops sees the probabilities."""
    x = np.random.default_rng(5).normal(size=(2, 3, 4, 8)).astype("float32")
    layer = MultiHeadAttention(2, 4, dropout=0.4, attention_axes=(1, 2), seed=3, name="mix")
    scores = values(layer(x, x, return_attention_scores=True)[1])
    got = layer(x, x, training=True)
    dropped = thinned.dropout(scores, 0.4, key=Key(3).fold("mix").fold(0), training=True)
    heads = values(layer._value_dense(tensor(x)))
    mixed = np.einsum("bnijkl,bklnh->bijnh", dropped, heads)
    np.testing.assert_allclose(values(got), values(layer._output_dense(tensor(mixed))), rtol=1e-5, atol=1e-5)
    layer = made("MultiHeadAttention")
    seen, inner = [], layer._dropout_layer
    call = inner.call
    vars(inner)["call"] = lambda x, **kwargs: seen.append(x) or call(x, **kwargs)
    layer(QUERY, VALUE, training=True)
    assert [tuple(x.shape) for x in seen] == [(2, 2, 5, 7)]


@pytest.mark.parametrize("name", SCORES)
def test_attention_without_projections(name):
    kind, keras_kind = SCORES[name]
    layer = kind(dropout=0.4, seed=3, name="mix")
    theirs = keras_kind(dropout=0.4)
    x = [tensor(QUERY), tensor(VALUE)]
    scores = values(layer(x, return_attention_scores=True)[1])
    theirs(x)
    theirs.set_weights(layer.get_weights())
    np.testing.assert_array_equal(
        values(theirs(x, use_causal_mask=True)), values(layer(x, use_causal_mask=True))
    )
    for n in range(2):
        y, dropped = layer(x, training=True, return_attention_scores=True)
        expected = thinned.dropout(scores, 0.4, key=Key(3).fold("mix").fold(n), training=True)
        np.testing.assert_allclose(values(dropped), expected, rtol=1e-6)
        assert ((values(dropped) == 0) == (expected == 0)).all()
        np.testing.assert_allclose(values(y), expected @ VALUE, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [*(row[0] for row in HEADS.values()), *(row[0] for row in SCORES.values())])
def test_arguments_are_checked_when_the_layer_is_made(kind):
    sizes = {MultiHeadAttention: (2, 4), GroupQueryAttention: (4, 4, 2)}.get(kind, ())
    for wrong, error in ((1.5, ValueError), (True, TypeError), (float("nan"), ValueError)):
        with pytest.raises(error, match="dropout must be "):
            kind(*sizes, dropout=wrong)
    with pytest.raises(TypeError, match="seed must be None, an integer"):
        kind(*sizes, dropout=0.5, seed="a")
    with pytest.raises(ValueError, match=r"seed must be in \[0, 2\^64\)"):
        kind(*sizes, dropout=0.5, seed=2**64)
    assert kind(*sizes, dropout=0.5, seed=Key(1, 2)).get_config()["seed"] == {"seed": 1, "stream": 2}


def test_a_rate_of_zero_has_no_seed_and_one_drops_all():
    none = MultiHeadAttention(2, 4, dropout=0.0)
    np.testing.assert_array_equal(values(none(QUERY, VALUE, training=True)), values(none(QUERY, VALUE)))
    assert not none.non_trainable_variables
    all_of = MultiHeadAttention(2, 4, dropout=1.0, use_bias=False, seed=1)
    assert not values(all_of(QUERY, VALUE, training=True)).any()
    assert isinstance(all_of._dropout_layer, Dropout)
