"""A pytest plugin: kernels are compiled for GPUs that are not here, and what they take is read."""

import re
from collections.abc import Sequence

import pytest

from thinned.bench._gpu_model import assembly, compiling


class Kernels(Sequence):
    """Those of launches."""

    def __init__(self, launches):
        self.launches = launches

    def __len__(self):
        return len(self.launches)

    def __getitem__(self, index):
        return self.launches[index].kernel


@pytest.fixture
def made(request, monkeypatch, tmp_path):
    """The kernels made, in order of their launches; for a capability of 9.0 if no other is asked for."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    with compiling(getattr(request, "param", 90)) as launches:
        yield Kernels(launches)


def instructions(kernel):
    """Names of the instructions that the assembler made."""
    return re.findall(
        r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?([A-Z0-9_.]+)", assembly(kernel), re.MULTILINE
    )
