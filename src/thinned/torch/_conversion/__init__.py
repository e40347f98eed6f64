"""Whole models: from torch.nn's dropout to ours and back, from one scaling to the other, and without any."""

from thinned.torch._conversion._convert import convert, unconvert
from thinned.torch._conversion._modes import to_classic, to_inverted
from thinned.torch._conversion._strip import strip

__all__ = ["convert", "strip", "to_classic", "to_inverted", "unconvert"]
