"""Threads that share a model: right samples for each, no dropout for others, and all put back."""

import copy
import threading

import numpy as np
import pytest
import torch
from mc import zoo
from torch import nn

import thinned
from thinned.mc.torch import active, predict

KEY = thinned.Key(5)


def together(*work):
    """Run each in a thread of its own; the results, or what was raised."""
    found = [None] * len(work)

    def run(k):
        try:
            found[k] = work[k]()
        except Exception as error:
            found[k] = error

    threads = [threading.Thread(target=run, args=(k,)) for k in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return found


def alone(work):
    (found,) = together(work)
    return found


@pytest.mark.parametrize("name", ["modules", "batch norm", "drop path"])
def test_two_predictions_of_one_model_wait_for_each_other(name):
    case = zoo.CASES[name]
    model, x = zoo.build(case)
    keys = [KEY.fold(k) for k in range(4)]

    def work(key):
        return lambda: predict(model, x, samples=5, key=key, keep=True, also=case.named).draws

    wanted = [work(key)() for key in keys]
    found = together(*map(work, keys))
    for a, b in zip(found, wanted, strict=True):
        assert np.array_equal(a, b)
    assert not any(module.training for module in model.modules())
    with torch.no_grad():
        assert torch.equal(model(x), model(x))


def test_a_plain_call_in_another_thread_is_refused_and_does_not_drop():
    model, x = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).eval(), torch.ones(2, 4)
    other = copy.deepcopy(model)
    want = model(x)
    with active(model, key=KEY) as run:
        for part in (model, model[0], model[1]):
            error = alone(lambda part=part: part(x))
            assert isinstance(error, RuntimeError)
            assert (
                "is called while thinned.mc.active has its dropout on in another thread: call a copy"
                in str(error)
            )
        assert torch.equal(alone(lambda: other(x)), want)
        assert not torch.equal(model(x), want)
        assert run.sample == 1
    assert torch.equal(alone(lambda: model(x)), want)
    assert not torch.nn.modules.module._has_any_global_hook()


def test_what_another_thread_has_for_as_long_as_it_likes_is_refused():
    model, x = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)), torch.ones(2, 4)

    def enters():
        with active(model[1], key=KEY):
            return model[1](x)

    with active(model, key=KEY):
        for work in (enters, lambda: predict(model, x, samples=2)):
            assert "is inside thinned.mc.active in another thread" in str(alone(work))
        assert not model.training
    assert model.training
    assert isinstance(alone(enters), torch.Tensor)


def test_a_model_that_calls_its_parts_in_other_threads_is_refused():
    class Spreads(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.ModuleList(nn.Dropout(0.5) for _ in range(2))

        def forward(self, x):
            found = together(*[lambda part=part: part(x) for part in self.parts])
            for one in found:
                if isinstance(one, Exception):
                    raise one
            return sum(found)

    with pytest.raises(
        RuntimeError, match=r"is called while thinned\.mc\.predict has its dropout on in another"
    ):
        predict(Spreads(), torch.ones(2, 4), samples=2)


# Two models in one thread.


def test_an_evaluating_teacher_is_left_alone():
    torch.manual_seed(0)
    student, teacher = (nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).eval() for _ in range(2))
    x = torch.ones(3, 4)
    want = teacher(x)

    class Distils(nn.Module):
        def __init__(self):
            super().__init__()
            self.student, self.teacher = student, [teacher]

        def forward(self, x):
            assert torch.equal(self.teacher[0](x), want)
            return self.student(x)

    with active(student, key=KEY) as run:
        assert torch.equal(teacher(x), want)
        assert run.sites == []
        a, b = student(x), student(x)
    assert not torch.equal(a, b)
    with active(Distils(), key=KEY) as run:
        run.model(x)
        assert [site.name for site in run.sites] == ["student.1"]


def test_contexts_in_contexts_have_the_masks_that_each_has_alone():
    torch.manual_seed(0)
    student, teacher = (nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).eval() for _ in range(2))
    x = torch.ones(3, 4)
    with active(student, key=KEY):
        of_student = [student(x) for _ in range(3)]
    with active(teacher, key=KEY.fold(1)):
        of_teacher = [teacher(x) for _ in range(2)]
    with active(student, key=KEY) as outer:
        assert torch.equal(student(x), of_student[0])
        with active(teacher, key=KEY.fold(1)) as inner:
            for k in range(2):
                assert torch.equal(teacher(x), of_teacher[k])
                assert torch.equal(student(x), of_student[1 + k])
            assert (outer.sample, inner.sample) == (3, 2)
    assert not any(module.training for module in (*student.modules(), *teacher.modules()))


def test_a_part_in_a_context_of_its_own_draws_once():
    model, x = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5)).eval(), torch.ones(3, 40)
    with active(model[1], key=KEY):
        want = model(x)
    with active(model, key=KEY.fold(9)) as outer, active(model[1], key=KEY) as inner:
        assert torch.equal(model[1](x), want)
        model(x)
    assert [site.name for site in outer.sites] == ["0"]
    assert len(inner.sites) == 1
