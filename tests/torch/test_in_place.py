"""In place: torch's bookkeeping is what torch's own operators in place make it, in every verb and layer."""

import inspect

import pytest
import torch

from thinned import Key
from thinned.torch import _eager, functional, nn

KEY = Key(3)
SHAPE = (4, 6, 5, 8)

VERBS = {
    "dropout": functional.dropout,
    "classic": lambda x, p, training, inplace, key: functional.dropout(
        x, p, training, inplace, key=key, mode="classic"
    ),
    "noise_shape": lambda x, p, training, inplace, key: functional.dropout(
        x, p, training, inplace, key=key, noise_shape=(None,) + (1,) * (x.dim() - 1)
    ),
    "a p for each": lambda x, p, training, inplace, key: functional.dropout(
        x, torch.full((x.shape[0],) + (1,) * (x.dim() - 1), p), training, inplace, key=key
    ),
    "dropout2d": functional.dropout2d,
    "dropout3d": functional.dropout3d,
    "alpha_dropout": functional.alpha_dropout,
    "feature_alpha_dropout": functional.feature_alpha_dropout,
    "gaussian_dropout": functional.gaussian_dropout,
    "drop_block2d": lambda x, p, training, inplace, key: functional.drop_block2d(
        x, p, 2, training, inplace, key=key
    ),
}
LAYERS = {
    "Dropout": nn.Dropout(0.5, inplace=True),
    "Dropout2d": nn.Dropout2d(0.5, inplace=True),
    "Dropout3d": nn.Dropout3d(0.5, inplace=True),
    "AlphaDropout": nn.AlphaDropout(0.5, inplace=True),
    "FeatureAlphaDropout": nn.FeatureAlphaDropout(0.5, inplace=True),
    "GaussianDropout": nn.GaussianDropout(0.5, inplace=True),
    "DropBlock2d": nn.DropBlock2d(0.5, 2, inplace=True),
}
WRITES = {
    **{name: lambda x, verb=verb: verb(x, 0.5, True, True, key=KEY) for name, verb in VERBS.items()},
    **LAYERS,
    "p = 1": lambda x: functional.dropout(x, 1.0, True, True),
    "classic evaluation": lambda x: functional.dropout(x, 0.5, False, True, mode="classic"),
    "classic evaluation, p a tensor": lambda x: functional.dropout(
        x, torch.tensor(0.5).expand(x.dim() * (1,)), False, True, mode="classic"
    ),
}
WAYS = ["short way", "operator"]


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """Both ways to the kernel."""
    if request.param == "operator":
        monkeypatch.setattr(_eager, "applies", lambda _input: False)


def test_every_verb_and_layer_that_writes_in_place_is_here():
    def writes(module):
        return {
            name
            for name in module.__all__
            if "inplace" in inspect.signature(getattr(module, name)).parameters
        }

    assert writes(functional) - {"dropout1d", "drop_block1d", "drop_block3d"} <= set(VERBS)
    assert writes(nn) - {"Dropout1d", "DropBlock1d", "DropBlock3d"} <= set(LAYERS)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", WRITES)
def test_what_was_saved_before_the_write_is_refused_by_its_own_gradient(name):
    """The issue's case: a Linear has saved x, and a layer whose x needs no gradient writes to it."""
    linear = torch.nn.Linear(SHAPE[-1], 2)
    x = torch.ones(SHAPE)
    loss = linear(x).sum()
    before = x._version
    assert WRITES[name](x) is x
    assert x._version > before
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", WRITES)
def test_with_a_gradient_of_its_own_and_without_grad_mode(name):
    y = torch.ones(SHAPE, requires_grad=True) * 2
    square = (y**2).sum()
    assert WRITES[name](y) is y
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        square.backward()
    y = torch.ones(SHAPE, requires_grad=True) * 2
    square = (y**2).sum()
    with torch.no_grad():
        WRITES[name](y)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        square.backward()


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("view", [lambda x: x, lambda x: x[1:], lambda x: x.transpose(2, 3)])
@pytest.mark.parametrize("name", WRITES)
def test_a_leaf_is_refused_before_it_is_written_to(name, view):
    leaf = torch.ones(SHAPE, requires_grad=True)
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        WRITES[name](view(leaf))
    assert torch.equal(leaf.detach(), torch.ones(SHAPE))
    with torch.no_grad():
        WRITES[name](view(leaf))
    assert not torch.equal(leaf.detach(), torch.ones(SHAPE))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", WRITES)
def test_one_of_several_views_of_a_split_is_refused_before_it_is_written_to(name):
    whole = torch.ones(2, *SHAPE, requires_grad=True) * 1
    one, _ = whole.unbind()
    with pytest.raises(RuntimeError, match="returns multiple views"):
        WRITES[name](one)
    assert torch.equal(whole.detach(), torch.ones(2, *SHAPE))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", WRITES)
def test_inference_tensors(name):
    with torch.inference_mode():
        x = torch.ones(SHAPE)
        assert WRITES[name](x.clone()).is_inference()
    with pytest.raises(RuntimeError, match="Inplace update to inference tensor outside InferenceMode"):
        WRITES[name](x)
    assert torch.equal(x, torch.ones(SHAPE))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", WRITES)
def test_memory_that_elements_share_is_refused_before_it_is_written_to(name):
    shared = torch.ones(1, *SHAPE[1:]).expand(SHAPE)
    windows = torch.ones(2 * SHAPE[0] * 6 * 5 * 8).as_strided(SHAPE, (40, 40, 8, 1))
    for x in (shared, windows, torch.ones(4, 6, 5, 10).unfold(3, 3, 1).flatten(0, 1).mT[:, :3]):
        before = x.clone()
        try:
            with pytest.raises(ValueError, match="inplace=True needs elements that do not share memory"):
                WRITES[name](x)
        finally:
            assert torch.equal(x, before)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", VERBS)
def test_values_and_gradients_are_those_of_the_verb_that_returns_a_new_tensor(name):
    leaf = torch.randn(SHAPE, requires_grad=True)
    upstream = torch.randn(SHAPE)
    results = []
    for inplace in (False, True):
        for part in (lambda x: x, lambda x: x.transpose(2, 3), lambda x: x[1:, :, 1:]):
            base = leaf * 1
            y = VERBS[name](part(base), 0.5, True, inplace, key=KEY)
            (grad,) = torch.autograd.grad(y, leaf, part(upstream))
            results.append((y.detach().clone(), grad))
    for new, written in zip(results[:3], results[3:], strict=True):
        assert torch.equal(new[0], written[0])
        assert torch.equal(new[1], written[1])


def test_the_base_of_a_view_that_was_written_to_has_the_gradient_of_both():
    leaf = torch.ones(4, 50, requires_grad=True)
    base = leaf * 1
    functional.dropout(base[1], 0.5, True, True, key=KEY)
    base.sum().backward()
    mask = functional.dropout(torch.ones(50), 0.5, True, key=KEY)
    assert torch.equal(leaf.grad, torch.stack([torch.ones(50), mask, torch.ones(50), torch.ones(50)]))
    assert torch.equal(base.detach(), leaf.grad)


# torch compiles derivatives of its own with torch.jit.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_forward_derivatives_of_a_write():
    import torch.autograd.forward_ad as fwAD

    x, tangent = torch.ones(50), torch.randn(50)
    mask = functional.dropout(torch.ones(50), 0.5, True, key=KEY)
    with fwAD.dual_level():
        y = functional.dropout(fwAD.make_dual(x.clone(), tangent.clone()), 0.5, True, True, key=KEY)
        primal, derivative = fwAD.unpack_dual(y)
        assert torch.equal(primal, mask)
        assert torch.equal(derivative, tangent * mask)


@pytest.mark.parametrize("randomness", ["same", "different", "error"])
def test_under_torch_func(randomness):
    f = lambda x: functional.dropout(x * 1, 0.5, True, True, key=KEY)  # noqa: E731
    x = torch.ones(3, 40)
    plain = lambda x: functional.dropout(x, 0.5, True, key=KEY)  # noqa: E731
    assert torch.equal(torch.vmap(f, randomness=randomness)(x), torch.vmap(plain, randomness=randomness)(x))
    assert torch.equal(torch.func.grad(lambda x: f(x).sum())(x), plain(x))
    assert torch.equal(torch.func.functionalize(f)(x), plain(x))
