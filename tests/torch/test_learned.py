"""Layers whose rate is learned: against the papers' equations, their gradients and their limits."""

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from thinned import Key, keep_mask, mc
from thinned.contract import normal
from thinned.torch import functional, keyed, nn, regularization
from thinned.torch.functional import (
    concrete_dropout,
    gaussian_dropout,
    standout,
    variational_dropout,
    variational_linear,
)

KEY = Key(3, 1)
X = torch.linspace(-2, 3, 24, dtype=torch.float64).reshape(4, 6)


def uniforms(shape, key=KEY):
    """(u + ½) / 2^32 by bisection of the contract's masks: position i is dropped at p iff u < p · 2^32."""
    low, high = np.zeros(shape), np.full(shape, 2.0**32)
    for _ in range(32):
        middle = (low + high) / 2
        dropped = np.array(
            [not keep_mask(shape, float(m) / 2**32, key=key).flat[i] for i, m in enumerate(middle.flat)]
        ).reshape(shape)
        low, high = np.where(dropped, low, middle), np.where(dropped, middle, high)
    return (low + 0.5) / 2**32


def plain_concrete(x, p, u, t):
    """Equation 5 of the paper, with 1 − u in place of u."""
    drop = 1 / (1 + np.exp(-(np.log(p) - np.log(1 - p) + np.log(1 - u) - np.log(u)) / t))
    return x * (1 - drop) / (1 - p)


@pytest.mark.parametrize(("p", "t"), [(0.1, 0.1), (0.6, 0.5)])
def test_concrete_dropout_is_the_papers_equation(p, t):
    got = concrete_dropout(X, torch.tensor(p, dtype=torch.float64), True, temperature=t, key=KEY)
    np.testing.assert_allclose(
        got.numpy(), plain_concrete(X.numpy(), p, uniforms((4, 6)), t), rtol=1e-9, atol=1e-12
    )


def test_a_cold_concrete_mask_is_dropouts():
    for p in (0.0, 0.2, 0.7, 1.0):
        rate = torch.tensor(p, dtype=torch.float64)
        cold = concrete_dropout(torch.ones(400), rate, True, temperature=1e-7, key=KEY)
        assert torch.equal(cold > 0, torch.from_numpy(keep_mask(400, p, key=KEY)))


def test_at_the_ends_of_p_all_is_kept_or_zero():
    bad = torch.tensor([1.0, -2.0, math.inf])
    assert torch.equal(concrete_dropout(bad, torch.tensor(0.0), True, key=KEY), bad)
    gone = concrete_dropout(torch.tensor([1.0, math.nan]), torch.tensor(1.0), True, key=KEY)
    assert torch.equal(gone, torch.zeros(2))
    assert torch.equal(variational_dropout(bad[:2], torch.tensor(0.0), True, key=KEY), bad[:2])
    assert torch.equal(standout(bad, torch.zeros(3), True, key=KEY), bad)
    assert torch.equal(standout(torch.full((3,), math.nan), torch.ones(3), True, key=KEY), torch.zeros(3))


VERBS = {"concrete": concrete_dropout, "variational": variational_dropout, "standout": standout}


@pytest.mark.parametrize("verb", [concrete_dropout, variational_dropout], ids=["concrete", "variational"])
def test_gradients_reach_x_and_p(verb):
    x, p = X[:2, :2].clone().requires_grad_(), torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    per_column = torch.tensor([[0.2, 0.8]], dtype=torch.float64, requires_grad=True)
    for rate in (p, per_column):
        assert gradcheck(lambda x, p: verb(x, p, True, key=KEY), (x, rate))
    assert gradgradcheck(lambda x, p: verb(x, p, True, key=KEY), (x, p))
    under = torch.func.grad(lambda p: verb(X, p, True, key=KEY).square().sum())(p.detach())
    verb(X, p, True, key=KEY).square().sum().backward()
    torch.testing.assert_close(p.grad, under)


def test_gradients_of_the_drawn_linear_map():
    x, w = X.clone().requires_grad_(), torch.linspace(-1, 1, 18, dtype=torch.float64).reshape(3, 6)
    w, v = w.requires_grad_(), w.detach().square().add(0.1).requires_grad_()
    assert gradcheck(lambda *a: variational_linear(*a, training=True, key=KEY), (x, w, v))
    z = normal(KEY, np.arange(12)).reshape(4, 3).astype(np.float32)
    plain = x @ w.T + (x**2 @ v.T).sqrt() * torch.from_numpy(z)
    torch.testing.assert_close(variational_linear(x, w, v, training=True, key=KEY), plain)


def test_variational_dropout_is_gaussian_dropouts_noise():
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        x = X.to(dtype)
        learned = variational_dropout(x, torch.tensor(0.3, dtype=torch.float64), True, key=KEY)
        torch.testing.assert_close(learned, gaussian_dropout(x, 0.3, True, key=KEY))


def test_standout_has_the_contracts_mask_and_the_gradient_of_its_expectation():
    s = torch.linspace(-3, 3, 2000).requires_grad_()
    p = torch.sigmoid(-s)
    y = standout(s.detach() + 5, p, True, key=KEY)
    assert torch.equal(y != 0, functional.dropout(torch.ones(2000), p.detach(), True, key=KEY) != 0)
    (got,) = torch.autograd.grad(y.sum(), p)
    torch.testing.assert_close(got, -(s.detach() + 5))


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_nothing_of_the_inputs_size_is_held_beside_the_input(verb):
    x, p = torch.ones(64, 64, requires_grad=True), torch.tensor(0.3, requires_grad=True)
    held = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: held.append(t) or t, lambda t: t):
        verb(x, p, True, key=KEY)
    assert all(t.numel() < 64 * 64 or t.data_ptr() == x.data_ptr() for t in held)


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_a_part_has_the_numbers_of_the_whole(verb):
    p = torch.tensor(0.4)
    whole = verb(X, p, True, key=KEY)
    part = verb(X[1:3, 2:], p, True, key=KEY, global_shape=(4, 6), start=(1, 2))
    torch.testing.assert_close(part, whole[1:3, 2:], rtol=0, atol=0)


FULL = pytest.mark.full  # the same mechanism as of the first


@pytest.mark.parametrize(
    "verb", [concrete_dropout, *(pytest.param(v, marks=FULL) for v in (variational_dropout, standout))]
)
def test_compiled_code_has_the_bits_of_eager_code(verb):
    p = torch.tensor(0.4, requires_grad=True)
    key = torch.tensor([3, 1])

    def loss(p):
        return verb(X, p, True, key=key).square().sum()

    eager = torch.autograd.grad(loss(p), p)[0]
    compiled = torch.autograd.grad(torch.compile(loss, backend="aot_eager", fullgraph=True)(p), p)[0]
    torch.testing.assert_close(compiled, eager, rtol=1e-6, atol=1e-6)


def test_what_is_no_learned_rate_is_refused():
    with pytest.raises(TypeError, match=r"p must be a floating tensor, got 0\.5"):
        concrete_dropout(X, 0.5, True)
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\]"):
        concrete_dropout(X, torch.tensor(1.5), True)
    with pytest.raises(ValueError, match="temperature must be positive"):
        concrete_dropout(X, torch.tensor(0.5), True, temperature=0)
    with pytest.raises(ValueError, match=r"p has no gradient.*concrete_dropout"):
        functional.dropout(X, torch.tensor(0.5, requires_grad=True), True)
    with pytest.raises(TypeError, match="layer must be a Linear or Conv1d"):
        nn.ConcreteDropout(torch.nn.ReLU(), samples=3)
    with pytest.raises(ValueError, match="samples must be positive"):
        nn.ConcreteDropout(torch.nn.Linear(2, 2), samples=0)
    with pytest.raises(ValueError, match=r"p must be in \(0, 0\.5\]"):
        nn.VariationalDropout(torch.nn.Linear(2, 2), 0.7, samples=3)


def test_a_convolution_drops_its_channels():
    layer = keyed(nn.ConcreteDropout(torch.nn.Conv2d(6, 6, 1, groups=6), 0.5, samples=9), 1)
    torch.nn.init.ones_(layer.layer.weight)
    torch.nn.init.zeros_(layer.layer.bias)
    y = layer(torch.ones(2, 6, 3, 3)).flatten(2)
    assert torch.equal(y, y[..., :1].expand_as(y))
    assert len(y[..., 0].unique()) > 6


def test_the_terms_of_the_loss():
    """The papers' own sums, written out."""
    concrete = nn.ConcreteDropout(torch.nn.Linear(6, 5), 0.2, samples=50, length_scale=0.3)
    w, p = concrete.layer.weight.detach().numpy(), 0.2
    entropy = -p * math.log(p) - (1 - p) * math.log(1 - p)
    expected = (0.3**2 / (2 * (1 - p)) * (w**2).sum() - 6 * entropy) / 50
    assert concrete.regularization().item() == pytest.approx(expected, rel=1e-5)
    noisy, a = nn.VariationalDropout(torch.nn.Linear(6, 5), 0.2, samples=50), 0.25
    each = 0.5 * math.log(a) + 1.16145124 * a - 1.50204118 * a**2 + 0.58629921 * a**3
    assert noisy.regularization().item() == pytest.approx(-30 * each / 50, rel=1e-5)
    total = regularization(torch.nn.Sequential(concrete, noisy))
    assert total.item() == pytest.approx(concrete.regularization().item() + noisy.regularization().item())
    with pytest.raises(ValueError, match="no layer with a regularization"):
        regularization(torch.nn.Linear(2, 2))


def test_sparse_weights_are_pruned_in_evaluation_and_read_out():
    layer = nn.SparseVariationalLinear(4, 3, samples=10)
    with torch.no_grad():
        layer.weight.clamp_(min=0.1)  # a weight that happens to be near 0 is pruned as well
        layer.log_sigma2[0] = layer.weight[0].square().log() + 4.0
    assert layer.sparsity() == pytest.approx(1 / 3)
    assert not layer.kept()[0].any()
    y = layer.eval()(torch.ones(2, 4))
    assert torch.equal(y[:, 0], layer.bias[:1].expand(2))
    torch.testing.assert_close(layer.p[0], torch.full((4,), 1 / (1 + math.exp(-4.0))))


def test_a_convolution_of_noisy_weights_is_drawn_at_its_output():
    """Equation 17 of Molchanov et al., element by element, and one of kernel 1 is the linear layer's."""
    x, w = torch.randn(2, 4, 5, 6, dtype=torch.float64), torch.randn(6, 2, 2, 3, dtype=torch.float64)
    v, options = w.square() / 3, (1, 1, 1, 2)
    got = functional.variational_conv(x, w, v, None, True, *options, key=KEY)
    mean, spread = (torch.nn.functional.conv2d(*pair, None, *options) for pair in ((x, w), (x**2, v)))
    z = torch.from_numpy(normal(KEY, np.arange(mean.numel())).reshape(mean.shape)).double()
    torch.testing.assert_close(got, mean + spread.sqrt() * z)
    small = (x[:1, :, :2, :2].clone().requires_grad_(), w[:2, :, :1, :2].clone().requires_grad_())
    assert gradcheck(
        lambda x, w: functional.variational_conv(x, w, w**2, None, True, 1, 0, 1, 2, key=KEY), small
    )
    line, flat = torch.randn(3, 4), torch.randn(6, 4)
    by_linear = variational_linear(line, flat, flat**2, None, True, key=KEY)
    by_conv = functional.variational_conv(
        line[..., None], flat[..., None], flat[..., None] ** 2, None, True, key=KEY
    )
    torch.testing.assert_close(by_conv[..., 0], by_linear)
    layer = nn.SparseVariationalConv2d(4, 6, 2, samples=10, padding=1)
    with torch.no_grad():
        layer.weight.fill_(0.3)
        layer.log_sigma2[0] = layer.weight[0].square().log() + 4.0
    assert layer.sparsity() == pytest.approx(1 / 6)
    y = layer.eval()(x.float())
    assert torch.equal(y[:, 0], layer.bias[0].expand_as(y[:, 0]))
    with pytest.raises(ValueError, match="padding_mode must be 'zeros', got 'circular'"):
        nn.SparseVariationalConv2d(4, 6, 2, samples=10, padding_mode="circular")
    with pytest.raises(ValueError, match="weight must be of a convolution"):
        functional.variational_conv(x, x[0, 0], x[0, 0], None, True)


def test_prediction_draws_by_the_learned_rate():
    layer = nn.ConcreteDropout(torch.nn.Linear(6, 5), 0.3, samples=9).eval()
    (site,) = mc.sites(layer, torch.ones(2, 6))
    assert float(site.p) == pytest.approx(0.3)
    few = mc.predict(layer, torch.ones(2, 6), samples=20, key=KEY)
    with torch.no_grad():
        layer.p_logit.fill_(-8.0)
    fewer = mc.predict(layer, torch.ones(2, 6), samples=20, key=KEY)
    assert fewer.std.max() < few.std.min() / 3
