"""The PyTorch front end (extra `thinned[torch]`), named as torch names things: `functional` and `nn`.

`import thinned.torch.transformers` registers `attn_implementation="thinned"` with the package transformers.
"""

from thinned.torch import flex, functional, nn, quantization, schedules
from thinned.torch._audit import audit
from thinned.torch._batch import set_rows
from thinned.torch._conversion import convert, strip, to_classic, to_inverted, unconvert
from thinned.torch._keyed import count_steps, keyed, set_step
from thinned.torch._keys import keys
from thinned.torch._r_drop import r_drop, twice
from thinned.torch._thin import masked, thin, unthin
from thinned.torch.nn._learned import regularization
from thinned.torch.nn._members import members

__all__ = [
    "audit",
    "convert",
    "count_steps",
    "flex",
    "functional",
    "keyed",
    "keys",
    "masked",
    "members",
    "nn",
    "quantization",
    "r_drop",
    "regularization",
    "schedules",
    "set_rows",
    "set_step",
    "strip",
    "thin",
    "to_classic",
    "to_inverted",
    "twice",
    "unconvert",
    "unthin",
]
