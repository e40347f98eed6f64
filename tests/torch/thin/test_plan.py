"""What becomes thin, what stays masked, and the reason that the report gives."""

import copy
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from thin_families import close, made, step
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

import thinned.torch
from thinned.torch import keyed, masked, nn, set_rows, thin, unthin

pytestmark = pytest.mark.filterwarnings("ignore:.* has drawn (the|one) mask")
Linear, Dropout, ReLU = torch.nn.Linear, torch.nn.Dropout, torch.nn.ReLU


class Model(torch.nn.Module):
    """Linear layers a, b, c, dropout d, and a forward pass that is given."""

    def __init__(self, forward):
        super().__init__()
        self.a, self.b, self.c = Linear(4, 8), Linear(8, 8), Linear(8, 4)
        self.d = Dropout(0.5)
        self.way = forward

    def forward(self, x):
        return self.way(self, x)


def hooked(place):
    model = torch.nn.Sequential(Linear(4, 8), ReLU(), Dropout(0.5), Linear(8, 4))
    model[place].register_forward_hook(lambda module, args, output: output)
    return model


def with_weight(change, place):
    model = torch.nn.Sequential(Linear(4, 8), ReLU(), Dropout(0.5), Linear(8, 4))
    change(model[place])
    return model


class Adapter(torch.nn.Module):
    """As LoRA wraps a layer: a module that is no Linear."""

    def __init__(self, base):
        super().__init__()
        self.base, self.low, self.high = base, Linear(8, 2, False), Linear(2, 4, False)

    def forward(self, x):
        return F.linear(x, self.base.weight) + self.high(self.low(x))


class Own(Linear):
    def forward(self, x):
        return super().forward(x) + 1


def path(inner):
    class Residual(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.path = inner, nn.DropPath(0.5)

        def forward(self, x):
            return x + self.path(self.inner(x))

    return Residual()


class Mixing(torch.nn.Module):
    def __init__(self, how):
        super().__init__()
        self.norm, self.how, self.path = torch.nn.LayerNorm(4), how, nn.DropPath(0.5)

    def forward(self, x):
        return x + self.path(self.how(self.norm(x)))


LEFT = {
    "a residual reads it too": (Model(lambda m, x: (h := m.d(m.a(x))) + m.b(h)), "feeds add"),
    "nothing linear behind": (
        torch.nn.Sequential(Linear(4, 8), Dropout(0.5)),
        "its output is one of the model's",
    ),
    "tanh behind": (Model(lambda m, x: m.b(torch.tanh(m.d(m.a(x))))), "feeds tanh"),
    "a norm behind": (torch.nn.Sequential(Linear(4, 8), Dropout(0.5), torch.nn.LayerNorm(8)), "a LayerNorm"),
    "called twice": (Model(lambda m, x: m.c(m.d(m.b(m.d(m.a(x)))))), "called 2 times"),
    "a layer called twice": (Model(lambda m, x: m.c(m.b(m.d(m.b(m.a(x)))))), "called more than once"),
    "a hook behind": (hooked(3), "has a forward hook"),
    "a hook on the site": (hooked(2), "has a forward hook"),
    "weight norm": (with_weight(parametrizations.weight_norm, 3), "Linear"),
    "pruning": (with_weight(lambda m: prune.random_unstructured(m, "weight", 0.5), 3), "Linear"),
    "LoRA": (torch.nn.Sequential(Linear(4, 8), Dropout(0.5), Adapter(Linear(8, 4))), "Adapter|linear"),
    "a class of one's own": (torch.nn.Sequential(Linear(4, 8), Dropout(0.5), Own(8, 4)), "Own|linear"),
    "elements of images": (
        torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), Dropout(0.5), torch.nn.Conv2d(2, 1, 1)),
        "Conv2d",
    ),
    "depthwise": (torch.nn.Sequential(torch.nn.Dropout2d(0.5), torch.nn.Conv2d(2, 2, 1, groups=2)), "Conv2d"),
    "another noise shape": (
        torch.nn.Sequential(nn.Dropout(0.5, noise_shape=(None, 1)), Linear(4, 4)),
        "noise_shape",
    ),
    "alpha": (torch.nn.Sequential(Linear(4, 8), torch.nn.AlphaDropout(0.5), Linear(8, 4)), "AlphaDropout"),
    "elements in a branch": (
        path(torch.nn.Sequential(torch.nn.LayerNorm(4), Linear(4, 4), Dropout(0.1))),
        "inner.2",
    ),
    "batch norm in a branch": (path(torch.nn.BatchNorm1d(4)), "all samples"),
    "the mean of a batch": (Mixing(lambda x: x - x.mean(0, keepdim=True)), "along the batch"),
    "softmax of a batch": (Mixing(lambda x: x.softmax(0)), "along the batch"),
    "one sample": (Mixing(lambda x: x * x[0]), "choose samples"),
    "samples in a row": (Mixing(lambda x: x.t() @ x), "t"),
    "a roll": (Mixing(lambda x: torch.roll(x, 1)), "roll"),
}


@pytest.mark.parametrize(("model", "reason"), LEFT.values(), ids=LEFT)
def test_what_cannot_be_thin_stays_and_says_why(model, reason):
    before, state = repr(model), copy.deepcopy(model.state_dict())
    report = thin(model)
    assert not report.thinned
    assert any(word in "; ".join(report.left.values()) for word in reason.split("|")), report
    assert repr(model) == before
    assert list(model.state_dict()) == list(state)
    assert report.share == 1.0


def test_a_hook_before_leaves_the_part_behind():
    """The site takes what it keeps out of its input; the hook sees whole tensors."""
    model = hooked(0)
    seen = []
    model[0].register_forward_hook(lambda module, args, output: seen.append(output.shape))
    report = thin(model)
    assert report.thinned == {"2": "Linear(8, 4) behind"}
    model(torch.ones(3, 4))
    assert seen == [(3, 8)]


def test_weights_that_are_shared_have_the_sum_of_their_gradients():
    model = torch.nn.Sequential(Linear(8, 8), ReLU(), Dropout(0.5), Linear(8, 8)).double()
    model[3].weight = model[0].weight
    report = thin(model)
    assert report.thinned
    keyed(model, 1)
    x = torch.randn(5, 8, dtype=torch.float64)
    assert close(step(model, x), step(model, x, masks=True))


def test_several_linear_readers():
    def way(m, x):
        h = m.d(m.a(x))
        return m.b(h)[:, :4] + m.c(h)

    model = Model(way).double()
    assert list(thin(model).thinned) == ["d"]
    keyed(model, 1)
    x = torch.randn(5, 4, dtype=torch.float64)
    assert close(step(model, x), step(model, x, masks=True))


def test_a_model_that_cannot_be_traced_is_thin_in_its_parts():
    class Outer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.mlp = torch.nn.Sequential(Linear(4, 8), ReLU(), Dropout(0.5), Linear(8, 4))

        def forward(self, x):
            return self.mlp(x) if x.sum() > 0 else x

    model = Outer()
    assert list(thin(model).thinned) == ["mlp.2"]
    assert model.mlp[0](torch.ones(2, 4)).shape[1] < 8


def test_a_part_called_alone_with_whole_tensors_is_as_before_or_an_error():
    model, x = made("units", 0.5)
    with pytest.raises(RuntimeError, match=r"a thin layer of 20 inputs was given 7, .*unthin"):
        model[4](torch.ones(3, 7, dtype=torch.float64))
    model(x)
    assert model[7](torch.ones(3, 20, dtype=torch.float64)).shape == (3, 3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own
def test_compiled_traced_and_transformed_code_masks():
    model, x = made("units", 0.5)
    expected = step(model, x, masks=True)["output"]
    weights = dict(model.named_parameters())
    call = torch.func.functional_call
    _, pushed = torch.func.jvp(lambda x: call(model, weights, x), (x,), (torch.zeros_like(x),))
    assert not pushed.any()
    got = torch.func.vmap(lambda x: call(model, weights, x[None])[0], randomness="same")(x)
    assert torch.allclose(got, expected, atol=1e-12)
    torch.compiler.reset()
    fast = torch.compile(model, backend="eager", fullgraph=True)
    assert torch.allclose(fast(x), expected, atol=1e-12)


def test_schedules_and_p_as_a_tensor():
    model = torch.nn.Sequential(
        Linear(4, 8), ReLU(), nn.Dropout(thinned.torch.schedules.Late(0.5, 2)), Linear(8, 4)
    )
    thin(model)
    keyed(model, 1)
    x = torch.randn(3, 4)
    assert model[0](x).shape[1] == 8
    thinned.torch.set_step(model, 2)
    assert model[0](x).shape[1] < 8
    model[2].p = torch.full((1, 8), 0.5)
    with masked():
        expected = model(x)
    assert torch.equal(model(x), expected)


def test_rows_of_a_batch_have_the_decisions_of_the_whole():
    model = path(torch.nn.Sequential(torch.nn.LayerNorm(4), Linear(4, 4)))
    assert thin(model).thinned
    keyed(model, 1)
    x = torch.randn(12, 4)
    whole = model(x)
    for rows in (range(6), range(1, 12, 2)):
        part = set_rows(model, rows, total=12)(x[rows.start : rows.stop : rows.step])
        assert torch.allclose(part, whole[rows.start : rows.stop : rows.step], atol=1e-6)


def test_steps_that_nobody_sets_are_warned_of():
    model, x = made("units", 0.5)
    model(x)
    with pytest.warns(UserWarning, match="has drawn the mask of step 0 again"):
        model(x)


def test_counted_calls_are_one_for_each_call():
    model, x = made("units", 0.5, None)
    keyed(model, 1, calls="count")
    first = [model(x), model(x)]
    assert not torch.equal(*first)
    keyed(model, 1, calls="count")
    with masked():
        assert all(torch.allclose(model(x), one) for one in first)


def test_call_is_refused():
    model, x = made("units", 0.5)
    model[1](model[0](x))
    with pytest.raises(RuntimeError, match="call= reaches a thin site"):
        model[3](model[2](model[1](model[0](x))), call=1)


def test_arguments():
    with pytest.raises(ValueError, match="groups must be at least 1, got 0"):
        thin(torch.nn.Linear(2, 2), 0)
    with pytest.raises(TypeError, match="groups must be an integer"):
        thin(torch.nn.Linear(2, 2), 1.5)
    model = torch.nn.Sequential(Linear(4, 8), Dropout(0.5), Linear(8, 4))
    report = thin(model, copy=True)
    assert report.model is not model
    assert type(model[0]) is Linear
    assert type(unthin(report.model)[1]) is Dropout


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 9),
    st.lists(st.integers(1, 12), min_size=3, max_size=5),
    st.integers(1, 4),
    st.integers(0, 99),
)
def test_any_shape(batch, sizes, groups, seed):
    layers = []
    for a, b in itertools.pairwise(sizes):
        layers += [Dropout(0.6), Linear(a, b), torch.nn.Sigmoid()]
    model = torch.nn.Sequential(*layers).double()
    thin(model, groups)
    keyed(model, seed)
    x = torch.randn(batch, sizes[0], dtype=torch.float64)
    assert close(step(model, x), step(model, x, masks=True))
