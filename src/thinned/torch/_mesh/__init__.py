"""Each rank computes its part of a DTensor's global mask, without communication."""

from thinned.torch._mesh._alignment import beside, ones
from thinned.torch._mesh._detection import check_source, is_dtensor, prepare, register

__all__ = ["beside", "check_source", "is_dtensor", "ones", "prepare", "register"]
