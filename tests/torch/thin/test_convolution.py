"""The kernel's convolution has torch's values and gradients for any shape; torch computes all others."""

import contextlib

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.autograd import forward_ad
from torch.nn import functional as F

from thinned import _kernel
from thinned.torch._thin import _convolution
from thinned.torch._thin._kept import Kept

LAYERS = {1: torch.nn.Conv1d, 2: torch.nn.Conv2d, 3: torch.nn.Conv3d}
FUNCTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
SCALE = 2.0


@contextlib.contextmanager
def path_of(name):
    before = _kernel.path()
    _kernel.select(name)
    try:
        yield
    finally:
        _kernel.select(before)


def paths():
    found = []
    for name in _kernel.paths()[:-1]:
        with path_of(name):
            found += [name] if _kernel.convolves() else []
    return found


PATHS = paths()
served = pytest.mark.skipif(not PATHS, reason="this machine has neither AVX-512 nor AVX2")


def some(size, count, seed):
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    return order[:count].sort().values


class Case:
    """A layer beside two sites, its input, and the gradient of its output."""

    def __init__(
        self, axes=2, batch=2, shape=(9, 10), channels=(5, 8), made=(4, 7), taps=(3, 3), seed=0, **options
    ):
        torch.manual_seed(seed)
        self.conv = LAYERS[axes](channels[1], made[1], taps[:axes], **options)
        self.inward = Kept((some(channels[1], channels[0], seed),), channels[1], SCALE)
        self.out = Kept((some(made[1], made[0], seed + 1),), made[1], SCALE)
        self.x = torch.randn(batch, channels[0], *shape[:axes], requires_grad=True)

    @property
    def given(self):
        return [self.x, *self.conv.parameters()]

    def found(self):
        return _convolution.convolution(self.conv, self.x, self.out, self.inward)

    def expected(self, dtype=torch.float64):
        conv, (rows,), (columns,) = self.conv, self.out.parts, self.inward.parts
        weight = SCALE * conv.weight.to(dtype)[rows][:, columns]
        bias = None if conv.bias is None else conv.bias.to(dtype)[rows]
        how = conv.stride, conv.padding, conv.dilation
        return FUNCTIONS[self.x.dim() - 2](self.x.to(dtype), weight, bias, *how)


def is_close(found, expected):
    found, expected = found.detach(), expected.detach()
    bound = 1e-5 * (1 + float(expected.abs().max())) if expected.numel() else 0
    return found.shape == expected.shape and float((found - expected).abs().max()) <= bound


sizes = st.integers(1, 20)
few = st.integers(1, 3)
pairs = st.tuples(few, few)


@served
@settings(max_examples=60, deadline=None)
@given(
    path=st.sampled_from(PATHS or [""]),
    axes=st.sampled_from([1, 2, 2, 2]),
    batch=few,
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    channels=st.tuples(sizes, sizes).map(sorted),
    made=st.tuples(sizes, sizes).map(sorted),
    taps=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=pairs,
    padding=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    dilation=pairs,
    bias=st.booleans(),
)
def test_any_shape(path, axes, batch, shape, channels, made, taps, stride, padding, dilation, bias):
    padded = [n + 2 * p - d * (k - 1) for n, p, d, k in zip(shape, padding, dilation, taps, strict=True)]
    assume(min(padded[:axes]) > 0)
    options = {"stride": stride[:axes], "padding": padding[:axes], "dilation": dilation[:axes], "bias": bias}
    case = Case(axes, batch, shape, channels, made, taps, **options)
    with path_of(path):
        found = case.found()
        grad = torch.randn_like(found)
        gradients = torch.autograd.grad(found, case.given, grad)
    expected = case.expected()
    assert is_close(found, expected)
    others = torch.autograd.grad(expected, case.given, grad.double())
    assert all(is_close(*both) for both in zip(gradients, others, strict=True))


# Bands of rows, groups of units, and depths in more than one part.
LARGE = {
    "bands": {"shape": (70, 65), "channels": (50, 50), "made": (7, 7), "batch": 2},
    "bands and a stride": {"shape": (90, 131), "channels": (50, 50), "made": (7, 9), "stride": 2, "batch": 1},
    "tall taps": {"shape": (300, 20), "channels": (60, 60), "taps": (9, 3), "padding": (4, 0), "batch": 1},
    "many channels": {"shape": (8, 7), "channels": (130, 150), "made": (67, 70), "padding": 1},
    "one tap": {"shape": (6, 7), "channels": (130, 150), "made": (20, 30), "taps": (1, 1), "batch": 90},
    "strides beyond taps": {"shape": (4000, 70), "stride": (1000, 7), "dilation": 2, "padding": 2},
    "strides beyond the image": {"stride": 1 << 20, "batch": 40},
    "one axis": {"axes": 1, "shape": (3000,), "channels": (40, 41), "made": (5, 9), "padding": 1},
}


@served
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("how", LARGE.values(), ids=LARGE)
def test_large_shapes_and_any_number_of_threads(how, path):
    case, threads = Case(**how), torch.get_num_threads()
    made = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            with path_of(path):
                found = case.found()
                grad = torch.linspace(-1, 1, found.numel()).reshape(found.shape)
                made.append([found, *torch.autograd.grad(found, case.given, grad)])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for more in made[1:] for a, b in zip(made[0], more, strict=True))
    expected = case.expected()
    others = [expected, *torch.autograd.grad(expected, case.given, grad.double())]
    assert all(is_close(*both) for both in zip(made[0], others, strict=True))


@served
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("shape", [(6, 5), (4, 16), (5, 9)])
def test_what_is_not_finite_stays_where_it_is_read(shape, path):
    case = Case(shape=shape, padding=1)
    with torch.no_grad():
        case.x[1, 2, 3, 0] = float("nan")  # no left tap reads the first column, where zeros stand before it
    with path_of(path):
        found = case.found()
        gradients = torch.autograd.grad(found.sum(), case.given)
    expected = case.expected()
    others = torch.autograd.grad(expected.sum(), case.given)
    assert torch.equal(found.isnan(), expected.isnan())
    assert 0 < int(gradients[1].isnan().sum()) < gradients[1][:, case.inward.parts[0][2]].numel()
    for a, b in zip(gradients, others, strict=True):
        assert torch.equal(a.isnan(), b.isnan())


@served
@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (1, 2), (0, 2)])
def test_those_gradients_alone_that_are_wanted(wanted):
    case = Case(padding=1)
    for at, one in enumerate(case.given):
        one.requires_grad_(at in wanted)
    asked = [case.given[at] for at in wanted]
    for run in (lambda y: y.square().sum(), lambda y: y.sum()):  # the second one's gradient has no memory
        found = torch.autograd.grad(run(case.found()), asked)
        expected = torch.autograd.grad(run(case.expected()), asked)
        assert all(is_close(*both) for both in zip(found, expected, strict=True))


@served
@pytest.mark.parametrize("axes", [1, 2])
def test_second_derivatives_and_many_gradients_at_once(axes):
    case = Case(axes, padding=1, stride=2)
    made = []
    for run in (case.found, case.expected):
        first = torch.autograd.grad(run().pow(3).sum(), case.given, create_graph=True)
        made.append(torch.autograd.grad(sum(one.square().sum() for one in first), case.given))
    assert all(is_close(a, b) for a, b in zip(*made, strict=True))
    grads = torch.randn(3, *case.expected().shape)
    found, expected = (
        torch.autograd.grad(run(), case.given, grads.to(run().dtype), is_grads_batched=True)
        for run in (case.found, case.expected)
    )
    assert all(is_close(*both) for both in zip(found, expected, strict=True))


@served
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("axes", [1, 2])
def test_padding_by_name(axes, padding):
    case = Case(axes, padding=padding, taps=(5, 3), dilation=2)
    assert is_close(case.found(), case.expected())


@served
@pytest.mark.parametrize(
    "changed", [torch.Tensor.double, lambda x: x.mT.contiguous().mT], ids=["type", "layout"]
)
def test_hooks_that_save_another_tensor(changed):
    case = Case(padding=1)
    with torch.autograd.graph.saved_tensors_hooks(changed, torch.Tensor.float):
        out = case.found()
    found = torch.autograd.grad(out.square().sum(), case.given)
    expected = torch.autograd.grad(case.expected().square().sum(), case.given)
    assert all(is_close(*both) for both in zip(found, expected, strict=True))


@served
def test_a_weight_that_changed_since_is_an_error():
    case = Case()
    out = case.found().sum()
    with torch.no_grad():
        case.conv.weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.backward()


@served
def test_sites_of_another_size_are_an_error():
    case = Case()
    case.conv.weight = torch.nn.Parameter(torch.randn(3, 8, 3, 3))
    case.conv.bias = None
    with pytest.raises(RuntimeError, match="beside a thin site that decides for 7"):
        case.found()


def last(case):
    case.x = case.x.detach().to(memory_format=torch.channels_last)


def of_groups(case):
    case.out = Kept((case.out.parts[0],) * 2, case.out.size, SCALE)


def nothing_kept(case):
    case.out = Kept((torch.empty(0, dtype=torch.int64),), case.out.size, SCALE)


def unbatched(case):
    case.x = case.x[0]


def double(case):
    case.conv.double()
    case.x = case.x.detach().double()


def double_weight(case):
    case.conv.double()


def weights_last(case):
    case.conv.to(memory_format=torch.channels_last)


def without_samples(case):
    case.x = case.x[:0]


def set_since(**attributes):
    return lambda case: vars(case.conv).update(attributes)


OTHERS = {
    "one number for all axes": (set_since(stride=2, dilation=1, padding=1), {}),
    "a tuple of one number": (set_since(padding=(1,)), {}),
    "fewer than no zeros": (set_since(padding=(-1, 0)), {}),
    "a stride of 0": (set_since(stride=(1, 0)), {}),
    "stride and padding that torch refuses": (set_since(stride=(2, 2)), {"padding": "same"}),
    "channels_last": (last, {}),
    "groups": (of_groups, {}),
    "nothing kept": (nothing_kept, {}),
    "no batch": (unbatched, {}),
    "float64": (double, {}),
    "two types": (double_weight, {}),
    "weights in channels_last": (weights_last, {}),
    "no samples": (without_samples, {}),
    "reflected": (lambda case: None, {"padding": 1, "padding_mode": "reflect"}),
    "more zeros on one side": (lambda case: None, {"padding": "same", "taps": (2, 3)}),
    "three axes": (lambda case: None, {"axes": 3, "shape": (4, 5, 6), "taps": (3, 3, 3)}),
    "taps outside": (lambda case: None, {"shape": (2, 9)}),
}


@pytest.mark.parametrize(("change", "options"), OTHERS.values(), ids=OTHERS)
def test_torch_computes_what_is_not_served(change, options):
    case = Case(**options)
    change(case)
    assert case.found() is None


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_torch_computes_where_somebody_looks_on():
    case = Case()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert case.found() is None
    with forward_ad.dual_level():
        case.x = forward_ad.make_dual(case.x.detach(), torch.ones_like(case.x))
        assert case.found() is None
    case = Case()
    seen = []
    torch.func.vmap(
        lambda x: seen.append(_convolution.convolution(case.conv, x, case.out, case.inward)) or x
    )(case.x.detach()[None])
    assert seen == [None]
