"""What would give a plausible number of a family is refused; where it is traced it gives NaN."""

import importlib

import numpy as np
import pytest

from thinned import Key

KEY = Key(3, 1)
X = np.linspace(-2, 2, 36, dtype=np.float32).reshape(6, 6)
THREE = ("torch", "jax", "tensorflow")
EDGES = np.array([[0, 5], [1, 2]])
TOKENS = np.arange(40, 46)


def verbs_of(front):
    return importlib.import_module("thinned.torch.functional" if front == "torch" else f"thinned.{front}")


def of(front, dtype=None):
    """The verbs, and what makes a tensor of a type."""
    library = pytest.importorskip(front)
    make = {"torch": "as_tensor", "tensorflow": "convert_to_tensor"}
    tensor = library.numpy.asarray if front == "jax" else getattr(library, make[front])
    kind = dtype and getattr(library.numpy if front == "jax" else library, dtype)
    return verbs_of(front), lambda x: tensor(x, dtype=kind)


@pytest.mark.parametrize("front", THREE)
@pytest.mark.parametrize("training", [True, False])
def test_a_token_is_one_of_its_type(front, training):
    v, t = of(front, "uint8")
    options = {"key": KEY, "training": training}
    with pytest.raises(ValueError, match="replacement must be a token of uint8, 0 to 255, got 300"):
        v.word_dropout(t(TOKENS), 0.5, 300, **options)
    with pytest.raises(ValueError, match="protected must be a token of uint8, 0 to 255, got 297"):
        v.word_dropout(t(TOKENS), 0.5, 0, protected=(297,), **options)
    with pytest.raises(TypeError, match="protected must be a tuple of tokens, got 3"):
        v.word_dropout(t(TOKENS), 0.5, 0, protected=3, **options)


@pytest.mark.parametrize("front", THREE[1:])
def test_protected_tokens_may_come_once(front):
    """A generator was used up by the check, and nothing protected."""
    v, t = of(front)
    kept = v.word_dropout(t(TOKENS), 1.0, 0, key=KEY, training=True, protected=(token for token in (41, 44)))
    assert np.asarray(kept).tolist() == [0, 41, 0, 0, 44, 0]


@pytest.mark.parametrize("front", THREE)
@pytest.mark.parametrize("edge", [[0, 5], [0, -1]])
def test_nodes_of_a_batch_have_their_ids(front, edge):
    """JAX took the last id for number 5 of three, and all but TensorFlow that of −1."""
    v, t = of(front)
    errors = (ValueError, IndexError)
    if front == "tensorflow":
        errors = pytest.importorskip("tensorflow").errors.InvalidArgumentError
    with pytest.raises(errors, match="edge_index must be numbers from 0 to the last of node_ids"):
        v.drop_edge(t(np.array([edge, [1, 2]])), 0.5, key=KEY, training=True, node_ids=t(np.array([3, 7, 9])))


@pytest.mark.parametrize("front", THREE)
def test_what_is_written_is_a_number(front):
    v, t = of(front)
    for value in (np.ones((2, 6, 6), np.float32), None, "0"):
        with pytest.raises(TypeError, match="value must be a number, got"):
            v.mask_spans(t(X), 2, 1, 1, key=KEY, training=True, value=value)


@pytest.mark.parametrize("front", THREE)
def test_no_spans_are_no_change(front):
    v, t = of(front)
    got = v.mask_spans(t(X), 2, 0, 1, key=KEY, training=True)
    np.testing.assert_array_equal(np.asarray(got), X)


@pytest.mark.parametrize("front", THREE[:2])
@pytest.mark.parametrize("training", [True, False])
def test_a_query_whose_keys_are_hidden_has_zeros(front, training):
    v, t = of(front)
    scores = np.array([[-np.inf, -np.inf], [0, -np.inf]], np.float32)
    got = np.asarray(v.drop_key(t(scores), 0.0, key=KEY, training=training))
    np.testing.assert_array_equal(got, [[0, 0], [1, 0]])


TRACED = {
    "concrete_dropout": lambda v, x, p: v.concrete_dropout(x, p, key=KEY, training=True),
    "variational_dropout": lambda v, x, p: v.variational_dropout(x, p, key=KEY, training=True),
    "drop_key": lambda v, x, p: v.drop_key(x, p, key=KEY, training=True),
    "cutout": lambda v, x, p: v.cutout(x[None, :, :, None], 1, p, key=KEY, training=True),
    "drop_node": lambda v, x, p: v.drop_node(x, p, key=KEY, training=True, node_ids=np.arange(2)),
}


@pytest.mark.parametrize(
    "name", [n if n == "variational_dropout" else pytest.param(n, marks=pytest.mark.full) for n in TRACED]
)
def test_jax_a_traced_rate_outside_gives_nan(name):
    jax = pytest.importorskip("jax")
    verbs = verbs_of("jax")
    x = X[:2, :2]
    program = jax.jit(lambda p: TRACED[name](verbs, x, p))
    for p in (1.5, -0.2, float("nan"), *((1.0,) if name == "variational_dropout" else ())):
        assert np.isnan(program(p)).all(), p
    assert np.isfinite(program(0.25)).all()


@pytest.mark.parametrize("name", ["concrete_dropout", "variational_dropout"])
def test_torch_a_batched_rate_outside_gives_nan(name):
    torch = pytest.importorskip("torch")
    verbs = verbs_of("torch")
    rates = torch.tensor([1.5, -0.2, 0.25])
    got = torch.vmap(lambda p: getattr(verbs, name)(torch.ones(6), p, True, key=KEY))(rates)
    assert got[:2].isnan().all()
    assert got[2].isfinite().all()


def test_torch_a_variance_of_nan_is_seen():
    """A diverged layer went on as if it had no noise."""
    torch = pytest.importorskip("torch")
    verbs = verbs_of("torch")
    x, weight = torch.ones(1, 1, 4), torch.ones(1, 1, 2)
    drawn = verbs.variational_conv(x, weight, weight * torch.nan, training=True, key=KEY)
    assert drawn.isnan().all()
    still = verbs.variational_conv(x, weight, weight * 0, training=True, key=KEY)
    assert torch.equal(still, torch.full((1, 1, 3), 2.0))


def test_jax_kept_units_are_checked():
    """A number outside read a neighbour; descending numbers had gradients of 0."""
    jax = pytest.importorskip("jax")
    from thinned.jax import thin_dense

    x, kernel = np.ones((1, 4), np.float32), np.ones((4, 6), np.float32)
    for numbers in ([1, 9], [3, 1], [-1, 2]):
        with pytest.raises(ValueError, match=r"outputs must ascend from 0 to 5, got \["):
            thin_dense(x, kernel, outputs=np.array(numbers))
    with pytest.raises(TypeError, match=r"inputs must be integers of one dimension, .* got bool"):
        thin_dense(x, kernel, inputs=jax.numpy.array([True, False, True, True]))


def test_jax_evaluation_refuses_what_training_refuses():
    pytest.importorskip("jax")
    v = verbs_of("jax")
    for call in (
        lambda: v.drop_edge(EDGES, 0.5, key="a", training=False),
        lambda: v.word_dropout(TOKENS, 0.5, 0, key="a", training=False),
        lambda: v.drop_key(X, 0.5, key="a", training=False),
    ):
        with pytest.raises(TypeError, match="key must be a key, got 'a'"):
            call()
    with pytest.raises(TypeError, match="node_ids must be integers"):
        v.drop_edge(EDGES, 0.5, key=KEY, training=False, node_ids=X[0])


@pytest.mark.parametrize("front", THREE)
def test_a_temperature_is_a_number(front):
    v, t = of(front)
    p = t(np.float32(0.5))
    with pytest.raises(TypeError, match=r"temperature must be a number, .* got 'a'"):
        v.concrete_dropout(t(X), p, key=KEY, training=True, temperature="a")
    with pytest.raises(ValueError, match="temperature must be positive, got nan"):
        v.concrete_dropout(t(X), p, key=KEY, training=True, temperature=float("nan"))


@pytest.mark.parametrize("name", ["ConcreteDropout", "VariationalDropout", "SparseVariationalConv2d"])
def test_torch_a_divergence_is_summed_in_float32(name):
    """In float16 it was infinite, or its gradient NaN."""
    torch = pytest.importorskip("torch")
    nn = importlib.import_module("thinned.torch.nn")
    if name == "SparseVariationalConv2d":
        layer = nn.SparseVariationalConv2d(64, 64, 5, samples=10)
        torch.nn.init.zeros_(layer.weight)
    else:
        layer = getattr(nn, name)(torch.nn.Linear(512, 512), samples=10)
        torch.nn.init.ones_(layer.layer.weight)
    whole = layer.regularization().item()
    got = layer.half().regularization()
    got.backward()
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(whole, rel=2e-3)
    assert all(p.grad is None or p.grad.isfinite().all() for p in layer.parameters())


def test_flax_modules_check_what_they_are_made_with():
    pytest.importorskip("flax")
    from flax import nnx as flaxs

    from thinned.flax import linen, nnx

    for made in (nnx.SpecAugment, linen.SpecAugment):
        with pytest.raises(ValueError, match="width must be from 0 to the size of dim, got -2"):
            made(-2, 2)
        with pytest.raises(TypeError, match=r"count must be an integer, got 0\.5"):
            made(2, 2, time_masks=0.5)
    layer = nnx.ConcreteDropout(flaxs.Linear(2, 2, rngs=flaxs.Rngs(0)), samples=10)
    with pytest.raises(TypeError, match=r"inputs must be float32, .* got int32"):
        layer(np.ones((1, 2), np.int32), deterministic=True)
