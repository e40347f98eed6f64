"""Monte Carlo dropout for PyTorch: dropout that is on in evaluation, and predictions with their spread."""

from thinned._installed import needs

needs("thinned.mc.torch", "torch", "mc")

from thinned.mc.torch._active import active, sites
from thinned.mc.torch._predict import predict

__all__ = ["active", "predict", "sites"]
