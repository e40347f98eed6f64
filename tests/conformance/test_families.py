"""Families that several front ends have: equal to plain NumPy, bit for bit where nothing is rounded."""

import importlib
from types import SimpleNamespace

import numpy as np
import plain_families as plain
import pytest

from thinned import Key

KEY = Key(2**63 + 3, 2**40 + 1)
X = np.linspace(-2, 2, 36, dtype=np.float32).reshape(6, 6)
MAPS = np.linspace(1, 2, 6 * 12 * 10 * 2, dtype=np.float32).reshape(6, 12, 10, 2)
TOKENS = np.arange(1, 61).reshape(3, 20)
EDGES = np.array([[0, 3, 8, 1, 7, 7, 2], [3, 0, 1, 8, 7, 2, 7]])
IDS = np.array([11, 2, 7, 0, 30, 5])
PATCHES = np.arange(4 * 11 * 2, dtype=np.float32).reshape(4, 11, 2)


def face(front):
    """A front end's verbs, on arrays."""
    library = importlib.import_module({"torch": "torch", "jax": "jax", "tensorflow": "tensorflow"}[front])
    if front == "torch":
        verbs = importlib.import_module("thinned.torch.functional")
        return SimpleNamespace(verbs=verbs, tensor=library.as_tensor)
    verbs = importlib.import_module(f"thinned.{front}")
    return SimpleNamespace(
        verbs=verbs,
        tensor=library.numpy.asarray if front == "jax" else library.convert_to_tensor,
    )


def first_channels(front, x):
    """PyTorch's pictures are (N, C, H, W)."""
    return np.moveaxis(x, -1, 1) if front == "torch" else x


def rate(tensor, p):
    return tensor(np.float64(p).astype(np.float32))


THREE = ("torch", "jax", "tensorflow")
# The front ends; their call, of verbs, a tensor's maker, p and training; NumPy's; whether it is exact.
CASES = {
    "concrete_dropout": (
        THREE,
        lambda v, t, p, on: v.concrete_dropout(t(X), rate(t, p), key=KEY, training=on),
        lambda p: plain.concrete(X.astype(np.float64), p, KEY) if 0 < p < 1 else X * (p < 1),
        False,
    ),
    "variational_dropout": (
        THREE[:2],
        lambda v, t, p, on: v.variational_dropout(t(X), rate(t, min(p, 0.9)), key=KEY, training=on),
        lambda p: plain.variational(X, min(p, 0.9), KEY),
        False,
    ),
    "word_dropout": (
        THREE,
        lambda v, t, p, on: v.word_dropout(t(TOKENS), p, 0, key=KEY, training=on, protected=(7,)),
        lambda p: plain.word_dropout(TOKENS, p, 0, KEY, (7,)),
        True,
    ),
    "drop_key": (
        THREE[:2],
        lambda v, t, p, on: v.drop_key(t(X), p, key=KEY, training=on),
        lambda p: plain.drop_key(X.astype(np.float64), p, KEY),
        False,
    ),
    "drop_edge": (
        THREE,
        lambda v, t, p, on: v.drop_edge(t(EDGES), p, key=KEY, training=on, num_nodes=9),
        lambda p: plain.drop_edge(EDGES, p, 9, KEY),
        True,
    ),
    "drop_edge, both directions": (
        THREE,
        lambda v, t, p, on: v.drop_edge(
            t(EDGES), p, key=KEY, training=on, num_nodes=31, undirected=True, node_ids=t(np.arange(9) * 3)
        ),
        lambda p: plain.drop_edge(EDGES * 3, p, 31, KEY, undirected=True),
        True,
    ),
    "drop_node": (
        THREE,
        lambda v, t, p, on: v.drop_node(t(X), p, key=KEY, training=on, node_ids=t(IDS)),
        lambda p: plain.rows(X, p, KEY, IDS, shared=True),
        True,
    ),
    "drop_node of all": (
        THREE,
        lambda v, t, p, on: v.drop_node(t(X), p, key=KEY, training=on),
        lambda p: plain.rows(X, p, KEY, np.arange(6), shared=True),
        True,
    ),
    "drop_message": (
        THREE,
        lambda v, t, p, on: v.drop_message(t(X), p, key=KEY, training=on, edge_ids=t(IDS)),
        lambda p: plain.rows(X, p, KEY, IDS, shared=False),
        True,
    ),
    "mask_spans": (
        THREE,
        lambda v, t, p, on: v.mask_spans(t(MAPS), 6, 2, -2, key=KEY, training=on),
        lambda p: plain.spans(MAPS, 6, 2, -2, KEY),
        True,
    ),
    "patch_dropout": (
        THREE[:2],
        lambda v, t, p, on: v.patch_dropout(t(PATCHES), p, key=KEY, training=on),
        lambda p: plain.patches(PATCHES, p, 1, KEY),
        True,
    ),
    "spatial_dropout": (
        THREE[:2],
        lambda v, t, p, on: v.spatial_dropout(t(X), p, "NF", "F", key=KEY, training=on),
        lambda p: plain.rows(X.T, p, KEY, np.arange(6), shared=True).T,
        True,
    ),
}


def cutout(front, verbs, tensor, p, on):
    got = verbs.cutout(tensor(first_channels(front, MAPS)), (4, 3), p, key=KEY, training=on)
    return np.moveaxis(np.asarray(got), 1, -1) if front == "torch" else got


LISTED = [
    pytest.param(front, name, id=f"{name}-{front}") for name, case in CASES.items() for front in case[0]
]


# Their programs have what the others do not; JAX compiles what it runs.
QUICK = ("mask_spans", "concrete_dropout")


def slow(front, name):
    return front == "jax" and name not in QUICK


# PyTorch has all rates in the quick tier.
ENDS = [
    pytest.param(p, front, name, id=f"{name}-{front}-{p}", marks=pytest.mark.full if front == "jax" else ())
    for p in (0.0, 1.0)
    for name, case in CASES.items()
    for front in case[0]
]


@pytest.mark.parametrize(
    ("p", "front", "name"),
    [
        *(
            pytest.param(0.4, *each.values, id=each.id, marks=pytest.mark.full if slow(*each.values) else ())
            for each in LISTED
        ),
        *ENDS,
    ],
)
def test_a_family_is_plain_numpys(front, name, p):
    pytest.importorskip(front)
    _, call, reference, exact = CASES[name]
    with_face = face(front)
    got = np.asarray(call(with_face.verbs, with_face.tensor, p, True))
    expected = reference(p)
    if exact:
        np.testing.assert_array_equal(got, expected)
        assert not np.signbit(got[got == 0]).any() or name == "spatial_dropout"
    else:
        np.testing.assert_allclose(got, expected, rtol=3e-6, atol=1e-6)


# At 1 every picture has its box.
@pytest.mark.parametrize("p", [1.0, *(pytest.param(p, marks=pytest.mark.full) for p in (0.0, 0.7))])
@pytest.mark.parametrize("front", ["torch", "tensorflow", pytest.param("jax", marks=pytest.mark.full)])
def test_boxes_are_plain_numpys(front, p):
    pytest.importorskip(front)
    with_face = face(front)
    got = cutout(front, with_face.verbs, with_face.tensor, p, True)
    np.testing.assert_array_equal(np.asarray(got), plain.cutout(MAPS, 4, 3, p, KEY))


@pytest.mark.parametrize(("front", "name"), LISTED)
def test_evaluation_changes_nothing(front, name):
    pytest.importorskip(front)
    with_face = face(front)
    got = np.asarray(CASES[name][1](with_face.verbs, with_face.tensor, 0.4, False))
    if name.startswith("drop_edge"):
        assert got.all()
    elif name == "drop_key":
        np.testing.assert_allclose(got.sum(-1), 1.0, rtol=1e-6)
        assert got.all()
    else:
        untouched = {"word_dropout": TOKENS, "mask_spans": MAPS, "patch_dropout": PATCHES}
        np.testing.assert_array_equal(got, untouched.get(name, X))


# torch/test_learned.py has it for PyTorch.
@pytest.mark.parametrize(
    "front", ["tensorflow", *(pytest.param(f, marks=pytest.mark.full) for f in THREE[:2])]
)
def test_the_rate_of_concrete_dropout_has_one_gradient(front):
    """Of x and p alike, against the reference's by central differences."""
    pytest.importorskip(front)
    p, step = 0.3, 1e-5
    expected = (
        np.square(plain.concrete(X.astype(np.float64), p + step, KEY)).sum()
        - np.square(plain.concrete(X.astype(np.float64), p - step, KEY)).sum()
    ) / (2 * step)
    np.testing.assert_allclose(of_p(front, p), expected, rtol=1e-3)


def of_p(front, p):
    verbs = face(front).verbs
    if front == "jax":
        import jax

        return jax.grad(lambda p: (verbs.concrete_dropout(X, p, key=KEY, training=True) ** 2).sum())(p)
    if front == "torch":
        import torch

        rate = torch.tensor(p, requires_grad=True)
        verbs.concrete_dropout(torch.from_numpy(X), rate, True, key=KEY).square().sum().backward()
        return rate.grad
    import tensorflow as tf

    rate = tf.Variable(p)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(verbs.concrete_dropout(X, rate, key=KEY, training=True) ** 2)
    return tape.gradient(loss, rate)


@pytest.mark.parametrize("front", THREE)
def test_refusals_name_the_argument(front):
    pytest.importorskip(front)
    v, t = face(front).verbs, face(front).tensor
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\], got 1.5"):
        v.word_dropout(t(TOKENS), 1.5, 0, key=KEY, training=True)
    with pytest.raises(TypeError, match=r"must (be integers|hold token numbers)"):
        v.word_dropout(t(X), 0.5, 0, key=KEY, training=True)
    with pytest.raises(ValueError, match="width must be from 0 to the size of dim, 6, got 7"):
        v.mask_spans(t(X), 7, 1, 1, key=KEY, training=True)
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        v.concrete_dropout(t(X), rate(t, 0.3), key=KEY, training=True, temperature=0)
    with pytest.raises(TypeError, match=r"edge_index must be integers of shape \(2, E\)"):
        v.drop_edge(t(X), 0.3, key=KEY, training=True)
    with pytest.raises(ValueError, match="do not fit"):
        v.drop_node(t(X), 0.3, key=KEY, training=True, node_ids=t(np.arange(4)))
    with pytest.raises(TypeError, match="training is missing"):
        v.drop_message(t(X), 0.3, key=KEY)
