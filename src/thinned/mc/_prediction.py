"""A prediction holds averages over many thinned networks, each with its standard error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from thinned.mc import _pictures, _regression, _tables
from thinned.mc._regression import RegressionMeasures
from thinned.mc._statistics import Doubles, Sampled


@dataclass(frozen=True, repr=False)
class Prediction(Sampled):
    """Holds what `predict` returns: statistics over the samples, in NumPy arrays of float64.

    Attributes:
        standard_error: of each statistic, as an estimate of what infinitely many samples would give.
        samples: how many each input had; integers of shape (n,).
        draws: the samples themselves if they were asked for, shape (S, n, …), float32 or as the model gave;
            NaN beyond an input's own number.

    Example:
        >>> import thinned, torch
        >>> from thinned import mc
        >>> options = {"samples": 40, "key": thinned.Key(0), "outputs": "values"}
        >>> found = mc.predict(torch.nn.Dropout(0.5), torch.ones(2, 3), **options)
        >>> bool(((found.mean - 1) / found.standard_error.mean < 4).all()), found.samples.tolist()
        (True, [40, 40])
    """

    def interval(self, level: float = 0.95, *, noise: Any = None) -> tuple[Doubles, Doubles]:
        """The limits between which an observation of each input lies with this probability.

        mean ± t · √(std² (1 + 1/S) + noise²), t of the normal distribution, or of Student's where the noise
        was estimated. `std` alone is no such thing: it says how much the networks disagree, and nothing of
        how observations scatter.

        Args:
            level: in (0, 1).
            noise: of the observations: what `estimate_noise` returns, or a standard deviation. With
                `outputs="gaussian"` it is the model's own. 0 gives the interval of the networks alone.

        Returns:
            The lower and the upper limits, of the mean's shape.

        Raises:
            ValueError: `level must be in (0, 1), got …`; `noise is not known: …`; `intervals are of
                values …`.
        """
        return _regression.interval(self, level, noise)

    def measures(self, targets: Any, *, level: float = 0.95, noise: Any = None) -> RegressionMeasures:
        """Tells how good predictions of values are for these observations: RMSE, likelihood, coverage, width.

        Args:
            targets: of the mean's shape, or (n,) for a single output.
            level: of the intervals.
            noise: as for `interval`.

        Raises:
            ValueError: `targets must have shape …, got …`; as `interval`.
        """
        return _regression.measure(self, targets, level, noise)

    def plot_coverage(self, targets: Any, *, noise: Any = None, axes: Any = None) -> Any:
        """Draw the share of observations inside their interval against its level (needs matplotlib).

        Below the diagonal the intervals are too narrow. Returns the axes.
        """
        return _pictures.coverage(self, targets, noise, axes)

    def plot_intervals(
        self, targets: Any = None, *, level: float = 0.95, noise: Any = None, axes: Any = None
    ) -> Any:
        """Draw the mean and interval of each input, in order of the mean (needs matplotlib)."""
        return _pictures.intervals(self, targets, level, noise, axes)

    def plot_calibration(self, labels: Any, *, bins: int = 10, axes: Any = None) -> Any:
        """Draw accuracy against confidence of the likeliest class (needs matplotlib)."""
        return _pictures.calibration(self, labels, bins, axes)

    def to_pandas(self) -> Any:
        """A data frame of one row for each input (needs pandas): `mean`, `std`, their errors, `samples`.

        Columns of several outputs are numbered, `mean_0`, `mean_1`, …; draws are left out.
        """
        return _tables.to_pandas(self)

    def summary(self) -> str:
        """Gives what is in it, in some lines: sizes, ranges, and how well the mean is known."""
        return _tables.summary(self)

    def save(self, path: Any) -> None:
        """Write it to an .npz file, which NumPy reads too.

        Raises:
            ValueError: `path must end in .npz, got …`.
        """
        _tables.save(self, path)

    @classmethod
    def load(cls, path: Any) -> Self:
        """Read what `save` has written; nothing in the file is run.

        Raises:
            ValueError: `… holds no prediction: …`.
        """
        return cls(**_tables.load(path))

    def __repr__(self) -> str:
        return _tables.short(self)
