"""Run torch's own tests of its dropout layers with ours in their place.

    python tests/torch/torchs_own.py pytorch/test/nn/test_dropout.py

The file is that of a checkout of pytorch, of the version installed; it needs the package `expecttest`. Where
torch raises another error or only warns, a ValueError of ours is taken for it and printed: see
docs/torch/differences.md. All else has to pass.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import unittest
import warnings
from unittest import mock

import torch

import thinned.torch

LAYERS = ["Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"]
VERBS = ["dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"]


@contextlib.contextmanager
def or_our_error(_case, kind, pattern):
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            yield
    except ValueError as error:
        print(f"other message: torch has {kind.__name__} {pattern!r}, we ValueError {str(error)!r}")
        return
    assert any(issubclass(one.category, kind) for one in seen), f"neither {kind.__name__} nor ours"


def training_by_default(verb):
    """Ours wants to be told; torch's trains unless it is told not to."""
    return lambda input, p=0.5, training=True, inplace=False: verb(input, p, training, inplace)


def main(path):
    spec = importlib.util.spec_from_file_location("torchs_own_tests", path)
    with contextlib.ExitStack() as stack:
        for name in LAYERS:
            stack.enter_context(mock.patch.object(torch.nn, name, getattr(thinned.torch.nn, name)))
        for name in VERBS:
            ours = training_by_default(getattr(thinned.torch.functional, name))
            stack.enter_context(mock.patch.object(torch.nn.functional, name, ours))
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        case = module.NNTestCase
        stack.enter_context(mock.patch.object(case, "assertRaisesRegex", or_our_error))
        stack.enter_context(mock.patch.object(case, "assertWarnsRegex", or_our_error))
        suite = unittest.defaultTestLoader.loadTestsFromModule(module)
        result = unittest.TextTestRunner(verbosity=2).run(suite)
    return not result.wasSuccessful()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
