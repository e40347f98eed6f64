"""What is dropped is not computed: thin sites, their switch, and the verbs that make and unmake them."""

from thinned.torch._thin._kept import masked
from thinned.torch._thin._thin import thin, unthin

__all__ = ["masked", "thin", "unthin"]
