"""`thinned bench --gpu-model` computes from the compiled code what bounds the GPU kernels.

`_cases` names the launches, `_absent` compiles them without a GPU, `_code` reads the assembly, `_chips` has
what is published of the GPUs, `_model` puts them together and `_table` writes it down.
"""

from thinned.bench._gpu_model._absent import Absent, assembly, compiling, resources
from thinned.bench._gpu_model._cases import CASES, Case
from thinned.bench._gpu_model._chips import CHIPS
from thinned.bench._gpu_model._model import rows, select
from thinned.bench._gpu_model._row import Row
from thinned.bench._gpu_model._scores import SCORES, Scores
from thinned.bench._gpu_model._table import merged, page, table, write

__all__ = [
    "CASES",
    "CHIPS",
    "SCORES",
    "Absent",
    "Case",
    "Row",
    "Scores",
    "assembly",
    "compiling",
    "merged",
    "page",
    "resources",
    "rows",
    "select",
    "table",
    "write",
]
