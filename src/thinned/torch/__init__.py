"""The PyTorch front end (extra `thinned[torch]`), named as torch names things: `functional` and `nn`."""

from thinned.torch import functional, nn, quantization, schedules
from thinned.torch._batch import set_rows
from thinned.torch._conversion import convert, strip, to_classic, to_inverted, unconvert
from thinned.torch._keyed import keyed, set_step

__all__ = [
    "convert",
    "functional",
    "keyed",
    "nn",
    "quantization",
    "schedules",
    "set_rows",
    "set_step",
    "strip",
    "to_classic",
    "to_inverted",
    "unconvert",
]
