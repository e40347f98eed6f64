"""The comparison of families is written here as Markdown."""

from __future__ import annotations

import statistics
from typing import Any

from thinned.demo.compared import MEASURES, Verdict, first, verdicts
from thinned.demo.section import paragraphs
from thinned.demo.statistics import Spread

_PERCENT = ("error", "calibration")


def as_markdown(data: dict[str, Any], command: str) -> str:
    """The whole report."""
    sizes = data["sizes"]
    text = f"""
        `{command}` trains one residual network (three blocks of {sizes["width"]} units) with each family
        at its usual rate: {sizes["train"]} samples of a bundled data set to train on, all others to test on,
        {sizes["epochs"]} epochs of Adam, {sizes["seeds"]} seeds. First weights, splits and the order of
        samples are alike for all families of a seed. Evaluation is by weight scaling, or by the mean of the
        members where masks are fixed.

        Means over the seeds ± standard errors. A difference from *none* is taken seed by seed; it is marked
        ▼ (better) or ▲ (worse) where it is clear at 5 % for all families at once (Student's t, Bonferroni),
        and not marked otherwise. A step is on one thread, its time over that without dropout.

        Rates are the usual ones and were not tuned here, and the networks are small: the tables say what
        these families do to this network, and not which is best elsewhere.
    """
    parts = ["# Families compared", "", "\n\n".join(paragraphs(text))]
    for name, rows in data["sets"].items():
        parts += ["", f"## {name.capitalize()}", "", *_table(rows, data["rates"]), ""]
        parts += [f"- {finding}" for finding in findings(rows)]
    return "\n".join(parts) + "\n"


def _table(rows: dict[str, Any], rates: dict[str, str]) -> list[str]:
    found = {key: verdicts(rows, key) for key in MEASURES}
    plain = statistics.median(rows["none"]["step"])
    head = ["family", "rate", *MEASURES.values(), "step"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, values in rows.items():
        cells = [_cell(key, found[key][name]) for key in MEASURES]
        step = statistics.median(values["step"]) / plain
        lines.append("| " + " | ".join([name, rates[name], *cells, f"{step:.2f} ×"]) + " |")
    return lines


def _cell(key: str, verdict: Verdict) -> str:
    mark = "" if not verdict.clear or verdict.gap is None else " ▼" if verdict.gap.mean < 0 else " ▲"
    return figures(key, verdict.value) + mark


def figures(key: str, one: Spread) -> str:
    """Mean and standard error, of shares as percentages."""
    if key in _PERCENT:
        return f"{100 * one.mean:.2f} ± {100 * one.error:.2f}"
    return f"{one.mean:.3f} ± {one.error:.3f}"


def findings(rows: dict[str, Any]) -> list[str]:
    """Gives what can be said of each measure, and that there is no winner where there is none."""
    found = []
    for key, title in MEASURES.items():
        best, equal = first(rows, key)
        listed = verdicts(rows, key)
        better = [name for name, one in listed.items() if one.clear and one.gap and one.gap.mean < 0]
        worse = [name for name, one in listed.items() if one.clear and one.gap and one.gap.mean > 0]
        words = [f"clearly better than none: {', '.join(better) or 'no family'}"]
        words.append(f"clearly worse: {', '.join(worse) or 'no family'}")
        if equal:
            words.append(f"no winner: {best} has the lowest mean, and {len(equal)} are not clearly behind it")
        else:
            words.append(f"{best} is clearly ahead of all others")
        found.append(f"{title.partition(',')[0]}: {'; '.join(words)}.")
    return found
