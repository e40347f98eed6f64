"""Monte Carlo dropout averages thinned networks, and gives each average a standard error.

`active`, `sites`, `predict` and `compare` are those of PyTorch, loaded when they are first asked for;
`thinned.mc.keras.predict` and `thinned.mc.jax.predict` draw the same samples with the same keys.
"""

# `_keys` gives a sample of an input its key, `_collect` and `_statistics` make statistics of samples;
# `torch`, `keras`, `jax` and `ray` draw them. `_compare` sets prediction against weight scaling.

from __future__ import annotations

from typing import TYPE_CHECKING

from thinned.mc._collect import SilentError
from thinned.mc._lazy import later
from thinned.mc._prediction import Prediction
from thinned.mc._regression import Noise, RegressionMeasures, estimate_noise

if TYPE_CHECKING:
    from thinned.mc._compare import compare
    from thinned.mc._comparison import Comparison
    from thinned.mc._measures import measures
    from thinned.mc.torch import Predictor, active, predict, sites

__all__ = [
    "Comparison",
    "Noise",
    "Prediction",
    "Predictor",
    "RegressionMeasures",
    "SilentError",
    "active",
    "compare",
    "estimate_noise",
    "measures",
    "predict",
    "sites",
]

_LATER = {
    "Comparison": "thinned.mc._comparison",
    "compare": "thinned.mc._compare",
    "measures": "thinned.mc._measures",
    **dict.fromkeys(("Predictor", "active", "predict", "sites"), "thinned.mc.torch"),
}

__getattr__ = later(__name__, _LATER)


def __dir__() -> list[str]:
    return sorted(__all__)
