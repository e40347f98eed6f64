"""The short way of a thin linear map: the gradients of the long one, in every use that torch has for them."""

import pytest
import torch
from torch.autograd import forward_ad

from thinned.torch._thin import _linear, _submatrix, _whole
from thinned.torch._thin._kept import Kept

ROWS, COLUMNS = torch.tensor([0, 2, 3, 6]), torch.tensor([1, 4, 5])


@pytest.fixture(params=[False, True], ids=["matrix", "sequence"])
def given(request):
    torch.manual_seed(0)
    x = torch.randn(*((4, 5) if request.param else (4,)), 3, requires_grad=True)
    weight, bias = (torch.randn(s, requires_grad=True) for s in ((7, 6), (7,)))
    return x, weight, bias


def close(found, expected):
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(found, expected, strict=True))


def short(x, weight, bias, **options):
    assert _linear._is_short(x, weight, bias)
    return _linear.linear(x, weight, bias, ROWS, COLUMNS, 2.0, **options)


def plain(x, weight, bias):
    return torch.nn.functional.linear(x, 2 * weight[ROWS][:, COLUMNS], bias[ROWS])


def test_first_and_second_derivatives(given):
    found, expected = ([run(*given)] for run in (short, plain))
    for _ in range(3):
        assert close(found, expected)
        found, expected = (
            torch.autograd.grad(sum(one.sin().sum() for one in ones), given, create_graph=True)
            for ones in (found, expected)
        )


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (1, 2), (0, 2)])
def test_those_gradients_alone_that_are_wanted(given, wanted, sparse):
    tensors = [one.detach().requires_grad_(at in wanted) for at, one in enumerate(given)]
    asked = [tensors[at] for at in wanted]
    for run in (lambda y: y.square().sum(), lambda y: y.sum()):  # the second one's gradient has no memory
        found = torch.autograd.grad(run(short(*tensors, sparse=sparse)), asked)
        expected = torch.autograd.grad(run(plain(*tensors)), asked)
        assert [one.is_sparse for one in found] == [sparse and one is tensors[1] for one in asked]
        assert close([one.to_dense() for one in found], expected)


@pytest.mark.parametrize("sparse", [False, True])
def test_an_empty_batch_has_gradients_of_zeros(given, sparse):
    x, *weights = given
    torch.autograd.grad(short(x, *weights).square().sum(), weights)  # whose numbers are in memory since
    found = torch.autograd.grad(short(x[:0], *weights, sparse=sparse).sum(), weights)
    assert not any(one.to_dense().any() for one in found)


def test_many_gradients_at_once(given):
    grads = torch.randn(3, *plain(*given).shape)
    found, expected = (
        torch.autograd.grad(run(*given), given, grads, is_grads_batched=True) for run in (short, plain)
    )
    assert close(found, expected)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_forward_derivatives_go_the_long_way(given):
    with forward_ad.dual_level():
        dual = [forward_ad.make_dual(one.detach(), torch.ones_like(one)) for one in given]
        assert not _linear._is_short(*dual)
        found, expected = (
            forward_ad.unpack_dual(made).tangent
            for made in (_linear.linear(*dual, ROWS, COLUMNS, 2.0), plain(*dual))
        )
        assert close([found], [expected])


def test_a_backward_pass_within_autocast_keeps_its_precision(given):
    out = short(*given).square().sum()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out.backward()
    assert close([one.grad for one in given], torch.autograd.grad(plain(*given).square().sum(), given))


def test_a_weight_that_changed_since_is_an_error_where_its_values_are_needed(given):
    x, weight, bias = given
    out = short(x, weight, bias).sum()
    with torch.no_grad():
        weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.backward()
    first = short(x.detach(), weight, bias).sum()
    with torch.no_grad():
        weight.mul_(2)
    first.backward()


def test_weights_without_memory_in_order_go_the_long_way(given):
    x, weight, bias = given
    turned = weight.t().contiguous().t()
    assert not _linear._is_short(x, turned, bias)
    found = _linear.linear(x, turned, bias, ROWS, COLUMNS, 2.0)
    assert close([found], [plain(x, weight, bias)])


def test_many_rows_and_other_dtypes_go_the_long_way(given):
    x, weight, bias = given
    assert not _linear._is_short(x.expand(300, *x.shape).contiguous(), weight, bias)
    assert not _linear._is_short(*(one.double() for one in given))


@pytest.mark.parametrize("exchanged", ["same", "turned", "double"])
def test_a_weight_whose_data_was_exchanged_between_the_passes(given, exchanged):
    """Saved is the tensor, not its memory: as in torch's own linear map the gradient is by the new values."""
    x, weight, _ = given
    out = short(*given).sum()
    new = torch.randn_like(weight)
    new = {"same": new, "turned": new.t().contiguous().t(), "double": new.double()}[exchanged]
    weight.data = new.to(weight.dtype) if exchanged != "double" else new
    if exchanged == "double":
        with pytest.raises(RuntimeError, match="dtype"):
            out.backward()
        return
    out.backward()
    ones = torch.ones(*x.shape[:-1], len(ROWS))
    assert close([x.grad], [ones @ (2 * new[ROWS][:, COLUMNS])])


@pytest.mark.parametrize("thin", ["first", "second"])
@pytest.mark.parametrize("shape", [(5, 16), (5, 4), (5, 7), (12,), (2, 3, 12), (3, 0)])
def test_an_input_of_another_width_is_refused_as_torch_does(thin, shape):
    """The kernel looks at no bounds: of twice the width it wrote twice the rows."""
    columns = None if thin == "first" else COLUMNS
    weight, bias = torch.zeros(7, 8 if thin == "first" else 6), torch.zeros(7)
    with pytest.raises(RuntimeError, match=r"shapes cannot be multiplied|size mismatch"):
        _linear.linear(torch.zeros(shape), weight, bias, ROWS, columns, 2.0)


@pytest.mark.parametrize("shape", [(7,), (7, 3, 1), (7, 4), (7, 2)])
def test_a_weight_of_another_shape_is_refused_as_torch_does(shape):
    with pytest.raises(RuntimeError):
        _linear.linear(torch.zeros(4, 3), torch.zeros(shape), torch.zeros(7), ROWS, None, 2.0)


def test_a_map_without_inputs_gives_its_bias():
    weight, bias = torch.zeros(7, 0, requires_grad=True), torch.arange(7.0, requires_grad=True)
    made = _linear.linear(torch.zeros(4, 0), weight, bias, ROWS, None, 1.0)
    assert torch.equal(made, bias[ROWS].expand(4, -1))
    made.sum().backward()
    assert bias.grad.tolist() == [4.0 * (k in ROWS) for k in range(7)]


@pytest.mark.parametrize("shape", [(4, 2), (4, 5), (3, 3), (2, 2, 3)])
def test_an_input_whose_data_was_exchanged_for_another_shape_is_refused(shape):
    x, weight = torch.zeros(4, 3, requires_grad=True), torch.zeros(7, 6, requires_grad=True)
    out = _linear.linear(x, weight, None, ROWS, COLUMNS, 2.0).sum()
    x.data = torch.zeros(shape)
    with pytest.raises(RuntimeError):
        out.backward()


@pytest.mark.parametrize("layout", ["to_sparse", "to_sparse_csr", "to_mkldnn"])
@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_a_weight_of_another_layout_has_no_address(layout):
    weight = getattr(torch.zeros(7, 6), layout)()
    assert not _linear.is_plain(weight)


@pytest.mark.parametrize("width", [1, 5, 65])
def test_groups_of_another_width_are_refused(width):
    kept = Kept((torch.tensor([0, 63]), torch.tensor([1, 62])), 64, 2.0)
    with pytest.raises(RuntimeError, match="of 64 units was given"):
        _whole.taken(torch.zeros(4, width), kept)


@pytest.mark.parametrize("shape", [(5, 3), (5, 2, 3)])
def test_a_sparse_gradient_of_one_row_adds_to_a_dense_one(shape):
    """torch reads the first stride of such values, which a product's transpose has as 1."""
    part = torch.randn(*shape[1:], 1).movedim(-1, 0)
    found = torch.zeros(shape) + _submatrix.as_sparse(part, torch.tensor([2]), None, 1.0, shape)
    assert torch.equal(found[2], part[0])
    assert not found[[0, 1, 3, 4]].any()
