"""This room has the private names of torch that the front end needs, each with its purpose and fallback.

All other files take them from here. Each file of this room holds the names of one part of torch: tensors,
layers, transforms and modes of calls, recorded graphs, activation checkpoints, and the compiler.
"""

# ruff: noqa: F403  # a list of the names would be a second list of all that the room holds
from thinned.torch._compat._checkpoints import *
from thinned.torch._compat._compiler import *
from thinned.torch._compat._graphs import *
from thinned.torch._compat._layers import *
from thinned.torch._compat._room import *
from thinned.torch._compat._tensors import *
from thinned.torch._compat._transforms import *
