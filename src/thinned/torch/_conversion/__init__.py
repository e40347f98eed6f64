"""Whole models are converted here: to our layers and back, between scalings, and without dropout.

`_convert`, `_strip` and `_modes` are the verbs. `_trace` and `_consumers` find which weights a scale can move
to, `_walk` goes over a model's modules, and `_report` says what was done.
"""

from thinned.torch._conversion._convert import convert, unconvert
from thinned.torch._conversion._modes import to_classic, to_inverted
from thinned.torch._conversion._strip import strip

__all__ = ["convert", "strip", "to_classic", "to_inverted", "unconvert"]
