"""The PyTorch front end (extra `thinned[torch]`): `functional` and `nn`, named as torch names them."""

from thinned.torch import functional, nn

__all__ = ["functional", "nn"]
