"""This package has Monte Carlo dropout for PyTorch."""

# `_active` switches dropout on in evaluation. `_predict` opens a `_run`: `_program` traces the model,
# `_batch` draws samples of it, and `_sampling` gives each stochastic call its key.

from thinned._installed import needs

needs("thinned.mc.torch", "torch", "mc")

from thinned.mc.torch._active import active, sites
from thinned.mc.torch._predict import predict
from thinned.mc.torch._predictor import Predictor

__all__ = ["Predictor", "active", "predict", "sites"]


def __dir__() -> list[str]:
    return sorted(__all__)
