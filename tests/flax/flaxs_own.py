"""Run Flax's own tests of dropout with our layers in place of its own.

    python tests/flax/flaxs_own.py flax

The folder is that of a checkout of flax, of the version installed; files in it, or pytest's names of tests,
may follow. All have to pass.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from unittest import mock

import flax.linen
import flax.nnx
import pytest

import thinned.flax

TESTS = ["tests/nnx/nn/stochastic_test.py", "tests/linen/linen_test.py::StochasticTest"]


def main(checkout, *tests):
    names = [str(Path(checkout) / test) for test in tests or TESTS]
    with (
        mock.patch.object(flax.nnx, "Dropout", thinned.flax.nnx.Dropout),
        mock.patch.object(flax.linen, "Dropout", thinned.flax.linen.Dropout),
    ):
        options = ["-c", os.devnull, "-p", "no:cacheprovider", "-v", "-s", "--import-mode=importlib"]
        return pytest.main([*options, *names])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
