"""`thinned.torch.keys`: a pass that is computed again has its masks again."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torch_keyed_models import Attends, Block, make

import thinned
from thinned.torch import keys

KEY = thinned.Key(2**63 + 5, 11)


class Checkpointed(nn.Module):
    """Blocks that are computed again in the backward pass, or not."""

    def __init__(self, how, depth=2):
        super().__init__()
        self.blocks, self.how = nn.ModuleList(Block() for _ in range(depth)), how

    def tail(self, x):
        return F.dropout(x.tanh(), 0.4, self.training) * torch.rand_like(x)

    def forward(self, x):
        for block in self.blocks:
            x = self.run(block, x)
            x = self.run(self.tail, x)  # a function that is no module's forward
        return x

    def run(self, function, x):
        if self.how is None:
            return function(x)
        return checkpoint(function, x, **self.how)


def grads(model, backward_inside=True, x=None, **options):
    """Output and gradients of a pass at step 3."""
    x = (torch.arange(48.0).reshape(2, 3, 8) / 48).requires_grad_() if x is None else x
    model.zero_grad()
    with keys(model, KEY, step=3, **options):
        y = model(x)
        if backward_inside:
            y.square().sum().backward()
    if not backward_inside:
        torch.rand(3)  # whatever comes between
        y.square().sum().backward()
    return y.detach(), [p.grad for p in model.parameters() if p.grad is not None]


def equal(a, b):
    return torch.equal(a[0], b[0]) and all(torch.equal(g, h) for g, h in zip(a[1], b[1], strict=True))


HOW = [
    {"use_reentrant": False},
    {"use_reentrant": True},
    {"use_reentrant": False, "preserve_rng_state": False},
    {"use_reentrant": True, "preserve_rng_state": False},
]


@pytest.mark.parametrize("how", HOW, ids=str)
@pytest.mark.parametrize("inside", [True, False])
def test_what_a_checkpoint_computes_again_draws_the_same(how, inside):
    want = grads(make(Checkpointed, None))
    found = grads(make(Checkpointed, how), inside)
    assert equal(found, want)
    assert want[0].count_nonzero() < want[0].numel()


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("inner", HOW[:2], ids=str)
@pytest.mark.parametrize("outer", HOW[:2], ids=str)
def test_checkpoints_in_checkpoints(inner, outer):
    class Outer(nn.Module):
        def __init__(self, outer, inner):
            super().__init__()
            self.inner, self.how = Checkpointed(inner), outer

        def forward(self, x):
            y = self.inner(x) if self.how is None else checkpoint(self.inner, x, **self.how)
            return F.dropout(y, 0.1)

    want = grads(make(Outer, None, None))
    assert equal(grads(make(Outer, outer, inner), False), want)


def test_other_faces_of_torchs_checkpoint():
    from torch.distributed._composable import checkpoint as composed
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
    from torch.utils.checkpoint import checkpoint_sequential, create_selective_checkpoint_contexts

    def stack(how):
        torch.manual_seed(0)
        blocks = [Block() for _ in range(2)]
        if how == "composable":
            blocks = [composed(block) for block in blocks]
        if how == "wrapper":
            blocks = [checkpoint_wrapper(block) for block in blocks]
        return nn.Sequential(*blocks).train()

    class Whole(nn.Module):
        def __init__(self, how):
            super().__init__()
            self.stack, self.how = stack(how), how

        def forward(self, x):
            if self.how == "sequential":
                return checkpoint_sequential(self.stack, 2, x, use_reentrant=False)
            if self.how == "selective":
                kept = [torch.ops.aten.addmm.default, torch.ops.thinned.dropout.default]

                def contexts():
                    return create_selective_checkpoint_contexts(kept)

                return checkpoint(self.stack, x, use_reentrant=False, context_fn=contexts)
            return self.stack(x)

    names = [name for name, _ in Whole(None).named_modules()]
    for how in ("composable", "sequential", "selective"):
        want = grads(Whole(None))
        assert [name for name, _ in Whole(how).named_modules()] == names
        assert equal(grads(Whole(how), False), want), how
    x = torch.ones(2, 3, 8, requires_grad=True)
    a, b = (grads(Whole("wrapper"), inside, x) for inside in (True, False))
    assert equal(a, b)


def test_a_forward_pass_that_fails_leaves_no_trace():
    class Fails(Checkpointed):
        fails = False

        def tail(self, x):
            x = super().tail(x)
            if self.fails:
                raise ValueError
            return x

    model, x = make(Fails, HOW[0]), torch.randn(2, 3, 8)
    with keys(model, 1) as run:
        want = model(x)
        model.fails = True
        with pytest.raises(ValueError, match=r"^$"):
            model(x)
        model.fails = False
        assert run.inside == []
        assert torch.equal(model(x), want)


def test_a_backward_pass_inside_a_later_step_has_the_masks_of_its_own():
    model, x = make(Checkpointed, HOW[0]), torch.randn(2, 3, 8)
    wanted = grads(make(Checkpointed, None), x=x)
    with keys(model, KEY, step=3):
        y = model(x)
    with keys(model, KEY, step=4):
        z = model(x)
        y.square().sum().backward()
        assert torch.equal(model(x), z)
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), wanted[1], strict=True))


def test_two_backward_passes_of_one_forward():
    model, x = make(Checkpointed, HOW[0]), torch.randn(2, 3, 8, requires_grad=True)
    with keys(model, KEY):
        y = model(x).square().sum()
    (a,) = torch.autograd.grad(y, x, retain_graph=True)
    (b,) = torch.autograd.grad(y, x)
    assert torch.equal(a, b)


def test_checkpoint_is_torchs_again_afterwards():
    module = torch.utils.checkpoint
    names = ("CheckpointFunction", "_checkpoint_without_reentrant_generator", "checkpoint")
    before = [getattr(module, name) for name in names]
    with keys(Attends(), 1), keys(Attends(), 2):
        assert getattr(module, names[0]) is not before[0]
    assert [getattr(module, name) for name in names] == before
    assert not torch.nn.modules.module._has_any_global_hook()


class Again(torch.autograd.Function):
    """Draws again in its backward pass, as reversible layers do."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return F.dropout(x, 0.5)

    @staticmethod
    def backward(ctx, grad):
        return F.dropout(ctx.saved_tensors[0], 0.5) * grad


class Reversible(nn.Module):
    def forward(self, x):
        return Again.apply(x)


def test_recomputation_that_is_no_checkpoint_is_told():
    model, x = Reversible(), torch.ones(8, requires_grad=True)
    with (
        keys(model, 1),
        pytest.warns(UserWarning, match="autograd function Again draws in its forward: if it"),
    ):
        model(x)
    with keys(model, 1), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        model(x)  # nothing will be computed again
