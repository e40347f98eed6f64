"""Generators that keep a state: whether something drew that no key reaches."""

from __future__ import annotations

import random
import sys
from typing import Any

import torch

States = dict[str, Any]


def states() -> States:
    """Of all generators that a forward pass may draw from without being handed one."""
    found: States = {
        "torch's generator": torch.get_rng_state().numpy().tobytes(),
        "Python's random": random.getstate(),
    }
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        _, numbers, *rest = numpy.get_state()
        found["numpy.random"] = numbers.tobytes(), *rest
    if torch.cuda.is_initialized():
        for device, generator in enumerate(torch.cuda.default_generators):
            found[f"torch's generator of cuda:{device}"] = generator.get_state().numpy().tobytes()
    return found


def moved(before: States, after: States) -> list[str]:
    """The names of those that moved."""
    return [name for name, state in after.items() if name in before and before[name] != state]
