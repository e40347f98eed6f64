"""Monte Carlo dropout for PyTorch: dropout that is on in evaluation, and predictions with their spread."""

from thinned.mc._collect import SilentError
from thinned.mc._prediction import Prediction, Statistics
from thinned.mc.torch._active import Active, active, sites
from thinned.mc.torch._draws import Site
from thinned.mc.torch._predict import predict

__all__ = ["Active", "Prediction", "SilentError", "Site", "Statistics", "active", "predict", "sites"]
