"""A few hundred cases of the fuzz; `make fuzz` runs a hundred thousand, and others each time."""

import importlib.util

import numpy as np
import pytest
from fuzz import faces

import thinned
from thinned import _kernel, _numpy

SEED, CASES, BLOCK = 19, 300, 100


@pytest.mark.parametrize("first", range(0, CASES, BLOCK))
def test_cases_of_the_fuzz(first):
    names = [name for name in faces.FACES if name != "torch" or importlib.util.find_spec("torch")]
    path, threads, failed = _kernel.path(), _kernel._threads, []
    try:
        for number in range(first, first + BLOCK):
            what, wrong = faces.run(SEED, number, names, _kernel.paths())
            if wrong:
                failed.append((number, wrong, what))
    finally:
        _kernel.select(path)
        _kernel._threads = threads
    assert not failed, f"seed {SEED}: {failed}"


def test_a_case_is_a_function_of_seed_and_number():
    """And what is asked for differs from case to case."""
    names, paths = ["numpy", "mask"], _kernel.paths()
    path, threads = _kernel.path(), _kernel._threads
    try:
        runs = [[str(faces.run(3, number, names, paths)) for number in range(20)] for _ in range(2)]
    finally:
        _kernel.select(path)
        _kernel._threads = threads
    assert runs[0] == runs[1]
    assert len(set(runs[0])) == 20


def _writes_beside(dropout):
    def broken(x, *arguments, out=None, **words):
        result = dropout(x, *arguments, out=out, **words)
        if out is not None:
            out.base.view(np.uint8)[-1] ^= 1  # the last byte of the memory, which no element has
        return result

    return broken


def test_what_is_wrong_is_found(monkeypatch):
    """A wrong factor, a byte written beside the output, overlap that passes."""

    def cases():
        return [faces.run(5, number, ["numpy"], [_kernel.path()])[1] for number in range(120)]

    threads = _kernel._threads
    try:
        assert not any(cases())
        with monkeypatch.context() as patch:
            patch.setattr("thinned._numpy.effect", lambda drop, training, inverted: (drop, 1.5))
            assert "values differ" in cases()
        with monkeypatch.context() as patch:
            patch.setattr("thinned.dropout", _writes_beside(thinned.dropout))
            assert "memory beside out was written to" in cases()
        with monkeypatch.context() as patch:
            patch.setattr("thinned._numpy.overlaps_itself", lambda *_: False)
            assert "overlap was accepted" in cases()
        with monkeypatch.context() as patch:
            patch.setattr(_numpy, "_share_memory", lambda x, out: False)
            assert "overlap was accepted" in cases()
    finally:
        _kernel._threads = threads
