"""In the tests of thin sites a gradient of any size is in memory that serves again."""

import pytest

from thinned.torch._thin import _spare


@pytest.fixture(autouse=True)
def memory_that_serves_again(monkeypatch):
    """The families are small, and from some size on memory is kept: here each way to use them has it."""
    monkeypatch.setattr(_spare, "_LEAST", 1)
