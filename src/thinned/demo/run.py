"""The whole demonstration runs here, in order."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from thinned import averages
from thinned.demo import (
    committee,
    conventions,
    mean_activation,
    ones,
    out_of_distribution,
    step,
    thinning,
    worth,
)
from thinned.demo.digits import one_thread
from thinned.demo.section import Section
from thinned.demo.settings import Settings

Report = Callable[[str, int, int], None]

_SAMPLES = 100  # where a prediction is made: enough, as the section on committees shows


def run(settings: Settings, seed: int = 0, report: Report | None = None) -> list[Section]:
    """Run every experiment.

    Args:
        settings: sizes.
        seed: of every split, network and mask, in [0, 2^31].
        report: called as report(what is being done, units of it in all, units done since the last call).

    Returns:
        One section an experiment, in the order in which they are told. Equal for equal seeds, but for times.
    """
    say = report or _silent
    s = settings
    draws = s.average_masks * len(averages.KEEP)
    told = [
        ones.section(seed),
        mean_activation.section(
            s.average_size, s.average_masks, seed, partial(say, "averaging activations", draws)
        ),
    ]
    trainings = partial(say, "training networks", s.seeds * len(conventions.NAMES) * s.epochs)
    asking = partial(say, "averaging thinned networks", s.seeds * s.samples)
    with one_thread():
        trained = conventions.train_all(s.seeds, s.epochs, s.hidden, seed, trainings)
        told.append(conventions.section(trained))
        told.append(committee.section(trained, s.samples, seed, asking))
        few = min(_SAMPLES, s.samples)
        comparing = partial(say, "comparing with weight scaling", s.seeds + s.resamples)
        told.append(worth.section(trained, few, s.resamples, seed, comparing))
        looking = partial(say, "looking at what is no digit", s.seeds)
        told.append(out_of_distribution.section(trained, s.strangers, few, seed, looking))
    told.append(thinning.section())
    told.append(step.section(s.width, s.rounds, seed, partial(say, "timing steps", s.rounds)))
    return told


def _silent(what: str, total: int, done: int) -> None:
    del what, total, done
