"""Forward and backward pass have one mask, whatever is computed again: partitioners, budgets, policies."""

import contextlib
import functools

import pytest
import torch
from torch._functorch import config
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from thinned.torch import keyed, nn

LAYERS = [nn.Dropout(0.5), nn.AlphaDropout(0.5), nn.DropoutAdd(0.5), nn.GaussianDropout(0.5)]


class Two(torch.nn.Module):
    """Two sites between functions whose derivatives need their outputs, and not enough to save for all."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(8, 32))
        self.first, self.second = nn.Dropout(0.5), nn.Dropout2d(0.5)

    def forward(self, x):
        inner = self.first((self.weight * x.sum()).exp().cos().exp())
        outer = self.second(inner.sin().cos().view(2, 4, 8, 4)).view(8, 32)
        return inner, outer, (outer + inner.detach()).sin()


def agree(call, model):
    """Whether the gradient is dropped where both masks of the forward pass are."""
    torch.manual_seed(0)  # of eight channels all may be dropped otherwise
    inner, outer, y = call(torch.full((8, 32), 1e-3))
    (grad,) = torch.autograd.grad(y.sum(), model.weight)
    kept = (inner != 0) & (outer != 0)
    assert 0.1 < kept.float().mean() < 0.5
    return torch.equal(grad != 0, kept)


@pytest.mark.covering(strength=1)  # what is saved is chosen by budget, whoever made the key
@pytest.mark.parametrize("key", [None, 1], ids=["drawn", "keyed"])
# All, some and none: what lies between chooses among the same.
@pytest.mark.parametrize(
    "budget", [0.0, 0.3, 1.0, *(pytest.param(b, marks=pytest.mark.full) for b in (0.01, 0.7))]
)
def test_any_budget_of_memory(budget, key):
    torch._dynamo.reset()
    model = keyed(Two(), key)
    with config.patch(activation_memory_budget=budget):
        assert agree(torch.compile(model, backend="aot_eager", fullgraph=True), model)


@pytest.mark.parametrize(
    "settings",
    [
        {"aggressive_recomputation": True},
        {"ban_recompute_not_in_allowlist": False},
        {"functionalize_rng_ops": True} if torch.cuda.is_available() else {"recompute_views": True},
        {"ban_recompute_used_far_apart": False, "ban_recompute_long_fusible_chains": False},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_any_setting_of_the_partitioner(settings):
    torch._dynamo.reset()
    model = Two()
    with config.patch(**settings):
        assert agree(torch.compile(model, backend="aot_eager", fullgraph=True), model)


POLICIES = {
    "save-all": lambda _context, _operator, *_args, **_kwargs: CheckpointPolicy.MUST_SAVE,
    "recompute-all": lambda _context, _operator, *_args, **_kwargs: CheckpointPolicy.MUST_RECOMPUTE,
    "save-draws": lambda _context, operator, *_args, **_kwargs: (
        CheckpointPolicy.MUST_SAVE
        if operator is torch.ops.thinned.draw_key.default
        else CheckpointPolicy.PREFER_RECOMPUTE
    ),
    "recompute-draws": lambda _context, operator, *_args, **_kwargs: (
        CheckpointPolicy.MUST_RECOMPUTE
        if operator is torch.ops.thinned.draw_key.default
        else CheckpointPolicy.PREFER_SAVE
    ),
}


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("policy", POLICIES)
def test_any_policy_of_a_selective_checkpoint(policy, compiled):
    torch._dynamo.reset()
    model = Two()
    contexts = functools.partial(create_selective_checkpoint_contexts, POLICIES[policy])

    def call(x):
        return checkpoint(model, x, use_reentrant=False, context_fn=contexts)

    assert agree(torch.compile(call, backend="aot_eager") if compiled else call, model)


def test_a_budget_of_a_region():
    region = getattr(torch.autograd.graph, "region_activation_memory_budget", contextlib.nullcontext)
    if region is contextlib.nullcontext:
        pytest.skip("this torch has no region_activation_memory_budget")
    torch._dynamo.reset()
    model = Two()

    def call(x):
        with region(0.0):
            return model(x)

    assert agree(torch.compile(call, backend="aot_eager", fullgraph=True), model)
