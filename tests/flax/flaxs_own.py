"""Run Flax's own tests of dropout with our layers in place of its own.

    python tests/flax/flaxs_own.py flax

The folder is that of a checkout of flax, of the version installed; files in it, or pytest's names of tests,
may follow. Where Flax's words of an error are asked for, a ValueError of ours is taken and printed: see
docs/flax/README.md. All else has to pass.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from unittest import mock

import flax.linen
import flax.nnx
import pytest

import thinned.flax

TESTS = ["tests/nnx/nn/stochastic_test.py", "tests/linen/linen_test.py::StochasticTest"]
flaxs_raises = pytest.raises


@contextlib.contextmanager
def or_our_error(kind, *, match=""):
    with flaxs_raises(kind) as seen:
        yield seen
    if "no `rngs` argument was provided to Dropout" in match and "Dropout has no key" in str(seen.value):
        print(f"\nruled otherwise: flax says {match!r}, we {str(seen.value)!r}")
        return
    assert seen.match(match)


def raises(kind, *args, **kwargs):
    return flaxs_raises(kind, *args, **kwargs) if args else or_our_error(kind, **kwargs)


def main(checkout, *tests):
    names = [str(Path(checkout) / test) for test in tests or TESTS]
    with (
        mock.patch.object(flax.nnx, "Dropout", thinned.flax.nnx.Dropout),
        mock.patch.object(flax.linen, "Dropout", thinned.flax.linen.Dropout),
        mock.patch.object(pytest, "raises", raises),
    ):
        options = ["-c", os.devnull, "-p", "no:cacheprovider", "-v", "-s", "--import-mode=importlib"]
        return pytest.main([*options, *names])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
