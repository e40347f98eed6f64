"""This experiment trains every family on two data sets: error, likelihood, calibration and time."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import torch
from scipy.stats import t as student  # type: ignore[import-untyped]
from sklearn.datasets import load_breast_cancer, load_digits  # type: ignore[import-untyped]
from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]
from torch import Tensor, nn

from thinned import Key
from thinned.demo.digits import one_thread
from thinned.demo.families import Family, families, network, probabilities
from thinned.demo.section import Tick
from thinned.demo.statistics import Spread, difference, spread
from thinned.mc._measures import measures
from thinned.torch import keyed, set_step

MEASURES: Final = {"error": "error, %", "nll": "NLL, nats", "calibration": "ECE, %"}
SETS: Final = {"digits": load_digits, "breast cancer": load_breast_cancer}
_LEVEL: Final = 0.05


@dataclass(frozen=True)
class Sizes:
    """Says how large the comparison is.

    Args:
        seeds: networks of each family and data set, at least 2.
        train: samples to train on; all others are for testing.
        epochs: passes over them.
        batch: samples of a step; it divides `train`, and members divide it.
        width: units of a layer.
    """

    seeds: int
    train: int = 200
    epochs: int = 20
    batch: int = 40
    width: int = 128

    @property
    def steps(self) -> int:
        """Counts the steps of one training."""
        return self.epochs * (self.train // self.batch)


@dataclass(frozen=True)
class Split:
    """One split: inputs of mean 0 and variance 1 in training, and labels."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


def split(name: str, size: int, seed: int) -> Split:
    """So many samples to train on, every class in proportion."""
    inputs, labels = SETS[name](return_X_y=True)
    parts = train_test_split(inputs, labels, train_size=size, stratify=labels, random_state=seed)
    mean, deviation = parts[0].mean(0), np.maximum(parts[0].std(0), 1e-6)
    train_x, test_x = (torch.from_numpy((part - mean) / deviation).float() for part in parts[:2])
    # A pixel that is alike in all images to train on says nothing of others.
    train_x, test_x = (part.clamp(-10.0, 10.0) for part in (train_x, test_x))
    return Split(train_x, torch.from_numpy(parts[2]).long(), test_x, torch.from_numpy(parts[3]).long())


def run(sizes: Sizes, seed: int, tick: Tick) -> dict[str, Any]:
    """Train all; of each data set and family every measure by seed, and seconds of a step."""
    chosen = families(sizes.width, sizes.steps)
    columns = (*MEASURES, "step")
    found: dict[str, Any] = {
        name: {one.name: {key: [] for key in columns} for one in chosen} for name in SETS
    }
    with one_thread():
        for number in range(sizes.seeds):
            for name, rows in found.items():
                data = split(name, sizes.train, seed + number)
                for one in chosen:
                    model, step = trained(one, data, sizes, seed + number)
                    values = asdict(measures(probabilities(one, model, data.test_x), data.test_y))
                    for key in MEASURES:
                        rows[one.name][key].append(values[key])
                    rows[one.name]["step"].append(step)
                    tick(1)
    return {"sizes": asdict(sizes), "seed": seed, "rates": {f.name: f.rate for f in chosen}, "sets": found}


def trained(family: Family, data: Split, sizes: Sizes, seed: int) -> tuple[nn.Module, float]:
    """A trained network in evaluation, and the median of a step's seconds.

    First weights and the order of samples depend on the seed alone, masks on the family's name as well.
    """
    order = torch.Generator().manual_seed(seed)
    classes = int(data.train_y.max()) + 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = network(family, data.train_x.shape[1], classes, sizes.width, sizes.train)
    if family.draws:
        model = keyed(model, Key(seed).fold(family.name))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3, fused=True)
    seconds, step = [], 0
    for _ in range(sizes.epochs):
        for batch in torch.randperm(sizes.train, generator=order).view(-1, sizes.batch):
            x, y = data.train_x[batch], data.train_y[batch]
            begin = time.perf_counter()
            if family.draws:
                set_step(model, step)
            optimizer.zero_grad()
            family.loss(model, x, y).backward()
            optimizer.step()
            seconds.append(time.perf_counter() - begin)
            step += 1
    return model.eval(), statistics.median(seconds)


@dataclass(frozen=True)
class Verdict:
    """A family's measure, and its difference from none, pair by pair.

    Args:
        value: mean over the seeds.
        gap: of the family minus none; None for none itself.
        clear: whether the difference stands out of all families' at once.
    """

    value: Spread
    gap: Spread | None
    clear: bool


def verdicts(rows: dict[str, Any], key: str) -> dict[str, Verdict]:
    """Judges one measure: a difference is clear at 5 % for all families together, by Bonferroni's rule."""
    tests = len(rows) - 1
    found = {}
    for name, values in rows.items():
        gap = None if name == "none" else difference(values[key], rows["none"][key])
        found[name] = Verdict(spread(values[key]), gap, gap is not None and _clear(gap, tests))
    return found


def _clear(gap: Spread, tests: int) -> bool:
    return abs(gap.mean) > float(student.ppf(1 - _LEVEL / (2 * tests), gap.count - 1)) * gap.error


def first(rows: dict[str, Any], key: str) -> tuple[str, list[str]]:
    """The family of the lowest mean, and all that are not clearly worse than it."""
    means = {name: spread(values[key]).mean for name, values in rows.items()}
    best = min(means, key=lambda name: means[name])
    tests = len(rows) - 1
    equal = [
        name
        for name, values in rows.items()
        if name != best and not _clear(difference(values[key], rows[best][key]), tests)
    ]
    return best, equal
