"""Each library in its documented way: samples of a model's output, shape (samples, rows, …)."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from contextlib import contextmanager

import numpy as np
import structlog
import torch
from baal.bayesian.dropout import MCDropoutModule
from baal.modelwrapper import ModelWrapper, TrainingArgs
from torch import nn
from torch.utils.data import TensorDataset

from thinned import Key
from thinned.mc.torch import predict

# model, input, samples, seed, classes that the user names
Draw = Callable[[nn.Module, torch.Tensor, int, int, tuple[type, ...]], np.ndarray]

# baal writes a line for each prediction.
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


def _mc_dropout():
    """From its own file: torch-uncertainty as a package imports lightning, torchvision and timm."""
    found = importlib.util.find_spec("torch_uncertainty")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("torch_uncertainty is not installed: see requirements.txt")
    path = f"{found.submodule_search_locations[0]}/methods/mc_dropout.py"
    spec = importlib.util.spec_from_file_location("mc_dropout", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.mc_dropout


mc_dropout = _mc_dropout()


@contextmanager
def _switched(modules, flag):
    was = [(module, module.training) for module in modules]
    try:
        for module, _ in was:
            module.training = flag(module)
        yield
    finally:
        for module, before in was:
            module.training = before


def _loop(model, x, samples, seed, flag):
    torch.manual_seed(seed)
    with torch.no_grad(), _switched(list(model.modules()), flag):
        return torch.stack([model(x) for _ in range(samples)]).numpy()


def every_site(model, x, samples, seed=0, named=()):
    """A loop in which everything trains but batch normalisation: all sites act. What others are held to."""
    return _loop(model, x, samples, seed, lambda m: not isinstance(m, nn.modules.batchnorm._NormBase))


def plain_loop(model, x, samples, seed=0, named=()):
    """A loop as people write it: `model.eval()`, then each `nn.Dropout` trains."""
    return _loop(model, x, samples, seed, lambda m: isinstance(m, nn.Dropout))


def baal(model, x, samples, seed=0, named=()):
    """baal: patch the model, and predict a data set."""
    torch.manual_seed(seed)
    with MCDropoutModule(model) as patched:
        wrapper = ModelWrapper(patched, TrainingArgs(batch_size=len(x), use_cuda=False, workers=0))
        found = wrapper.predict_on_dataset(TensorDataset(x), iterations=samples, verbose=False)
    return np.moveaxis(found, -1, 0)


def torch_uncertainty(model, x, samples, seed=0, named=(), last_layer=False):
    """torch-uncertainty: wrap the model, evaluate; the samples lie along the batch."""
    torch.manual_seed(seed)
    wrapped = mc_dropout(model, num_estimators=samples, last_layer=last_layer, on_batch=True).eval()
    with torch.no_grad():
        return wrapped(x).unflatten(0, (samples, len(x))).numpy()


def thinned(model, x, samples, seed=0, named=()):
    """thinned: `mc.predict`."""
    return predict(model, x, samples=samples, key=Key(seed), keep=True, also=named).draws


LIBRARIES: dict[str, Draw] = {
    "loop over nn.Dropout": plain_loop,
    "baal": baal,
    "torch-uncertainty": torch_uncertainty,
    "thinned": thinned,
}
