"""The PyTorch front end (extra `thinned[torch]`), named as torch names things: `functional` and `nn`."""

from thinned.torch import functional, nn, schedules
from thinned.torch._keyed import keyed, set_step

__all__ = ["functional", "keyed", "nn", "schedules", "set_step"]
