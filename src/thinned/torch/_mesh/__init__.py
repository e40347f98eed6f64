"""Each rank computes its part of a DTensor's global mask, without communication."""

from thinned.torch._mesh._detection import beside, check_source, is_dtensor, ones, prepare, register

__all__ = ["beside", "check_source", "is_dtensor", "ones", "prepare", "register"]
