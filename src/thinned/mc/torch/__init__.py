"""Monte Carlo dropout for PyTorch: dropout that is on in evaluation, and predictions with their spread."""

from thinned.mc.torch._active import active, sites
from thinned.mc.torch._predict import predict
from thinned.mc.torch._predictor import Predictor

__all__ = ["Predictor", "active", "predict", "sites"]
