"""These classes are returned by public functions: for annotations and `isinstance`.

Each is loaded, with its framework, when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thinned.mc._lazy import later

if TYPE_CHECKING:
    from thinned._audit._report import Audit
    from thinned.mc._measures import Measures
    from thinned.mc.torch._active import Active
    from thinned.torch._draws import Draw
    from thinned.torch._keyed import Counting
    from thinned.torch._keyed_draws import Keys

__all__ = ["Active", "Audit", "Counting", "Draw", "Keys", "Measures"]

_LATER = {
    "Active": "thinned.mc.torch._active",
    "Audit": "thinned._audit._report",
    "Counting": "thinned.torch._keyed",
    "Draw": "thinned.torch._draws",
    "Keys": "thinned.torch._keyed_draws",
    "Measures": "thinned.mc._measures",
}

__getattr__ = later(__name__, _LATER)


def __dir__() -> list[str]:
    return sorted(__all__)
