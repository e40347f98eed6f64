"""The reference computes under IEEE 754's rules here, as native/environment.h makes the kernel do."""

from __future__ import annotations

import ctypes
import sys
from contextlib import ContextDecorator
from typing import Any, Final

_DEFAULT: Final = ctypes.c_void_p(-1)  # FE_DFL_ENV of Linux's C libraries


class ieee(ContextDecorator):
    """Rounding to nearest and subnormal numbers, whatever the calling thread is set to; then as before.

    `torch.set_flush_denormal` makes a thread take subnormal numbers for zero. On Linux alone.
    """

    def __enter__(self) -> ieee:
        self._before = _enter()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._before is not None:
            _library.fesetenv(self._before)

    def _recreate_cm(self) -> ieee:
        return ieee()  # a state of its own for each call of what it decorates


_library: Any = ctypes.CDLL(None) if sys.platform.startswith("linux") else None


def _enter() -> Any:
    if not hasattr(_library, "fesetenv"):
        return None
    before = ctypes.create_string_buffer(256)  # more than any processor's takes
    _library.fegetenv(before)
    _library.fesetenv(_DEFAULT)
    return before
