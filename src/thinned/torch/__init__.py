"""The PyTorch front end (extra `thinned[torch]`) has torch's names: `functional` and `nn`.

`import thinned.torch.transformers` registers `attn_implementation="thinned"` with the package transformers.
"""

# The operators are in `_operator`, `_attention` and `_triton`; `_site`, `_keyed` and `_clock` give layers
# their keys; `_conversion`, `_draws` and `_thin` change or run whole models. docs/design.md has a table.

from thinned._installed import needs

needs("thinned.torch", "torch", "torch")

from thinned.torch import flex, functional, inductor, integrations, nn, quantization, schedules
from thinned.torch._audit import audit
from thinned.torch._conversion import convert, strip, to_classic, to_inverted, unconvert
from thinned.torch._keyed import count_steps, keyed, set_step
from thinned.torch._keyed_draws import keys
from thinned.torch._r_drop import r_drop, twice
from thinned.torch._ranks import set_rank, set_rows
from thinned.torch._steps import Steps
from thinned.torch._thin import masked, thin, unthin
from thinned.torch.nn._learned import regularization
from thinned.torch.nn._members import members

__all__ = [
    "Steps",
    "audit",
    "convert",
    "count_steps",
    "flex",
    "functional",
    "inductor",
    "integrations",
    "keyed",
    "keys",
    "masked",
    "members",
    "nn",
    "quantization",
    "r_drop",
    "regularization",
    "schedules",
    "set_rank",
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


def __dir__() -> list[str]:
    return sorted(__all__)
