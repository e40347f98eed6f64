"""Broadcast maps, empty batches, tensors without a batch, and branches that mix samples."""

import pytest
import torch
from thin_families import close, step
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint_sequential

from thinned.torch import convert, keyed, masked, nn, set_rows, thin

pytestmark = pytest.mark.filterwarnings("ignore:.* has drawn (the|one) mask")
Linear, Conv1d, Conv2d = torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d


class Model(torch.nn.Module):
    """A forward pass that is given, on modules that are."""

    def __init__(self, way, **modules):
        super().__init__()
        self.way = way
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x):
        return self.way(self, x)


def units(way, **modules):
    return Model(way, a=Linear(4, 16), b=Linear(4, 16), d=torch.nn.Dropout(0.5), out=Linear(16, 3), **modules)


def chain(p=0.5):
    return torch.nn.Sequential(Linear(4, 8), torch.nn.Sigmoid(), torch.nn.Dropout(p), Linear(8, 8))


def images(*layers):
    return torch.nn.Sequential(Conv2d(4, 8, 3), torch.nn.Dropout2d(0.5), *layers, Conv2d(8, 2, 3))


# A model, its input's shape, and groups.
ODD = {
    "one gate for all units": (
        lambda: units(lambda m, x: m.out(m.d(m.g(x).sigmoid() * m.a(x))), g=Linear(4, 1)),
        (6, 4),
        1,
    ),
    "one gate, second": (
        lambda: units(lambda m, x: m.out(m.d(m.a(x) * m.g(x).sigmoid())), g=Linear(4, 1)),
        (6, 4),
        1,
    ),
    "a gate of places": (
        lambda: Model(
            lambda m, x: m.out(m.d(m.a(x) * m.g(x).sigmoid())),
            a=Conv2d(4, 16, 3),
            g=Conv2d(4, 1, 3),
            d=torch.nn.Dropout2d(0.5),
            out=Conv2d(16, 3, 3),
        ),
        (6, 4, 8, 8),
        1,
    ),
    "a broadcast row, groups": (lambda: units(lambda m, x: m.out(m.d(m.a(x) + m.b(x[:1])))), (6, 4), 2),
    "broadcast places, groups": (lambda: units(lambda m, x: m.out(m.d(m.a(x) + m.b(x[0])))), (6, 5, 4), 3),
    "a branch reads groups": (
        lambda: units(
            lambda m, x: (h := m.d(m.a(x))) is h and m.out(h) + m.p(m.u(h)),
            u=Linear(16, 3),
            p=nn.DropPath(0.5),
        ),
        (6, 4),
        2,
    ),
    "an image without a batch": (images, (4, 8, 8), 1),
    "a pool across channels": (
        lambda: torch.nn.Sequential(
            Conv1d(4, 8, 3), torch.nn.Dropout1d(0.1), torch.nn.MaxPool2d((2, 1)), Conv1d(4, 2, 3)
        ),
        (6, 4, 8),
        1,
    ),
    "no sample": (chain, (0, 4), 3),
    "no image": (images, (0, 4, 8, 8), 2),
    "no sample at a site alone": (
        lambda: torch.nn.Sequential(torch.nn.Dropout(0.5), Linear(4, 2)),
        (0, 4),
        2,
    ),
    "one sample": (chain, (1, 4), 3),
    "a vector": (chain, (4,), 1),
    "in place behind what saves its result": (
        lambda: torch.nn.Sequential(
            Linear(4, 8),
            torch.nn.Sigmoid(),
            torch.nn.Dropout(0.5),
            torch.nn.LeakyReLU(0.2, True),
            Linear(8, 2),
        ),
        (6, 4),
        1,
    ),
}


def is_masked(model, x, groups=1):
    model = convert(model).model.double()
    report = thin(model, groups)
    for seed in range(4):
        keyed(model, seed)
        one, other = (
            {n: t for n, t in step(model, x, masks).items() if t is not None} for masks in (False, True)
        )
        assert one.keys() == other.keys()
        assert close(one, other), report
    return report


@pytest.mark.parametrize(("make", "shape", "groups"), ODD.values(), ids=ODD)
def test_odd_shapes_are_masked_alike(make, shape, groups):
    torch.manual_seed(2)
    is_masked(make(), torch.randn(shape, dtype=torch.float64), groups)


def path(way, **modules):
    return Model(lambda m, x: x + m.p(way(m.n(x), m)), n=torch.nn.LayerNorm(4), p=nn.DropPath(0.5), **modules)


MIXING = {
    "a mean told by place": (lambda h, m: h - h.mean(0, True), (6, 4)),
    "a norm of all": (lambda h, m: h / h.norm(2), (6, 4)),
    "halves of the batch": (lambda h, m: torch.cat(h.chunk(2), -1).reshape(h.shape), (6, 4)),
    "over the batch's size": (lambda h, m: h / h.shape[0], (6, 4)),
    "times the batch's size": (lambda h, m: h * (h.size(0) * 2), (6, 4)),
    "a norm over the batch": (lambda h, m: F.layer_norm(h, h.shape), (6, 4)),
    "itself as a weight": (lambda h, m: F.linear(h, h) @ h, (6, 4)),
    "two samples a row": (lambda h, m: h.reshape(-1, 8).softmax(-1).reshape(h.shape), (6, 4)),
    "all in one sequence": (
        lambda h, m: F.scaled_dot_product_attention(*(h.reshape(1, -1, 4),) * 3).reshape(h.shape),
        (6, 5, 4),
    ),
    "flattened from the first": (lambda h, m: m.f(h).softmax(-1).reshape(h.shape), (6, 4)),
    "unflattened": (lambda h, m: h.unflatten(0, (2, -1)).softmax(1).reshape(h.shape), (6, 4)),
    "the last but one": (lambda h, m: h - h.mean(-2, True), (6, 4)),
    "zeros of all": (lambda h, m: m.z(h.reshape(1, -1, 4).flip(1).reshape(h.shape)), (6, 4)),
}


@pytest.mark.parametrize(("way", "shape"), MIXING.values(), ids=MIXING)
def test_branches_that_mix_samples_stay(way, shape):
    zero = Linear(4, 4)
    torch.nn.init.zeros_(zero.weight)
    x = torch.randn(shape, dtype=torch.float64)
    report = is_masked(path(way, f=torch.nn.Flatten(0), z=zero), x)
    assert not report.thinned
    assert "branch" in report.left["p"]


@pytest.mark.parametrize(
    "way",
    [
        lambda h, m: (h @ h.transpose(-2, -1)) @ h,
        lambda h, m: F.scaled_dot_product_attention(h, h, h),
    ],
    ids=["product", "attention"],
)
def test_what_mixes_samples_of_two_dimensions_alone_is_thin_of_three(way):
    model = path(way)
    assert is_masked(model, torch.randn(6, 4, dtype=torch.float64)).thinned
    rows = []
    model.n.register_forward_hook(lambda module, args, output: rows.append(len(output)))
    for shape in ((6, 4), (6, 5, 4)):
        model(torch.randn(shape, dtype=torch.float64))
    assert rows[0] == 6 > rows[1]


def test_a_look_at_a_branch_leaves_no_trace():
    """It draws nothing, counts no call, and leaves the training flags."""
    model = path(lambda h, m: m.i(h), i=Linear(4, 4))
    model.i.eval()
    keyed(model, 1, calls="count")
    state = torch.get_rng_state()
    assert thin(model).thinned
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in (model, model.n, model.i)] == [True, True, False]


def test_a_layer_called_alone_after_a_pass_is_an_ordinary_one():
    """Where all units were kept, as wide as a whole tensor."""
    model = keyed(convert(chain(0.1)).model, 0)
    thin(model)
    x = torch.randn(5, 8)
    for seed in range(8):
        keyed(model, seed)
        model(torch.randn(5, 4))
        assert torch.equal(model[3](x), F.linear(x, model[3].weight, model[3].bias))


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpoint_that_begins_between_a_site_and_its_reader(reentrant):
    """Two passes, then two backward passes: each goes by what it had kept."""
    model = convert(torch.nn.Sequential(*chain(), torch.nn.Tanh(), torch.nn.Dropout(0.5), Linear(8, 3))).model
    assert len(thin(model.double()).thinned) == 2

    inputs = torch.randn(2, 5, 4, dtype=torch.float64)

    def grads(segments):
        keyed(model, 3, calls="count")
        model.zero_grad()
        xs = [x.clone().requires_grad_() for x in inputs]
        for y in [checkpoint_sequential(model, segments, x, use_reentrant=reentrant) for x in xs]:
            y.square().sum().backward()
        return [p.grad.clone() for p in [*model.parameters(), *xs]]

    for segments in (2, 3):
        with masked():
            expected = grads(segments)
        assert all(map(torch.allclose, grads(segments), expected))


def test_groups_are_parts_of_one_whole_batch():
    model = keyed(convert(chain()).model, 1)
    thin(model, 2)
    with pytest.raises(ValueError, match=r"groups=2 are parts of a batch; input of shape \(8,\) has none"):
        model(torch.randn(4))
    set_rows(model, range(3), total=6)
    for way in (model, masked()(model)):
        with pytest.raises(RuntimeError, match="set_rows with groups=2"):
            way(torch.randn(3, 4))
