"""A model and the generators are put back here as they were before a run."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

_CONTAINERS = (dict, OrderedDict, list, set)


@contextmanager
def kept(model: torch.nn.Module) -> Iterator[None]:
    """Put back, also where a run fails: modules' attributes, tensors, gradients and generators."""
    grads = [(one, one.grad) for one in model.parameters()]
    with ExitStack() as stack:
        devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
        stack.enter_context(torch.random.fork_rng(devices=devices))
        for get, put in _generators(model):
            stack.callback(put, get())
        for tensor in (*model.parameters(), *model.buffers()):
            stack.callback(_put_back, tensor, tensor.detach().clone())
        for module in model.modules():
            stack.enter_context(_attributes(module))
        for one, grad in grads:
            one.grad = None
            stack.callback(setattr, one, "grad", grad)
        yield


def _put_back(tensor: Tensor, value: Tensor) -> None:
    with torch.no_grad():
        tensor.copy_(value)


def _generators(model: torch.nn.Module) -> Iterator[tuple[Callable[[], Any], Callable[[Any], Any]]]:
    """Tells how to get and to set the state of each generator that a model may draw from."""
    yield random.getstate, random.setstate
    yield np.random.get_state, np.random.set_state
    for module in model.modules():
        for held in vars(module).values():
            if isinstance(held, torch.Generator):
                yield held.get_state, held.set_state
            elif isinstance(held, random.Random):
                yield held.getstate, held.setstate
            elif isinstance(held, np.random.Generator):
                bits = held.bit_generator
                yield partial(getattr, bits, "state"), partial(setattr, bits, "state")


@contextmanager
def _attributes(module: torch.nn.Module) -> Iterator[None]:
    """Put back a module's attributes: its mode and rates, which tensors it holds, lists that it fills."""
    if isinstance(module, torch.jit.ScriptModule):
        mode = module.training
        try:
            yield
        finally:
            module.train(mode)
        return
    before = dict(vars(module))
    filled = [(held, held.copy()) for held in before.values() if type(held) in _CONTAINERS]
    try:
        yield
    finally:
        vars(module).clear()
        vars(module).update(before)
        for held, content in filled:
            held.clear()
            (held.extend if isinstance(held, list) else held.update)(content)
