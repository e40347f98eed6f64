"""`thinned.torch.keys`: whose draws they are, and what no key reaches."""

import random
import threading
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch_keyed_models import Attends, Block, X, make

from thinned.torch import keys


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
        lambda x: torch.rand(8, out=torch.empty(0)),
        lambda x: torch.randn(8, out=torch.empty(8, dtype=torch.float64)).float(),
        lambda x: torch.randn(8, dtype=torch.complex64).imag,
        lambda x: torch.empty(8, dtype=torch.complex64).normal_().imag,
        lambda x: torch.bernoulli(x, out=torch.empty(0)),
        lambda x: torch.rand(8, requires_grad=True).exp(),
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


def test_numbers_go_where_they_are_asked_for():
    class Fills(nn.Module):
        def forward(self, x):
            out = torch.zeros(5)
            assert torch.rand(5, out=out) is out
            again = torch.rand(3, requires_grad=True)
            assert again.is_leaf
            assert again.requires_grad
            chances = torch.zeros(5)
            assert torch.bernoulli(out, out=chances) is chances
            return out

    model = Fills()
    with keys(model, 1):
        assert bool(model(X).all())


def test_wrong_arguments_are_named():
    for step, message in ((-1, r"step must be in \[0, 2\^60\), got -1"), (2**60, "step must be in")):
        with pytest.raises(ValueError, match=message), keys(Attends(), 1, step=step):
            pass
    with pytest.raises(TypeError, match="step must be an integer, got"), keys(Attends(), 1, step=1.5):
        pass
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got int"), keys(1, 1):
        pass
