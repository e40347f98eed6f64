"""Dropout as modules, in the manner of `torch.nn`."""

from thinned.torch.nn._dropout import Dropout

__all__ = ["Dropout"]
