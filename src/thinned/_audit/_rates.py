"""These rules compare the rate and scale that a site states with those that it applies."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from thinned._audit._calls import OTHER, Call, Evidence
from thinned._audit._masks import Z, decisions, drops, known, mask, multiplies, ratios, scale
from thinned._audit._report import Finding

_HALF_STEP = {"bfloat16": 2.0**-9, "float16": 2.0**-12}  # relative, of one rounding
_SMALL = 2e-4  # a bias below it is not worth a word


def never_drops(evidence: Evidence) -> Iterator[Finding]:
    """THN402: a site with a rate drops nothing in training."""
    for (name, _), calls in evidence.calls().items():
        p = calls[0].p
        if not p or evidence.frozen(name):
            continue
        if calls[0].kind == OTHER:
            silent = all(call.training is False for call in calls)
        else:
            seen = [call for call in calls if multiplies(call)]
            made = decisions(seen).kept if seen else np.zeros(0)
            silent = bool(made.size) and bool(made.all()) and made.size * math.log1p(-min(p, 0.999)) < -20
        if silent:
            yield Finding(
                "THN402",
                name,
                f"p is {p:g}, and nothing is dropped in training.",
                "Pass training=self.training; see that nothing calls eval() on it.",
                {"p": p},
            )


def realised_rate(evidence: Evidence) -> Iterator[Finding]:
    """THN404: what is dropped is not what p says: a probability to keep, or another scale of it."""
    for (name, number), calls in evidence.calls().items():
        p = calls[0].p
        if number or p is None or not 0 < p < 1 or any(call.p != p for call in calls):
            continue
        seen = [call for call in calls if multiplies(call)]
        if not seen:
            continue
        made = decisions(seen).kept
        share = 1 - float(made.mean())
        if not share:
            continue  # THN402's
        z = (share - p) / math.sqrt(p * (1 - p) / made.size)
        if abs(z) > Z and abs(share - p) > 0.005:
            swapped = abs(1 - share - p) < 0.1
            hint = "p is the probability to drop: pass 1 - keep_prob." if swapped else "See its code."
            yield Finding(
                "THN404",
                name,
                f"It drops {share:.3g} of its decisions, and p is {p:g} (z {z:+.0f}).",
                hint,
                {"p": p, "dropped": share, "z": z},
            )


def expectation(evidence: Evidence) -> Iterator[Finding]:
    """THN403: the expectation in training is not the value in evaluation."""
    evaluated = {(call.name, call.number): call for call in evidence.evaluations[0].calls}
    for (name, number), calls in evidence.calls().items():
        seen = [call for call in calls if multiplies(call)]
        if number or not seen:
            continue
        other = evaluated.get((name, number))
        if other is not None and drops(other):
            continue  # THN401's
        wanted = 1.0 if other is None or not multiplies(other) else scale(other)
        made = decisions(seen)
        share = float(made.kept.mean())
        factors = [scale(call) for call in seen if bool((known(call) & mask(call)).any())]
        if not 0 < share < 1 or not factors or math.isnan(wanted):
            continue
        factor = sum(factors) / len(factors)
        weight = made.weight / made.weight.sum()
        mean = factor * float((weight * made.kept).sum())
        error = factor * math.sqrt(share * (1 - share) * float(np.square(weight).sum()))
        z = (mean - wanted) / error if error else 0.0
        if abs(z) > Z and abs(mean - wanted) > 0.01 * wanted:
            yield Finding(
                "THN403",
                name,
                f"Its mean is {mean:.3g} of its input in training, {wanted:.3g} in evaluation (z {z:+.0f}).",
                "Divide what is kept by 1 - p in training, or multiply by 1 - p in evaluation.",
                {"training": mean, "evaluation": wanted, "z": z},
            )


def low_precision(evidence: Evidence) -> Iterator[Finding]:
    """THN415: in bfloat16 or float16 the scale is rounded before it is applied."""
    for (name, number), calls in evidence.calls().items():
        seen = [call for call in calls if multiplies(call) and call.p and call.dtype in _HALF_STEP]
        if number or not seen or not 0 < float(seen[0].p or 0) < 1:
            continue
        wanted = 1 / (1 - float(seen[0].p or 0))
        ratio, count = _mean_ratio(seen)
        bias = ratio / wanted - 1
        error = _HALF_STEP[seen[0].dtype] / math.sqrt(3 * max(count, 1))
        if count > 100 and abs(bias) > Z * error and abs(bias) > _SMALL and abs(bias) < 0.02:
            yield Finding(
                "THN415",
                name,
                f"What is kept is off by {bias:+.2%}: {seen[0].dtype} rounds the scale before it acts.",
                "The dropout of thinned rounds once.",
                {"bias": bias},
            )


def _mean_ratio(calls: list[Call]) -> tuple[float, int]:
    each = np.concatenate([ratios(call) for call in calls])
    return (float(each.mean()), each.size) if each.size else (0.0, 0)


RULES = (never_drops, expectation, realised_rate, low_precision)
