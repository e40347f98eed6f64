"""The settings say how large the demonstration is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from thinned import averages


@dataclass(frozen=True)
class Settings:
    """Sizes of the experiments.

    Args:
        seeds: networks trained of each kind, at least 2.
        epochs: passes over the training images.
        hidden: units in each of the two hidden layers.
        samples: thinned networks averaged at most.
        strangers: images of each kind that is no digit.
        resamples: of the test images, for intervals, at least 99.
        average_size: elements of the vector of the averages experiment.
        average_masks: masks a keep rate of the averages experiment, at least 2.
        rounds: training steps timed of each kind.
        width: units in each hidden layer of the network whose step is timed.
    """

    seeds: int
    epochs: int
    hidden: int
    samples: int
    strangers: int
    resamples: int
    average_size: int
    average_masks: int
    rounds: int
    width: int


FULL: Final = Settings(
    seeds=8,
    epochs=100,
    hidden=256,
    samples=200,
    strangers=500,
    resamples=999,
    average_size=averages.SIZE,
    average_masks=averages.MASKS,
    rounds=60,
    width=1024,
)

QUICK: Final = Settings(
    seeds=2,
    epochs=10,
    hidden=32,
    samples=10,
    strangers=40,
    resamples=99,
    average_size=10_000,
    average_masks=40,
    rounds=3,
    width=64,
)
