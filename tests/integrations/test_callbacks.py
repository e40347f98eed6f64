"""The callbacks' own rules, with stand-ins that ask what the real Trainers ask, in their order."""

import importlib
import json
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from keyed_runs import BATCH, Noting, assert_masks

import thinned
from thinned.torch.integrations import _run


@pytest.fixture
def stand_ins(monkeypatch):
    def put(name, **names):
        module = ModuleType(name)
        vars(module).update(names)
        monkeypatch.setitem(sys.modules, name, module)

    base, exportable = type("TrainerCallback", (), {}), type("ExportableState", (), {})
    put("transformers", TrainerCallback=base)
    put("transformers.trainer_callback", ExportableState=exportable)
    put("lightning")
    put("lightning.pytorch", Callback=type("Callback", (), {}))
    yield
    for name in ("transformers", "lightning"):
        sys.modules.pop(f"thinned.torch.integrations.{name}", None)


def loaded(name):
    full = f"thinned.torch.integrations.{name}"
    sys.modules.pop(full, None)
    return importlib.import_module(full)


def run_transformers(callback, model, begin=0, parts=3, batches=10, state=None):
    """The calls of transformers 5's Trainer, for one epoch; the last step has what is left."""
    args = SimpleNamespace(
        process_index=0, world_size=1, gradient_accumulation_steps=parts, per_device_train_batch_size=BATCH
    )
    state = state or SimpleNamespace(global_step=begin, stateful_callbacks={})
    callback.on_train_begin(args, state, None, model=model)
    for number in range(begin * parts, batches):
        if number % parts == 0:
            callback.on_step_begin(args, state, None, model=model)
        model(torch.ones(BATCH, 64))
        if (number + 1) % parts == 0 or number + 1 == batches:
            state.global_step += 1
        else:
            callback.on_substep_end(args, state, None, model=model)
    callback.on_train_end(args, state, None)


@pytest.mark.usefixtures("stand_ins")
def test_transformers_trainer():
    model = Noting(keyed=False)
    run_transformers(loaded("transformers").Keyed(seed=7), model)
    assert_masks(model.masks, range(10))
    resumed = Noting(keyed=False)
    run_transformers(loaded("transformers").Keyed(seed=7), resumed, begin=2)
    assert_masks(resumed.masks, range(6, 10))


@pytest.mark.usefixtures("stand_ins")
def test_transformers_trainer_knows_the_run_that_it_resumes():
    callback = loaded("transformers").Keyed(seed=7)
    run_transformers(callback, Noting(keyed=False))
    state = SimpleNamespace(global_step=2, stateful_callbacks={"Keyed": callback.state()})
    again = loaded("transformers").Keyed(seed=7)
    with pytest.raises(ValueError, match="begun with gradient_accumulation_steps=3 and is resumed with"):
        run_transformers(again, Noting(keyed=False), parts=2, state=state)
    run_transformers(again, Noting(keyed=False), state=SimpleNamespace(global_step=0, stateful_callbacks={}))


def lightnings(**state):
    """What the callback asks Lightning's Trainer."""
    given = {"global_rank": 0, "world_size": 1, "accumulate_grad_batches": 3, "current_epoch": 0}
    return SimpleNamespace(**{**given, "reload_dataloaders_every_n_epochs": 0, **state})


@pytest.mark.usefixtures("stand_ins")
def test_lightnings_trainer():
    callback, model = loaded("lightning").Keyed(seed=7), Noting(keyed=False)
    trainer = lightnings(global_rank=1, world_size=2, num_training_batches=4, current_epoch=2)
    callback.on_train_start(trainer, model)
    for number in range(4):
        callback.on_train_batch_start(trainer, model, None, number)
        model(torch.ones(BATCH, 64))
    callback.on_train_end(trainer, model)
    assert_masks(model.masks, range(8, 12), rank=1, world=2)
    endless = SimpleNamespace(
        num_training_batches=float("inf"),
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(total_batch_idx=41)),
    )
    callback.on_train_batch_start(endless, model, None, 3)
    assert int(model.drop.step) == 41


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize("killed", [None, 0, 1, 2], ids="resumed in epoch {}".format)
def test_lightnings_epochs_of_other_lengths_have_steps_of_their_own(killed):
    """Also in a run that is resumed behind the first batch of an epoch."""
    sizes, steps = (5, 3, 7), []
    model, callback = Noting(keyed=False), loaded("lightning").Keyed(seed=7)
    trainer = lightnings(reload_dataloaders_every_n_epochs=1, num_training_batches=sizes[0])
    callback.on_train_start(trainer, model)
    for trainer.current_epoch, trainer.num_training_batches in enumerate(sizes):
        for number in range(trainer.num_training_batches):
            callback.on_train_batch_start(trainer, model, None, number)
            steps.append(int(model.drop.step))
            if (trainer.current_epoch, number) == (killed, 0):
                saved, callback = callback.state_dict(), loaded("lightning").Keyed(seed=7)
                callback.load_state_dict(json.loads(json.dumps(saved)))
                callback.on_train_start(trainer, model)
    assert steps == list(range(15))


def test_a_model_without_a_site_says_what_to_do():
    with pytest.raises(ValueError, match=r"model has no site.*convert\(model\)"):
        _run.KeyedRun(7, None).begin(torch.nn.Dropout(), 0, 1)


@pytest.mark.parametrize("name", ["transformers", "lightning"])
def test_without_the_package_the_extra_is_named(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"thinned.torch.integrations.{name}", raising=False)
    with pytest.raises(ModuleNotFoundError, match=rf"needs {name}.*\[integrations\]"):
        importlib.import_module(f"thinned.torch.integrations.{name}")
    assert thinned.torch.integrations
