"""torch computes convolutions in channels_last within a chain, the kernel does not; results lie as ever."""

import pytest
import torch

from thinned import _kernel
from thinned.torch import keyed, masked, thin

pytestmark = pytest.mark.filterwarnings("ignore:.* has drawn (the|one) mask")


def chain(axes, groups=1):
    torch.manual_seed(0)
    conv, drop = getattr(torch.nn, f"Conv{axes}d"), getattr(torch.nn, f"Dropout{axes}d")
    layers = [conv(3, 16, 3), torch.nn.ReLU(), drop(0.5), conv(16, 16, 1), torch.nn.GELU(), drop(0.5)]
    model = torch.nn.Sequential(*layers, conv(16, 5, 3))
    thin(model, groups=groups)
    return keyed(model, 1)


LAYOUTS = {"torch's": (torch.contiguous_format,) * 2, "input": ("last", torch.contiguous_format)}
LAYOUTS |= {"weights": (torch.contiguous_format, "last"), "both": ("last", "last")}


@pytest.mark.parametrize("layouts", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("groups", [1, 2])
def test_layouts_are_those_of_the_masked_computation(axes, groups, layouts):
    last = (torch.channels_last, torch.channels_last_3d)[axes - 2]
    of_input, of_weights = (last if one == "last" else one for one in layouts)
    model = chain(axes, groups).to(memory_format=of_weights)
    x = torch.randn(4, 3, *(7,) * axes).to(memory_format=of_input).requires_grad_()
    seen = []
    model[3].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    found = model(x)
    assert 1 < seen[0].shape[1] < 16
    ours = _kernel.convolves() and axes == 2 and groups == 1 and "last" not in layouts
    assert seen[0].is_contiguous(memory_format=torch.contiguous_format if ours else last)
    gradients = torch.autograd.grad(found.square().sum(), [x, *model.parameters()])
    with masked():
        expected = model(x)
        others = torch.autograd.grad(expected.square().sum(), [x, *model.parameters()])
    assert found.stride() == expected.stride()
    assert torch.allclose(found, expected, atol=1e-5)
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(gradients, others, strict=True))
