"""Ways between the projections and a site of heads that nobody planned: equal to masks, or said."""

import pytest
import torch
from thin_families import close, step
from torch.nn import Linear
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from thinned.torch import keyed, nn, thin

pytestmark = pytest.mark.filterwarnings("ignore:.* has drawn (the|one) mask")
attend = F.scaled_dot_product_attention


class Heads(torch.nn.Module):
    """Attention of four heads without biases, so that tokens of zeros have zeros."""

    def __init__(self, way):
        super().__init__()
        self.qkv, self.out, self.heads, self.way = Linear(8, 24, False), Linear(8, 8), nn.DropHead(0.5), way

    def forward(self, x):
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, 4, 2).permute(2, 0, 3, 1, 4).unbind(0)
        return self.out(self.heads(self.way(q, k, v)).transpose(1, 2).reshape(batch, tokens, width))


ELEMENTS = {
    "!=": lambda q, k, v: attend(q, k, v + 1) * (q != 0),
    "==": lambda q, k, v: attend(q, k, v).masked_fill((q == 0) & ~(k > 0), 1.0),
    "number / tensor": lambda q, k, v: attend(q, k, 1 / (3 + v)),
    "number ** tensor": lambda q, k, v: attend(q, k, 2**v),
    "abs": lambda q, k, v: attend(q, k, abs(v)),
}
BY_NAME = {
    "transpose": lambda q, k, v: (q @ k.transpose(dim0=2, dim1=3)).softmax(-1) @ v,
    "permute": lambda q, k, v: (q @ k.permute(dims=(0, 1, 3, 2))).softmax(-1) @ v,
    "softmax": lambda q, k, v: torch.softmax(input=q @ k.mT, dim=-1) @ v,
    "mul": lambda q, k, v: attend(q, k, torch.mul(input=v, other=3)),
}


@pytest.mark.parametrize("way", [*ELEMENTS.values(), *BY_NAME.values()], ids=[*ELEMENTS, *BY_NAME])
def test_python_operators_and_arguments_by_name_are_computed_of_kept_heads(way):
    torch.manual_seed(1)
    model = Heads(way).double()
    assert "Linear(8, 24) before" in thin(model).thinned["heads"]
    keyed(model, 3)
    x = torch.randn(4, 5, 8, dtype=torch.float64)
    x[:, 2] = 0
    assert close(step(model, x), step(model, x, masks=True))


OTHERS = {
    "a name that is not known": lambda q, k, v: attend(q, k, torch.cat(v.split(split_size=1, dim=-1), -1)),
    "what is no function": lambda q, k, v: attend(q, k, v.data + v),
    "another operator": lambda q, k, v: attend(q, k, v + v // 1),
}


@pytest.mark.parametrize("way", OTHERS.values(), ids=OTHERS)
def test_what_kept_heads_do_not_know_leaves_all_heads_to_be_attended(way):
    model = Heads(way).double()
    assert "all heads are attended" in thin(model).thinned["heads"]


class Again(Heads):
    """Attention of which a part stands in a checkpoint of the kind that sees tensors alone."""

    def __init__(self, part):
        super().__init__(attend)
        self.part = part

    def forward(self, x):
        def run(part, function, *inputs):
            return (
                checkpoint(function, *inputs, use_reentrant=True) if part == self.part else function(*inputs)
            )

        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, 4, 2).permute(2, 0, 3, 1, 4).unbind(0)
        y = run("site", lambda y: self.heads(y).transpose(1, 2), run("attention", self.way, q, k, v))
        return run("map", self.out, y.reshape(batch, tokens, width))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("part", ["attention", "site", "map"])
def test_a_function_that_sees_tensors_alone_loses_no_gradient_of_heads(part):
    torch.manual_seed(1)
    x = torch.randn(4, 5, 8, dtype=torch.float64)
    model = Again(part).double()
    assert "torch.autograd.Function" in str(thin(model))
    keyed(model, 3)
    assert close(step(model, x), step(model, x, masks=True))
    model = Again(None).double()
    thin(model)
    model.part = part
    with pytest.raises(RuntimeError, match=r"torch\.autograd\.Function.*unthin\(model\)"):
        step(model, x)
