"""`thinned.torch.keys`: in training any model's masks are a function of seed, name and step."""

import copy
import random
import threading
import warnings

import numpy as np
import pytest
import torch
from mc import zoo
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import thinned
from thinned.torch import keyed, keys, set_step
from thinned.torch import nn as tn

KEY = thinned.Key(2**63 + 5, 11)
X = torch.ones(4, 8)


class Attends(nn.Module):
    """As nanoGPT's: the probability is a number, and 0 in evaluation."""

    def __init__(self, p=0.3):
        super().__init__()
        self.qkv, self.out, self.p, self.drop = nn.Linear(8, 24), nn.Linear(8, 8), p, nn.Dropout(p)

    def forward(self, x):
        q, k, v = (part.unflatten(-1, (2, 4)).transpose(-2, -3) for part in self.qkv(x).chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=self.p if self.training else 0)
        return self.drop(self.out(y.transpose(-2, -3).flatten(-2)))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn, self.lin = Attends(), nn.Linear(8, 8)

    def forward(self, x):
        x = x + self.attn(x)
        return x + F.dropout(self.lin(x), 0.2, self.training)


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


def make(kind, *args, **options):
    torch.manual_seed(0)
    return kind(*args, **options).train()


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


# The rule.


def test_a_mask_is_that_of_seed_name_and_step():
    model = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Identity(), nn.Dropout(0.5)))
    with keys(model, 7, step=3):
        y = model[1](X)
    want = thinned.torch.functional.dropout(X, 0.5, True, key=thinned.Key(7).fold("1.1").fold(3))
    assert torch.equal(y, want)


def test_masks_are_those_of_converted_and_keyed_layers():
    model = nn.Sequential(
        nn.Linear(8, 8), nn.Dropout(0.5), nn.Sequential(nn.AlphaDropout(0.2), nn.FeatureAlphaDropout(0.3))
    )
    with keys(model, 7, step=5):
        theirs = model(X.unsqueeze(-1).transpose(1, 2)), model(X.unsqueeze(1))
    other = copy.deepcopy(model)
    thinned.torch.convert(other)
    set_step(keyed(other, 7), 5)
    ours = other(X.unsqueeze(-1).transpose(1, 2)), other(X.unsqueeze(1))
    assert all(torch.equal(a, b) for a, b in zip(theirs, ours, strict=True))


def test_further_draws_of_a_module_are_folded_by_their_number():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x):
            return self.drop(x), self.drop(x), F.dropout(x), F.dropout(x)

    model = Twice()
    with keys(model, 7, step=2):
        found = model(X)
    root = thinned.Key(7)
    drop, own = root.fold("drop").fold(2), root.fold("").fold(2)
    for y, key in zip(found, (drop, drop.fold(1), own, own.fold(1)), strict=True):
        assert torch.equal(y, thinned.torch.functional.dropout(X, 0.5, True, key=key))


@pytest.mark.parametrize("name", zoo.CASES)
def test_any_model_is_a_function_of_seed_name_and_step(name):
    model, x = zoo.build(zoo.CASES[name])
    model.train()
    torch.manual_seed(1)
    generator = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with keys(model, 1, step=3) as run, torch.no_grad():
            a = model(x)
            sites = run.sites
            b = model(x)
            steps = []
            for run.step in range(20):  # one decision at p = 0.3 is the same in all with 8e-4
                steps.append(model(x))
        with keys(copy.deepcopy(model), thinned.Key(1), step=torch.tensor(3)) as run, torch.no_grad():
            resumed = run.model(x)
    stateful = name == "batch norm"  # of whose statistics the output is none in training
    assert torch.equal(a, b) or stateful
    assert torch.equal(a, resumed) or stateful
    assert any(not torch.equal(a, c) for c in steps)
    assert torch.equal(a, steps[3]) or stateful
    if not zoo.CASES[name].keyed:  # a recurrent layer of ours has one key for its parts
        assert [float(site.p) for site in sites] == pytest.approx(zoo.CASES[name].rates, abs=1e-6)
    assert torch.equal(torch.get_rng_state(), generator)


@pytest.mark.parametrize("name", ["encoder", "attention", "lstm", "drop path", "functional", "alpha"])
def test_what_evaluates_does_not_drop(name):
    model, x = zoo.build(zoo.CASES[name])
    with torch.no_grad():
        want = model(x)
        with keys(model, 1) as run:
            torch.testing.assert_close(model(x), want)
    assert run.sites == []


def test_keyed_layers_keep_their_keys_and_others_of_ours_get_one():
    torch.manual_seed(0)
    layer = tn.LSTM(8, 8, 2, dropout=0.3, weight_p=0.2, input_p=0.1)
    x = torch.ones(3, 2, 8)
    with keys(layer, 7, step=2) as run:
        unkeyed = layer(x)[0]
    assert run.sites
    set_step(keyed(layer, 7), 2)
    with keys(layer, 1, step=5) as run:
        assert torch.equal(layer(x)[0], unkeyed)
    assert run.sites == []
    assert torch.equal(layer(x)[0], unkeyed)


# Recomputation.

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


# Whose draws they are.


def test_a_teacher_is_left_alone_and_has_a_context_of_its_own():
    student, teacher = make(Block), make(Block)
    x = torch.randn(2, 3, 8)
    with keys(teacher, 5, step=1):
        want = teacher(x)
    with keys(student, 4, step=1):
        alone = student(x)
    for first, second in (((student, 4), (teacher, 5)), ((teacher, 5), (student, 4))):
        with keys(*first, step=1), keys(*second, step=1):
            assert torch.equal(teacher(x), want)
            assert torch.equal(student(x), alone)
    with keys(student, 4, step=1):
        torch.manual_seed(3)
        a = teacher(x)
    torch.manual_seed(3)
    assert torch.equal(a, teacher(x))


def test_a_module_that_the_model_does_not_own_draws_by_the_callers_name():
    class Holds(nn.Module):
        def __init__(self):
            super().__init__()
            self.others = [nn.Dropout(0.5), nn.Dropout(0.5).eval()]

        def forward(self, x):
            return self.others[0](self.others[1](x))

    model = Holds()
    with keys(model, 1) as run:
        assert torch.equal(model(X), model(X))
    assert [site.name for site in run.sites] == [""]


def test_threads_have_contexts_of_their_own():
    model, x = make(Block), torch.randn(2, 3, 8)
    wanted = []
    for step in range(4):
        with keys(model, 1, step=step):
            wanted.append(model(x))
    found, wait = [None] * 4, threading.Barrier(4)

    def work(step):
        with keys(model, 1, step=step):
            wait.wait()
            found[step] = [model(x) for _ in range(5)]
            wait.wait()

    threads = [threading.Thread(target=work, args=(step,)) for step in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(y, want) for ys, want in zip(found, wanted, strict=True) for y in ys)


# What no key reaches.


class Unkeyed(nn.Module):
    def __init__(self, draw):
        super().__init__()
        self.inner, self.draw = nn.Linear(8, 8), draw

    def forward(self, x):
        return self.inner(x) * self.draw(x)


@pytest.mark.parametrize(
    ("draw", "which"),
    [
        (lambda x: random.random(), "Python's random"),
        (lambda x: float(np.random.rand()), "numpy.random"),  # noqa: NPY002
        (lambda x: torch.ops.aten.rand_like(x), "torch's generator"),
    ],
)
def test_what_no_key_reaches_is_named(draw, which):
    model = nn.Sequential(nn.Dropout(0.1), Unkeyed(draw))
    for _ in range(2):
        with keys(model, 1) as run, pytest.warns(UserWarning, match=f"no key reaches.* by {which}"):
            model(X)
        assert len(run.unkeyed) == 1
    model = nn.Sequential(nn.Dropout(0.1), Unkeyed(draw))
    with keys(model, 1) as run, pytest.warns(UserWarning, match="1 \\(Unkeyed\\) by"):
        model(X)
    assert run.unkeyed == [f"1 (Unkeyed) by {which}"]


@pytest.mark.parametrize(
    "draw",
    [
        lambda x: torch.multinomial(x.abs() + 1, 1),
        lambda x: F.gumbel_softmax(x),
        lambda x: torch.empty_like(x).exponential_(),
        lambda x: F.rrelu(x - 2, training=True),
        lambda x: torch.randint(0, 5, (8,)),
        lambda x: torch.randperm(8),
        lambda x: torch.normal(x, 1.0),
        lambda x: torch.poisson(x + 1),
        lambda x: torch.distributions.Bernoulli(0.5).sample((8,)),
        lambda x: torch.distributions.Gamma(x + 1, 1.0).sample(),
        lambda x: torch.rand([]),
        lambda x: torch.rand(8, generator=torch.Generator().manual_seed(random.getrandbits(8))),
    ],
)
def test_functions_without_a_rule_draw_torchs_numbers_by_the_key(draw):
    model, x = Unkeyed(draw), torch.linspace(0, 1, 32).reshape(4, 8)
    state = random.getstate()
    generator = torch.get_rng_state()
    with warnings.catch_warnings(), keys(model, 1) as run:
        warnings.filterwarnings("ignore", "numbers were drawn")  # by random, which the last one asks for
        a, b = model(x), model(x)
        run.step = 1
        c = model(x)
    random.setstate(state)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(torch.get_rng_state(), generator)


def test_wrong_arguments_are_named():
    for step, message in ((-1, r"step must be in \[0, 2\^60\), got -1"), (2**60, "step must be in")):
        with pytest.raises(ValueError, match=message), keys(Attends(), 1, step=step):
            pass
    with pytest.raises(TypeError, match="step must be an integer, got"), keys(Attends(), 1, step=1.5):
        pass
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got int"), keys(1, 1):
        pass
