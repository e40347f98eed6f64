"""The losses of all inputs become a verdict here: which way to use, from which k on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from thinned.contract import Key
from thinned.mc._bootstrap import Estimate, Table, tables
from thinned.mc._comparison import NAMES, Average, Comparison, Use
from thinned.mc._losses import Losses
from thinned.mc._measures import Doubles

_FEW: Final = 200  # inputs below which a caution says so


def judge(
    losses: Losses, key: Key, *, bins: int, resamples: int, tick: Callable[[], object] = lambda: None
) -> Comparison:
    """Compare the candidates of these losses."""
    found = tables(losses, bins, resamples, tick)
    first = next(iter(found.values()))
    samples, inputs = losses.ladder[-1], len(next(iter(losses.means.values())))
    values = np.array([one.value for one in first.values])
    verdict = {name: table.verdict for name, table in found.items()}
    use, reason = _choose(verdict, samples)
    return Comparison(
        inputs=inputs,
        samples=samples,
        key=key,
        weight_scaling={name: table.values[0] for name, table in found.items()},
        averages=tuple(_average(found, place, k, samples) for place, k in enumerate(losses.ladder)),
        verdict=verdict,
        crossover=_crossover(values, losses.ladder),
        crossover_interval=_crossover_interval(first.resampled, losses.ladder),
        use=use,
        reason=reason,
        coverage=dict(zip(("weight scaling", "monte carlo"), losses.coverage, strict=False)),
        cautions=tuple(_cautions(losses, len(found), inputs)),
    )


def _average(found: dict[str, Table], place: int, k: int, samples: int) -> Average:
    return Average(
        k,
        samples // k,
        {name: table.values[place + 1] for name, table in found.items()},
        {name: table.differences[place] for name, table in found.items()},
    )


def _crossover(values: Doubles, ladder: Sequence[int]) -> int | None:
    """The k from which on no value exceeds the first, that of weight scaling."""
    above = np.flatnonzero(values[1:] > values[0])
    place = 0 if above.size == 0 else int(above[-1]) + 1
    return ladder[place] if place < len(ladder) else None


def _crossover_interval(resampled: Doubles, ladder: Sequence[int]) -> tuple[int | None, int | None]:
    """The middle 95 % of the crossovers of the resamples; none at all counts as beyond the ladder."""
    places = [*ladder, None]
    found = sorted(places.index(_crossover(values, ladder)) for values in resampled.T)
    tail = int(0.025 * len(found))
    return places[found[tail]], places[found[-1 - tail]]


def _choose(verdict: dict[str, Estimate], samples: int) -> tuple[Use, str]:
    better = [NAMES[name] for name, one in verdict.items() if one.high < 0]
    worse = [NAMES[name] for name, one in verdict.items() if one.low > 0]
    if better and worse:
        return "either", (
            f"Use Monte Carlo where {_all(better)} matters, and weight scaling where {_all(worse)} does: "
            f"of {samples} samples the first is clearly better, the second clearly worse."
        )
    if better:
        rest = "and nothing is clearly worse" if len(verdict) > 1 else f"at {samples} passes instead of one"
        return (
            "monte carlo",
            f"Use Monte Carlo with {samples} samples: its {_all(better)} is clearly better, {rest}.",
        )
    if worse:
        return "weight scaling", (
            f"Use weight scaling: Monte Carlo with {samples} samples is clearly worse in {_all(worse)} and "
            "clearly better in nothing."
        )
    return "weight scaling", (
        f"Use weight scaling: {'no measure' if len(verdict) > 1 else 'nothing'} tells the two apart, and it "
        f"takes one pass where Monte Carlo takes {samples}."
    )


def _all(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _cautions(losses: Losses, measures: int, inputs: int) -> list[str]:
    rows = len(losses.ladder) + 1
    found = [
        "Intervals say what other inputs of the same kind would change; not what another training would, "
        "nor, at the last k, other masks.",
        f"Each of the {rows * measures} intervals of the table is at 95 %, so that some may miss; the "
        f"verdict's {measures} are widened to be at 95 % together."
        if measures > 1
        else f"Each of the {rows} intervals of the table is at 95 %, so that some may miss.",
    ]
    if inputs < _FEW:
        found.append(
            f"{inputs} inputs are few: differences that matter may not show, and intervals are rough."
        )
    if "error" not in losses.means:
        scaling, average = losses.coverage
        found.append(
            "The likelihood is normal, of the networks' spread and the noise of observations, which is "
            f"estimated from the other half of these inputs. Its 95 % intervals hold {scaling:.1%} of the "
            f"targets by weight scaling, {average:.1%} by Monte Carlo."
        )
        return found
    wrong = losses.means["error"]
    apart = int((wrong[:, 0] != wrong[:, -1]).sum())
    if apart == 0:
        found.append(
            f"On no input is one right and the other wrong, so that resampling shows no difference of error: "
            f"one of up to {min(1.0, 3 / inputs):.1%} (3 / {inputs}) could be true all the same."
        )
    elif apart < 10:
        found.append(
            f"The difference of error rests on {apart} inputs, on which one is right and the other wrong."
        )
    found.append("A calibration error is biased upwards, the more the fewer inputs there are.")
    return found
