"""`Steps` and `set_rank`: each batch of a run has a number, and each process its rows."""

import itertools
import warnings

import pytest
import torch
from keyed_runs import BATCH, Noting, assert_equal_weights, assert_masks, of_step
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset, SubsetRandomSampler

import thinned
from thinned.torch import Steps, set_rank

PARTS = 3  # batches of which gradients are accumulated


def loader(digits, **options):
    order = DistributedSampler(digits, num_replicas=1, rank=0, seed=5)  # a function of the epoch
    return DataLoader(digits, batch_size=BATCH, sampler=order, **options)


class Run:
    """Two epochs of ten batches, gradients of three of them accumulated."""

    def __init__(self, digits):
        self.model = Noting()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01)
        self.steps = Steps(self.model, loader(digits))

    def train(self, until=None):
        for _ in range(self.steps.epoch, 2):
            for x, y in self.steps:
                self.model(x, y)["loss"].backward()
                if self.steps.step % PARTS == 0:
                    self.optimizer.step()
                    self.optimizer.zero_grad()
                if self.steps.step == until:
                    return

    def saved(self):
        grads = [None if p.grad is None else p.grad.clone() for p in self.model.parameters()]
        states = [one.state_dict() for one in (self.model, self.optimizer, self.steps)]
        return [torch.utils._pytree.tree_map_only(torch.Tensor, torch.clone, one) for one in states], grads

    def load(self, saved):
        states, grads = saved
        for one, state in zip((self.model, self.optimizer, self.steps), states, strict=True):
            one.load_state_dict(state)
        for p, grad in zip(self.model.parameters(), grads, strict=True):
            p.grad = grad


def test_masks_are_those_of_the_batchs_number(digits):
    run = Run(digits)
    run.train()
    assert_masks(run.model.masks, range(20))


@pytest.mark.parametrize("until", [5, 6, 10, 14], ids="killed after {}".format)
def test_a_resumed_run_is_the_run_that_never_stopped(digits, until):
    """Also in the middle of an accumulation (5, 14), with its gradients; 10 ends an epoch."""
    whole, begun, resumed = Run(digits), Run(digits), Run(digits)
    whole.train()
    begun.train(until)
    resumed.load(begun.saved())
    resumed.train()
    assert_masks(resumed.model.masks, range(until, 20))
    assert_equal_weights(whole.model, resumed.model)


def test_a_loop_that_is_left_by_break_begins_the_next_epoch_anew(digits):
    steps = Steps(Noting(), loader(digits))
    for _ in itertools.islice(steps, 4):
        pass
    for _ in itertools.islice(steps, 2):
        pass
    assert steps.state_dict() == {"epoch": 1, "batch": 2, "step": 6, "batches": 10, "batch_size": BATCH}


def test_evaluation_between_batches_moves_nothing(digits):
    run = Run(digits)
    for x, y in run.steps:
        run.model.eval()(x, y)
        run.model.train()(x, y)
    assert_masks(run.model.masks, range(10))


def test_another_batch_size_is_refused(digits):
    saved = Steps(Noting(), loader(digits)).state_dict()
    other = Steps(Noting(), DataLoader(digits, batch_size=4))
    with pytest.raises(ValueError, match="had 10 batches in an epoch, and this loader has 20"):
        other.load_state_dict(saved)


def test_another_batch_size_is_refused_also_where_it_makes_as_many_batches(digits):
    saved = Steps(Noting(), DataLoader(digits, batch_size=41)).state_dict()
    other = Steps(Noting(), DataLoader(digits, batch_size=79))
    with pytest.raises(ValueError, match="had 41 inputs in a batch, and this loader has 79"):
        other.load_state_dict(saved)


class Stream(IterableDataset):
    """Data without a length."""

    def __iter__(self):
        return iter(range(7))


def test_data_without_a_length_are_resumed_and_refused_where_they_end_too_soon():
    begun = Steps(Noting(), DataLoader(Stream(), batch_size=2))
    for _ in itertools.islice(begun, 3):
        pass
    saved = begun.state_dict()
    assert saved == {"epoch": 0, "batch": 3, "step": 3, "batches": None, "batch_size": 2}
    resumed = Steps(Noting(), DataLoader(Stream(), batch_size=2))
    resumed.load_state_dict(saved)
    assert [one.tolist() for one in resumed] == [[6]]
    resumed.load_state_dict({**saved, "batch": 5})
    with pytest.raises(ValueError, match="batches ended after 4, and the saved run had had 5"):
        list(resumed)


def test_a_run_has_one_loop_at_a_time():
    steps = Steps(Noting(), [1, 2, 3])
    with pytest.raises(RuntimeError, match="this loop is over: another one was begun"):
        _ = [list(steps) for _ in steps]
    with pytest.raises(RuntimeError, match="this loop is over"):
        list(zip(steps, steps, strict=True))
    with pytest.raises(RuntimeError, match="or a state loaded"):
        _ = [steps.load_state_dict(steps.state_dict()) for _ in steps]


@pytest.mark.parametrize("shuffle", [True, False])
def test_an_order_that_a_generator_shuffles_is_warned_of(digits, shuffle):
    steps = Steps(Noting(), DataLoader(digits, batch_size=BATCH, shuffle=shuffle))
    steps.load_state_dict({"epoch": 0, "batch": 3, "step": 3, "batches": 10, "batch_size": BATCH})
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert len(list(steps)) == 7
    assert [str(one.message)[:40] for one in told] == ["this epoch is resumed in its middle, and"] * shuffle


def test_other_samplers_that_shuffle_are_warned_of(digits):
    steps = Steps(Noting(), DataLoader(digits, batch_size=BATCH, sampler=SubsetRandomSampler(range(80))))
    steps.load_state_dict({**steps.state_dict(), "batch": 3, "step": 3})
    with pytest.warns(UserWarning, match="its loader shuffles by a generator"):
        list(steps)


@pytest.mark.parametrize("rows", [8, 3])
def test_each_rank_has_its_rows(rows):
    for rank in range(3):
        model = Noting()
        set_rank(model, rank, 3)
        model(torch.ones(rows, 64))
        model.eval()(torch.ones(5, 64))
        assert torch.equal(model.masks[0], of_step(0, rows, rank, 3))


def test_arguments():
    with pytest.raises(ValueError, match=r"rank must be in \[0, 2\)"):
        set_rank(Noting(), 2, 2)
    with pytest.raises(ValueError, match="model has no site"):
        Steps(nn.Linear(1, 1), [])
    with pytest.raises(TypeError, match="batches must be iterable"):
        Steps(Noting(), 3)
    with pytest.raises(TypeError, match="once for each epoch, got list_iterator"):
        Steps(Noting(), iter([1]))
    with pytest.raises(TypeError, match="several are one in a torch"):
        Steps([Noting(), Noting()], [])
    with pytest.raises(ValueError, match=r"model has no key.*keyed\(model, seed\)"):
        Steps(Noting(keyed=False), [])
    with pytest.raises(ValueError, match="and lacks batch, batch_size, batches, step"):
        Steps(Noting(), []).load_state_dict({"epoch": 0})
    assert thinned.torch.integrations.__all__ == []
