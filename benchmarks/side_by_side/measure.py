"""What is measured of one model and one library."""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass

import libraries
import numpy as np
import torch
from mc import zoo

from thinned.bench._timing import Settings, race

SAMPLES = 400  # for spreads: those of two runs differ by 3 %, and by 10 % where few decisions are taken
LIKE = (0.8, 1.25)  # a spread within these bounds of the one that is due is the same


@dataclass(frozen=True)
class Found:
    """One library on one model.

    `reached` counts the sites that act, of all that there are: each probability is tried in a model where it
    alone is not 0, and acts if the spread is the one it should have. `weak` counts those that spread, but
    otherwise. `spread` is the mean standard deviation with all of them, `due` that of a loop in which every
    site acts. `says` is what the library said, an error or a warning. `moved` are buffers and parameters that
    changed, `left` modules that are in another state or of another kind than before.
    """

    reached: int
    weak: int
    spread: float
    due: float
    says: str
    moved: tuple[str, ...]
    left: tuple[str, ...]


def measure(case, draw, named=()) -> Found:
    """Try a library on a model of the zoo."""
    like = [_alone(case, k, draw, named) for k in range(len(case.p))]
    model, x = zoo.build(case)
    before, kinds = _state(model), _kinds(model)
    draws, says = _said(draw, model, x, named)
    after, now = _state(model), _kinds(model)
    sites = [k for k in case.order if case.p[k] > 0]
    return Found(
        reached=sum(like[k] == "acts" for k in sites),
        weak=sum(like[k] == "otherwise" for k in sites),
        spread=_spread(draws),
        due=_due(case),
        says=says,
        moved=tuple(name for name, value in before.items() if not torch.equal(value, after[name])),
        left=tuple(name or "the model" for name, kind in kinds.items() if now[name] != kind),
    )


def _alone(case, k, draw, named):
    draws, _ = _said(draw, *zoo.build(case, case.alone(k)), named)
    spread = _spread(draws)
    if not spread:
        return "silent"
    ratio = spread / _due(case, k)
    return "acts" if LIKE[0] < ratio < LIKE[1] else "otherwise"


@functools.cache
def _due(case, k=None):
    """The spread that is due: with one probability alone, or with all."""
    model, x = zoo.build(case, None if k is None else case.alone(k))
    return _spread(libraries.every_site(model, x, SAMPLES, seed=1))


def _said(draw, model, x, named):
    """The draws, or None, and an error's or a warning's first words."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            draws = draw(model, x, SAMPLES, 0, named)
        except Exception as error:  # whatever it is, it is what the user sees
            return None, f"{type(error).__name__}: {_first(error)}"
    told = [one for one in caught if issubclass(one.category, UserWarning)]
    return draws, f"{told[0].category.__name__}: {_first(told[0].message)}" if told else ""


def _first(text) -> str:
    return str(text).split("\n")[0].split(". ")[0][:90]


def _spread(draws) -> float:
    """The mean standard deviation; 0 where all samples agree to rounding."""
    if draws is None:
        return 0.0
    # To double before the mean: equal numbers then have no spread at all.
    std = np.asarray(draws, np.float64).std(axis=0, ddof=1)
    return float(std.mean()) if (std > 1e-6 * np.abs(draws).max()).any() else 0.0


def _state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def _kinds(model):
    return {name: (type(module), module.training) for name, module in model.named_modules()}


def times(build, repeats, samples=100, named=()):
    """Median seconds of each library, and of their ratios to the loop in which every site acts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        calls = {"every site": _call(libraries.every_site, build, samples, ())}
        for name, draw in libraries.LIBRARIES.items():
            call = _call(draw, build, samples, named if name == "thinned" else ())
            try:
                call()
            except Exception:
                continue  # it has been said what: there is nothing to time
            calls[name] = call
        found = race(calls, Settings(repeats=repeats, batch=0.0))
    ratios = {name: found.figure(name, "every site").median for name in calls}
    return found.medians(), ratios


def _call(draw, build, samples, named):
    model, x = build()
    return lambda: draw(model, x, samples, 0, named)
