"""AutoGraph, which would rewrite functions of ours that a `tf.function` calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import tensorflow as tf

Function = TypeVar("Function", bound=Callable[..., Any])


def as_written(function: Function) -> Function:
    """The function as it is, in graphs too."""
    kept: Function = tf.autograph.experimental.do_not_convert(function)
    return kept
