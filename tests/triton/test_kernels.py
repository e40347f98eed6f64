"""The checks of this folder: under Triton's interpreter, and of what its compiler makes of the kernels.

Triton reads whether to interpret when it is imported, and its driver is the whole process's. So each runs in
a process of its own, where torch's compiler meets neither.
"""

import importlib.util
from pathlib import Path

import nested
import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed: it is for Linux alone"
)

HERE = Path(__file__).parent
# Two processes, which take about as long: one starts in 4 s of a processor's time.
CHECKS = {
    "kernels": (
        *("alpha", "block", "census", "defects", "fused", "gaussian", "layouts", "masks", "norms"),
        *("numbers_of_keys", "operators"),
    ),
    "attention": ("attention",),
}
COMPILED = ("machine_code", "static_model", "attention_code")
# torch's own, where a derivative of its own is compiled.
WARNINGS = ["-W", "ignore:.torch.jit.script. is deprecated:DeprecationWarning"]


def cases(request, interpret, *arguments):
    """What pytest does in a Python of its own, with this run's choice of cases."""
    marks = request.config.option.markexpr
    command = ["-m", "pytest", "-q", "--no-header", "-p", "nested_cases", "-m", marks, *arguments]
    return nested.ran(command, {"TRITON_INTERPRET": interpret}, [HERE, HERE.parent])


@pytest.mark.parametrize("name", CHECKS)
def test_interpreted(request, subtests, name):
    files = ("-p", "interpreted", *(str(HERE / f"{check}.py") for check in CHECKS[name]))
    nested.show(cases(request, "1", *WARNINGS, *files), subtests)


def test_compiled(request, subtests):
    files = ("-p", "absent_gpu", *(str(HERE / f"{check}.py") for check in COMPILED))
    nested.show(cases(request, "0", *files), subtests)
