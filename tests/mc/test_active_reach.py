"""`active`: draws that are no layers, classes without a source, and what is computed again."""

import pytest
import torch
import torch.utils.checkpoint

import thinned
from thinned.mc.torch import active, sites


def test_random_numbers_of_a_forward_pass_are_keyed():
    class Noisy(torch.nn.Module):
        def forward(self, x):
            a = torch.rand(1000) + torch.empty(1000).uniform_(2, 4) + torch.rand_like(x)
            b = torch.randn(1000) + torch.empty(1000).normal_(5, 2) + torch.randn_like(x)
            return torch.stack([a, b, torch.bernoulli(torch.full((1000,), 0.3))])

    model, x = Noisy(), torch.zeros(1000)
    state = torch.get_rng_state()
    with active(model, key=thinned.Key(3)) as run:
        first, second = model(x), model(x)
        run.sample = 0
        assert torch.equal(model(x), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(first, second)
    # Means 4, 5 and 0.3 of 1,000 numbers with variances ½, 6 and 0.21: |z| < 5.
    error = torch.sqrt(torch.tensor([0.5, 6.0, 0.21]) / 1000)
    assert ((first.mean(1) - torch.tensor([4.0, 5.0, 0.3])) / error).abs().max() < 5
    assert first[0].min() >= 2
    assert first[0].max() < 6


SOURCE = """
import torch
from torch.nn import functional as F
from torch.nn.functional import dropout as drops

class Guarded(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.chance = 0.5
    def forward(self, x):
        return {} if self.training else x

class Innocent(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.dropout = torch.nn.Dropout(0.5)
    def forward(self, x):
        return self.dropout(x) * (2 if self.training else 1)
"""
CALLS = [
    "F.dropout(x, self.chance)",
    "drops(x, self.chance)",
    "torch.nn.functional.dropout2d(x[None], self.chance)[0]",
    "[F.alpha_dropout(y, self.chance) for y in [x]][0]",
    "F.scaled_dot_product_attention(x[None], x[None], x[None], dropout_p=self.chance)[0]",
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", ["__main__", "somewhere"])
def test_classes_without_a_source_have_their_sites(call, name):
    names = {"__name__": name}
    exec(SOURCE.format(call), names)
    model, x = names["Guarded"]().eval(), torch.ones(3, 4)
    (site,) = sites(model, x)
    assert site.p == 0.5
    with active(names["Innocent"]().eval()) as run:  # an attribute of that name is no such function
        assert set(run.model(x).unique().tolist()) <= {0.0, 2.0}


def test_a_mask_of_what_is_dropped_has_the_rate_at_which_it_drops():
    """As timm's DropBlock2d, which draws the seeds of blocks."""

    class DropBlock2d(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.drop_prob = 0.1

        def forward(self, x):
            if not self.training:
                return x
            return x * (1 - torch.empty_like(x).bernoulli_(0.025))

    (site,) = sites(DropBlock2d().eval(), torch.ones(2, 3, 4, 4))
    assert site.p == pytest.approx(0.025)


@pytest.mark.parametrize("reentrant", [True, False])
def test_what_a_checkpoint_computes_again_draws_the_same(reentrant):
    class Checkpointed(torch.nn.Module):
        def __init__(self, use):
            super().__init__()
            self.inner = torch.nn.Sequential(
                torch.nn.Linear(4, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 4)
            )
            self.use = use

        def forward(self, x):
            if not self.use:
                return self.inner(self.inner(x))
            for _ in range(2):
                x = torch.utils.checkpoint.checkpoint(self.inner, x, use_reentrant=reentrant)
            return x

    grads = []
    for use in (True, False):
        torch.manual_seed(0)
        model, x = Checkpointed(use).eval(), torch.ones(3, 4, requires_grad=True)
        with active(model, key=thinned.Key(1)):
            y = model(x)
            y.square().sum().backward()
        grads.append([y, x.grad, *(p.grad for p in model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_a_backward_pass_that_computes_again_outside_is_refused():
    model = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Tanh()).eval()
    with active(model, key=thinned.Key(1)):
        y = torch.utils.checkpoint.checkpoint(model, torch.ones(9, requires_grad=True), use_reentrant=False)
        z = (y * y).sum()
    with pytest.raises(RuntimeError, match=r"computed again after thinned\.mc\.active was left"):
        z.backward()
