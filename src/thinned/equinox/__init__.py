"""This package has dropout for Equinox, in the manner of `equinox.nn`.

`thinned.equinox.nn.Dropout` is `thinned.equinox.Dropout` too.
"""

from thinned._installed import needs

needs("thinned.equinox", "equinox", "equinox")

from thinned.equinox import nn
from thinned.equinox.nn import Dropout

__all__ = ["Dropout", "nn"]


def __dir__() -> list[str]:
    return sorted(__all__)
