"""Dropout of a DTensor: each rank computes the part of the global mask that it holds, and asks no other rank."""

from thinned.torch._mesh._beside import beside, ones
from thinned.torch._mesh._found import check_source, is_dtensor, prepare

__all__ = ["beside", "check_source", "is_dtensor", "ones", "prepare"]
