"""What is dropped is not computed: thin sites, their switch, and the verbs that make and unmake them.

`_thin` makes and unmakes a thin model. `_chains` and `_branches` find where it can be thinned; `_units`,
`_channels` and `_branch` are the sites; `_link`, `_kept` and `_submatrix` carry what one call keeps.
"""

from thinned.torch._thin._kept import masked
from thinned.torch._thin._thin import thin, unthin

__all__ = ["masked", "thin", "unthin"]
