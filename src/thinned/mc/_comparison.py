"""A comparison of Monte Carlo dropout with weight scaling is held and worded here."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from thinned.contract import Key
from thinned.mc._bootstrap import Estimate

Use = Literal["weight scaling", "monte carlo", "either"]

NAMES: Final = {
    "error": "error",
    "nll": "negative log-likelihood",
    "brier": "Brier score",
    "calibration": "calibration error",
    "rmse": "RMSE",
}
_PERCENT: Final = ("error", "calibration")


@dataclass(frozen=True)
class Average:
    """The average of k samples.

    Attributes:
        k: samples averaged.
        groups: disjoint groups of k samples over which the figures are averaged.
        values: an estimate for each measure.
        differences: of the same less weight scaling's, on the same inputs.
    """

    k: int
    groups: int
    values: dict[str, Estimate]
    differences: dict[str, Estimate]


@dataclass(frozen=True)
class Comparison:
    """Weight scaling against Monte Carlo dropout, for one model and data; `print` it.

    Attributes:
        inputs: how many there were.
        samples: how many were drawn of each.
        key: the key they were drawn with.
        weight_scaling: an estimate for each measure: "error", "nll", "brier" and "calibration" of classes,
            "rmse" and "nll" of values. Intervals are at 95 % each.
        averages: the same for averages of k samples, k rising up to `samples`.
        verdict: Monte Carlo with all samples less weight scaling, for each measure, in intervals so wide that
            all of them together are at 95 %. `use` rests on these and on nothing else.
        crossover: the k of these from which on the first measure (error or RMSE) is no larger than
            weight scaling's; None if that is so for no k up to `samples`.
        crossover_interval: where the crossover lies in 95 % of the resamples of the inputs.
        coverage: of values, share of the targets inside 95 % intervals that hold the noise of observations,
            for "weight scaling" and "monte carlo" with all samples; empty of classes.
        use: "weight scaling", "monte carlo", or "either".
        reason: why, in a sentence.
        cautions: what these figures do not say.

    Example:
        >>> import torch
        >>> from thinned.mc._compare import compare
        >>> model = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(4, 4))
        >>> data = torch.eye(4).repeat(5, 1), torch.arange(4).repeat(5)
        >>> found = compare(model, data, samples=10, resamples=99)
        >>> [one.k for one in found.averages], list(found.verdict)
        ([1, 2, 5, 10], ['error', 'nll', 'brier', 'calibration'])
    """

    inputs: int
    samples: int
    key: Key
    weight_scaling: dict[str, Estimate]
    averages: tuple[Average, ...]
    verdict: dict[str, Estimate]
    crossover: int | None
    crossover_interval: tuple[int | None, int | None]
    use: Use
    reason: str
    cautions: tuple[str, ...]
    coverage: dict[str, float] = field(default_factory=dict)

    @property
    def ladder(self) -> tuple[Average, ...]:
        """The old name of `averages`, for one release."""
        warnings.warn("Comparison.ladder is now Comparison.averages", DeprecationWarning, stacklevel=2)
        return self.averages

    def header(self) -> tuple[str, ...]:
        """The columns of `rows`."""
        return ("", *(NAMES[name] for name in self.weight_scaling))

    def rows(self) -> list[tuple[str, ...]]:
        """Weight scaling and each k, every figure with its interval, in text."""
        told = [("weight scaling", self.weight_scaling), *((f"k = {r.k}", r.values) for r in self.averages)]
        last = self.averages[-1]
        rows = [(label, *(_shown(name, one) for name, one in values.items())) for label, values in told]
        return [
            *rows,
            (f"k = {last.k} − scaling", *(_shown(name, one, "+") for name, one in last.differences.items())),
        ]

    def sentences(self) -> tuple[str, ...]:
        """Tells which to use and why, the crossover, and the cautions."""
        return (self.reason, _crossing(self), *self.cautions)

    def to_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return asdict(self)

    def to_markdown(self) -> str:
        """All of it, as Markdown."""
        table = [self.header(), ("---",) * len(self.header()), *self.rows()]
        lines = ["| " + " | ".join(row) + " |" for row in table]
        text = [
            f"**{self.reason}**",
            _crossing(self),
            "\n".join(lines),
            *(f"- {one}" for one in self.cautions),
        ]
        return f"# {self.title()}\n\n" + "\n\n".join(text[:3]) + "\n\n" + "\n".join(text[3:]) + "\n"

    def title(self) -> str:
        """Gives what was compared."""
        return (
            f"Weight scaling and Monte Carlo dropout on {self.inputs:,} inputs, {self.samples} samples each"
        )

    def __str__(self) -> str:
        table = [self.header(), *self.rows()]
        widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table
        ]
        return "\n".join([self.title(), "", *(line.rstrip() for line in lines), "", *self.sentences()])


def _shown(name: str, one: Estimate, sign: str = "") -> str:
    scale, digits = (100, 2) if name in _PERCENT else (1, 4)
    low, high = (f"{scale * limit:{sign}.{digits}f}" for limit in (one.low, one.high))
    unit = "" if name not in _PERCENT else " points" if sign else " %"
    text = f"{scale * one.value:{sign}.{digits}f}{unit} ({low} … {high})"
    return text.replace("-", "−")


def _crossing(found: Comparison) -> str:
    first = NAMES[next(iter(found.weight_scaling))]
    low, high = (_place(k, found.samples) for k in found.crossover_interval)
    range_ = f"in 95 % of the resamples of the inputs that is {low}"
    range_ += "" if low == high else f" to {high}"
    if found.crossover is None:
        return (
            f"For no k up to {found.samples} is Monte Carlo's {first} as small as weight scaling's; {range_}."
        )
    return (
        f"From k = {found.crossover} on, Monte Carlo's {first} is no larger than weight scaling's; {range_}."
    )


def _place(k: int | None, samples: int) -> str:
    return f"none up to {samples}" if k is None else f"k = {k}"
