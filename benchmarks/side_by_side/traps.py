"""What else goes wrong around Monte Carlo dropout: each a yes or no, of each library that it concerns."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import libraries
import numpy as np
import torch
from baal.bayesian import caching_utils, consistent_dropout, weight_drop
from baal.bayesian.dropout import MCDropoutModule
from baal.modelwrapper import ModelWrapper, TrainingArgs
from mc import zoo
from torch import nn

from thinned import Key
from thinned.mc.torch import predict

# What was asked, of whom, what came out, whether that is right.
Answer = tuple[str, str, str, bool]

SAMPLES = 100


def answers() -> Iterator[Answer]:
    """All of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for ask in (_from_training, _restored, _generator, _batches, _last, _consistent, _stale, _weights):
            yield from ask()


def _yes(question, who, is_so, right):
    return question, who, "yes" if is_so else "no", is_so == right


def _from_training() -> Iterator[Answer]:
    question = "a model handed over in training: do BatchNorm's buffers move?"
    draws = {name: draw for name, draw in libraries.LIBRARIES.items() if name != "loop over nn.Dropout"}
    for name, draw in {**draws, "baal, predict_on_batch": _baal_batch}.items():
        model, x = zoo.build(zoo.CASES["batch norm"])
        model.train()
        before = {key: value.clone() for key, value in model.named_buffers()}
        draw(model, x, SAMPLES, 0)
        moved = any(not torch.equal(value, before[key]) for key, value in model.named_buffers())
        yield _yes(question, name, moved, False)


def _baal_batch(model, x, samples, seed):
    with MCDropoutModule(model) as patched:
        return ModelWrapper(patched, TrainingArgs(use_cuda=False)).predict_on_batch(x, samples)


def _restored() -> Iterator[Answer]:
    """What an exception in the middle leaves behind."""
    question = "after an exception inside: is the model as it was?"
    for name, draw in libraries.LIBRARIES.items():
        model, x = zoo.build(zoo.CASES["modules"])
        before = [(type(module), module.training) for module in model.modules()]
        try:
            draw(model, x[:, :3], SAMPLES, 0)
        except Exception:
            after = [(type(module), module.training) for module in model.modules()]
            yield _yes(question, name, before == after, True)


def _generator() -> Iterator[Answer]:
    question = "is torch's global generator left alone?"
    for name, draw in libraries.LIBRARIES.items():
        torch.manual_seed(0)
        before = torch.get_rng_state()
        draw(*zoo.build(zoo.CASES["modules"]), SAMPLES, 0)
        yield _yes(question, name, torch.equal(before, torch.get_rng_state()), True)


def _batches() -> Iterator[Answer]:
    question = "does an input have the same samples alone and in a batch, from the same seed?"
    for name, draw in libraries.LIBRARIES.items():
        model, x = zoo.build(zoo.CASES["modules"])
        whole = draw(model, x, SAMPLES, 0)
        alone = draw(zoo.build(zoo.CASES["modules"])[0], x[:1], SAMPLES, 0)
        yield _yes(question, name, np.allclose(whole[:, :1], alone, atol=1e-5), True)


def _last() -> Iterator[Answer]:
    question = "last layer only: does the last site that is executed act?"
    case = zoo.CASES["out of order"]
    model, x = zoo.build(case, case.alone(1))  # the other site is off
    draws = libraries.torch_uncertainty(model, x, SAMPLES, last_layer=True) if _accepts(model) else None
    acts = draws is not None and bool(draws.std(0).any())
    yield _yes(question, "torch-uncertainty, last_layer=True", acts, True)


def _accepts(model):
    try:
        libraries.mc_dropout(model, 2, last_layer=True)
    except ValueError:  # the layer that it takes for the last is off
        return False
    return True


def _consistent() -> Iterator[Answer]:
    question = "one mask for all inputs: does the next prediction draw others?"
    model, x = zoo.build(zoo.CASES["modules"])
    patched = consistent_dropout.patch_module(model)
    wrapper = ModelWrapper(patched, TrainingArgs(use_cuda=False, workers=0))
    data = torch.utils.data.TensorDataset(x)
    first, second = (wrapper.predict_on_dataset(data, SAMPLES, verbose=False) for _ in range(2))
    yield _yes(question, "baal, consistent_dropout", not np.array_equal(first, second), True)
    model, x = zoo.build(zoo.CASES["modules"])
    drawn = [predict(model, x, samples=SAMPLES, shared=True, keep=True).draws for _ in range(2)]
    yield _yes(question, "thinned, shared=True", not np.array_equal(*drawn), True)
    question = "one mask for all inputs: have equal inputs equal samples?"
    same = x[:1].expand(4, -1).contiguous()
    for size in (1, 2):  # baal's documentation advises 1
        model, _ = zoo.build(zoo.CASES["modules"])
        args = TrainingArgs(batch_size=size, use_cuda=False, workers=0)
        wrapper = ModelWrapper(consistent_dropout.patch_module(model), args)
        data = torch.utils.data.TensorDataset(same)
        found = wrapper.predict_on_dataset(data, SAMPLES, verbose=False)
        yield _yes(question, f"baal, consistent_dropout, batches of {size}", _same(found), True)
    for size in (1, 2):
        model, _ = zoo.build(zoo.CASES["modules"])
        found = predict(model, same, samples=SAMPLES, shared=True, keep=True, batch_size=size).draws
        yield _yes(question, f"thinned, shared=True, batches of {size}", _same(found.swapaxes(0, 1)), True)


def _same(rows):
    return all(np.allclose(rows[0], row, atol=1e-5) for row in rows)


def _stale() -> Iterator[Answer]:
    """Samples before and after the first layer's weights are doubled; the masks are the same."""
    question = "what was computed once for all samples: does it follow a change of the weights?"
    model, x = _late()
    patched = caching_utils.patch_module(MCDropoutModule(model))
    wrapper = ModelWrapper(patched, TrainingArgs(use_cuda=False, replicate_in_memory=False))
    wrapper.eval()
    pair = []
    for _ in range(2):
        torch.manual_seed(0)
        pair.append(wrapper.predict_on_batch(x, SAMPLES).numpy())
        _double(model)
    yield _yes(question, "baal, MCCachingModule", not np.array_equal(*pair), True)
    model, x = _late()
    pair = []
    for _ in range(2):
        pair.append(predict(model, x, samples=SAMPLES, key=Key(0), keep=True).draws)
        _double(model)
    yield _yes(question, "thinned", not np.array_equal(*pair), True)


def _late():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 8)).eval()
        return model, torch.randn(3, 8)


def _double(model):
    with torch.no_grad():
        next(parameter for parameter in model.parameters() if parameter.ndim == 2).mul_(2)


def _weights() -> Iterator[Answer]:
    """At a probability of 0 nothing is dropped, and the output should be the model's own."""
    question = "dropped weights: are they the trained ones?"
    model, x = _late()
    with torch.no_grad():
        due = model(x)
        found = weight_drop.patch_module(model, ["Linear"], 0.0)(x)
    yield _yes(question, "baal, weight_drop", torch.allclose(due, found), True)
    from thinned.torch.nn import drop_connect

    model, x = _late()
    with torch.no_grad():
        found = [drop_connect(m, p=0.0) if isinstance(m, nn.Linear) else m for m in model]
        yield _yes(question, "thinned, drop_connect", torch.allclose(due, nn.Sequential(*found)(x)), True)
