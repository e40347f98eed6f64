"""torch's compiler calls our operators as they are, also where it is to call none that it does not know."""

from __future__ import annotations

import sys
from typing import Any

_OPERATORS = (
    "alpha_dropout",
    "attention",
    "attention_backward",
    "draw_key",
    "drop_block",
    "dropout",
    "dropout_add",
    "dropout_add_norm",
    "dropout_add_norm_backward",
    "fold",
    "gaussian_dropout",
    "keep_fixed",
    "keep_mask",
    "kept",
    "largest",
    "numbers",
    "once",
    "recurrent",
    "words_at",
)


def tell() -> None:
    """Put them on the compiler's list; to be called while it traces, since nobody else imports it.

    With `torch._inductor.config.implicit_fallbacks = False` it refuses what is not there. A torch that keeps
    no such list needs none.
    """
    lowering: Any = sys.modules.get("torch._inductor.lowering")
    known = getattr(lowering, "FALLBACK_ALLOW_LIST", None)
    if known is not None:
        known.update(f"thinned::{name}" for name in _OPERATORS)
