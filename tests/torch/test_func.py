"""torch.func: grad, vmap, jvp and what is made of them, in eager and in compiled code."""

import pytest
import torch
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

from thinned import Key
from thinned.torch import functional, keyed, nn

# torch compiles derivatives of its own with torch.jit.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

KEY = Key(11)
X = torch.ones(5, 64)


def keyed_dropout(x):
    return functional.dropout(x, 0.5, True, key=KEY)


def drawn_dropout(x):
    return functional.dropout(x, 0.5, True)


def rows_differ(y):
    return len({tuple(row.tolist()) for row in y}) == len(y)


def rows_are_equal(y):
    return all(torch.equal(row, y[0]) for row in y)


# Six graphs; vmap's are compiled below, and other tests compile a layer's derivatives.
@pytest.mark.parametrize(
    "wrap",
    [
        lambda f: f,
        pytest.param(lambda f: torch.compile(f, backend="aot_eager", fullgraph=True), marks=pytest.mark.full),
    ],
)
def test_derivatives_have_the_mask(wrap):
    x = torch.ones(64)
    mask = keyed_dropout(x)
    assert torch.equal(wrap(grad(lambda x: keyed_dropout(x).sum()))(x), mask)
    assert torch.equal(wrap(jacrev(keyed_dropout))(x), mask.diag())
    assert torch.equal(wrap(jacfwd(keyed_dropout))(x), mask.diag())
    assert torch.equal(wrap(hessian(lambda x: (keyed_dropout(x) ** 2).sum()))(x), (2 * mask**2).diag())
    cubes = grad(lambda x: (keyed_dropout(x) ** 3).sum())
    assert torch.equal(wrap(grad(lambda x: cubes(x).sum()))(x), 6 * mask**3)  # a level outside the inner one
    primal, tangent = wrap(lambda x: jvp(keyed_dropout, (x,), (3 * x,)))(x)
    assert torch.equal(primal, mask)
    assert torch.equal(tangent, 3 * mask)


@pytest.mark.parametrize(
    "wrap", [lambda f: f, lambda f: torch.compile(f, backend="aot_eager", fullgraph=True)]
)
def test_vmap_honours_its_randomness(wrap):
    assert rows_are_equal(wrap(vmap(keyed_dropout))(X))  # a pure function of its key: nothing random in it
    assert torch.equal(wrap(vmap(keyed_dropout, randomness="same"))(X)[0], keyed_dropout(X[0]))
    assert rows_differ(wrap(vmap(keyed_dropout, randomness="different"))(X))
    assert rows_are_equal(wrap(vmap(drawn_dropout, randomness="same"))(X))
    assert rows_differ(wrap(vmap(drawn_dropout, randomness="different"))(X))


def test_vmap_refuses_a_draw_in_error_mode():
    with pytest.raises(RuntimeError, match='randomness="same"'):
        vmap(drawn_dropout)(X)
    with pytest.raises(RuntimeError, match='randomness="same"'):
        vmap(grad(lambda x: drawn_dropout(x).sum()))(X)


RULES = {
    "of what is mapped over": lambda F, x: F.dropout(x, 0.5, training=True),
    "of what is not": lambda F, x: F.dropout(torch.ones(64), 0.5, training=True) + 0 * x,
    "channels": lambda F, x: F.dropout1d(x[:, None], 0.5, training=True),
    "channels of what is not": lambda F, x: F.dropout1d(torch.ones(64, 1), 0.5, training=True) + 0 * x,
    "alpha_dropout": lambda F, x: F.alpha_dropout(x, 0.5, training=True),
    "feature_alpha_dropout": lambda F, x: F.feature_alpha_dropout(x[None], 0.5, training=True)[0],
    "p = 1": lambda F, x: F.dropout(x, 1.0, training=True),
    "p = 0": lambda F, x: F.dropout(x, 0.0, training=True),
    "evaluation": lambda F, x: F.dropout(x, 0.5, training=False),
}


def outcome(f, x, outer, inner):
    """What two levels of vmap make of a draw: torch's error, or which of the rows are equal."""
    try:
        y = vmap(vmap(f, randomness=inner), randomness=outer)(x)
    except RuntimeError as error:
        assert "called random operation while in randomness error mode" in str(error)  # noqa: PT017
        return "error"
    return torch.equal(y[0], y[1]), torch.equal(y[:, 0], y[:, 1])


@pytest.mark.parametrize("inner", ["error", "same", "different"])
@pytest.mark.parametrize("outer", ["error", "same", "different"])
@pytest.mark.parametrize("name", RULES)
def test_without_a_key_randomness_is_ruled_as_torch_rules_it(name, outer, inner):
    x = torch.ones(2, 3, 64, 1) if name == "feature_alpha_dropout" else torch.ones(2, 3, 64)
    ours, torchs = (
        outcome(lambda x, F=F: RULES[name](F, x), x, outer, inner) for F in (functional, torch.nn.functional)
    )
    assert ours == torchs


def test_different_is_the_key_folded_by_the_index():
    y = vmap(keyed_dropout, randomness="different")(X)
    for i, row in enumerate(y):
        assert torch.equal(row, functional.dropout(X[i], 0.5, True, key=KEY.fold(i)))


@pytest.mark.parametrize("inner", ["same", "different"])
@pytest.mark.parametrize("outer", ["same", "different"])
def test_nested_vmap(outer, inner):
    y = vmap(vmap(drawn_dropout, randomness=inner), randomness=outer)(torch.ones(3, 4, 64))
    assert (rows_differ if outer == "different" else rows_are_equal)(y[:, 0])
    assert (rows_differ if inner == "different" else rows_are_equal)(y[0])


@pytest.mark.parametrize("randomness", ["same", "different"])
@pytest.mark.parametrize(
    "wrap", [lambda f: f, lambda f: torch.compile(f, backend="aot_eager", fullgraph=True)]
)
def test_a_gradient_that_all_examples_share_meets_the_masks_of_the_forward_pass(wrap, randomness):
    upstream = torch.ones(64)

    def difference(x):
        y, back = vjp(keyed_dropout, x)
        return y - back(upstream)[0]

    assert not wrap(vmap(difference, randomness=randomness))(X).any()


def test_what_is_not_mapped_over_differs_too_where_that_is_asked():
    weight = torch.ones(64)
    y = vmap(lambda x: x * drawn_dropout(weight), randomness="different")(X)
    assert rows_differ(y)


def test_gradients_of_a_batch_through_and_around_vmap():
    mask = vmap(keyed_dropout, randomness="different")(X)
    inside = vmap(grad(lambda x: keyed_dropout(x).sum()), randomness="different")(X)
    around = grad(lambda x: vmap(keyed_dropout, randomness="different")(x).sum())(X)
    assert torch.equal(inside, mask)
    assert torch.equal(around, mask)


def test_vmap_over_p_other_dimensions_shards_and_shared_decisions():
    p = torch.tensor([0.0, 0.3, 1.0])
    y = vmap(lambda x, p: functional.dropout(x, p, True, key=KEY), in_dims=(1, 0))(torch.ones(64, 3), p)
    for row, each in zip(y, p, strict=True):
        assert torch.equal(row, functional.dropout(torch.ones(64), each, True, key=KEY))

    def shard(x):
        return functional.dropout(
            x, 0.5, True, key=KEY, noise_shape=(None, 1), global_shape=(9, 64), start=(4, 8)
        )

    x = torch.ones(2, 5, 8)
    assert torch.equal(vmap(shard)(x), torch.stack([shard(each) for each in x]))
    rates = torch.rand(2, 5, 1)
    each = vmap(lambda x, p: functional.dropout(x, p, True, key=KEY))(x, rates)
    alone = [functional.dropout(a, p, True, key=KEY) for a, p in zip(x, rates, strict=True)]
    assert torch.equal(each, torch.stack(alone))


def test_per_sample_gradients_of_a_keyed_model():
    """Each sample's gradient is what it would be alone, with its own mask."""
    torch.manual_seed(0)
    model = keyed(torch.nn.Sequential(torch.nn.Linear(8, 16), nn.Dropout(0.5), torch.nn.Linear(16, 1)), 3)
    weights = dict(model.named_parameters())
    x = torch.randn(6, 8)

    def loss(weights, x):
        return torch.func.functional_call(model, weights, (x,)).square().sum()

    grads = vmap(grad(loss), in_dims=(None, 0), randomness="different")(weights, x)
    masks = vmap(lambda x: model[1](model[0](x)) == 0, randomness="different")(x)
    assert rows_differ(masks)
    assert torch.equal(grads["2.weight"][:, 0] == 0, masks)


def test_an_ensemble_over_steps_draws_by_each_step():
    from thinned.torch import set_step

    layer = keyed(nn.Dropout(0.5), 3)
    x = torch.ones(64)
    alone = [set_step(layer, n)(x) for n in range(4)]

    def at(step):
        layer.step = step
        return layer(x)

    together = vmap(at)(torch.arange(4))
    assert torch.equal(together, torch.stack(alone))
