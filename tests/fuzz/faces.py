"""The front ends under test: each runs a case and says what is wrong, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import numpy as np
from fuzz.cases import draw
from fuzz.layouts import View, as_numpy, as_torch, same, view

import thinned
from thinned import _kernel


@contextmanager
def flushing(on: bool):
    """Subnormal numbers taken for zero, in this thread, where torch is there to do it."""
    if not on:
        yield
        return
    import torch

    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _flush(rng: np.random.Generator, torch: bool) -> bool:
    return torch and bool(rng.random() < 0.1)


def _check(
    source: View, before: np.ndarray, got: np.ndarray, target: View | None, expected: np.ndarray
) -> str:
    """Values, and that nothing else was written."""
    if not same(got, expected):
        return "values differ"
    after = (target or source).memory.copy()
    if target is None:
        return "" if np.array_equal(after, before) else "the input was written to"
    inside = target.touched() > 0
    return "" if np.array_equal(after[~inside], before[~inside]) else "memory beside out was written to"


def numpy_case(rng: np.random.Generator, torch: bool) -> tuple[Any, str]:
    """The NumPy front end, to a new array or an old one."""
    case = draw(rng, steps=False)
    where = str(rng.choice(["new", "new", "same", "view", "apart", "shifted", "tangled"]))
    source, flush = view(rng, case.shape, case.dtype), _flush(rng, torch)
    target = _target(rng, source, where)
    what = (case, where, source.strides, source.offset, target.strides, target.offset, flush)
    x = source.array
    expected, before = case.expected(x.copy()), target.memory.copy()
    if where == "new":
        with flushing(flush):
            got = thinned.dropout(x, **case.words())
        return what, _check(source, before, got, None, expected)
    clash = bool((target.touched() > 1).any())
    if target.memory is source.memory and not _one_place(source, target):
        clash |= bool(((target.touched() > 0) & (source.touched() > 0)).any())
    out = x if where == "same" else target.array
    try:
        with flushing(flush):
            got = thinned.dropout(x, **case.words(), out=out)
    except ValueError as error:
        said = "share memory" in str(error) or "overlaps" in str(error)
        refused = clash and said and np.array_equal(target.memory, before)
        return what, "" if refused else f"refused: {error}"
    if clash:
        return what, "overlap was accepted"
    if got is not out:
        return what, "out was not returned"
    return what, _check(source, before, got, target, expected)


def _target(rng: np.random.Generator, source: View, where: str) -> View:
    """Where the result goes: x itself, memory of its own, or the same memory otherwise."""
    if where == "shifted":
        used = np.flatnonzero(source.touched())
        room = int(source.memory.size - used.max() - 1) if used.size else 0
        far = int(rng.integers(0, room + 1))
        far -= far % source.dtype.itemsize if rng.random() < 0.7 else 0
        return View(source.memory, source.shape, source.strides, source.offset + far, source.dtype)
    if where not in ("apart", "tangled"):
        return source
    made = view(rng, source.shape, source.dtype)
    if where == "tangled":
        longer = max(made.memory, source.memory, key=len)
        made.memory = source.memory = longer
    return made


def _one_place(a: View, b: View) -> bool:
    steps = zip(a.shape, a.strides, b.strides, strict=True)
    return a.offset == b.offset and all(size < 2 or s == t for size, s, t in steps)


def torch_case(rng: np.random.Generator, torch: bool) -> tuple[Any, str]:
    """The torch front end: new or in place, with a gradient or without; and the operator."""
    import torch as t

    import thinned.torch.functional as F
    from thinned.torch import _key, _operator
    from thinned.torch._batching import OWN

    case = draw(rng, steps=True)
    source = view(rng, case.shape, case.dtype, torch=True)
    x, flush = as_torch(source), _flush(rng, torch)
    expected, before = case.expected(source.array.copy()), source.memory.copy()
    where = str(rng.choice(["new", "in place", "gradient", "operator", "given away"]))
    what = (case, where, source.strides, source.offset, flush)
    if where == "operator" and case.training:
        bits, p = _key.key_to_tensor(case.key), t.tensor(case.p, dtype=t.float64)
        shapes = [case.place.get(name) for name in ("noise_shape", "global_shape", "start", "step")]
        if shapes[0] is not None:
            shapes[0] = [1 if n == 1 else OWN for n in shapes[0]]
        with flushing(flush):
            got = _operator.dropout(x, bits, p, case.inverted, *shapes)
        return what, _check(source, before, as_numpy(got, case.dtype), None, expected)
    words = case.words()
    if where == "gradient":
        x = x.clone().requires_grad_()
        with flushing(flush):
            y = F.dropout(x, **words)
        upstream = view(rng, case.shape, case.dtype, torch=True)
        gradient = case.expected(upstream.array.copy())
        with flushing(flush):
            y.backward(as_torch(upstream))
        wrong = "" if same(as_numpy(y, case.dtype), expected) else "values differ"
        return what, wrong or ("" if same(as_numpy(x.grad, case.dtype), gradient) else "gradients differ")
    if where != "in place":
        with flushing(flush):
            got = F.dropout(x, **words)
        return what, _check(source, before, as_numpy(got, case.dtype), None, expected)
    clash = bool((source.touched() > 1).any())
    changes = case.p != 0 and (case.training or not case.inverted)
    try:
        with flushing(flush):
            got = F.dropout(x, **words, inplace=True)
    except (ValueError, RuntimeError) as error:
        return what, "" if clash and np.array_equal(source.memory, before) else f"refused: {error}"
    if clash and changes:
        return what, "overlap was accepted"
    return what, _check(source, before, as_numpy(got, case.dtype), source, expected)


def mask_case(rng: np.random.Generator, torch: bool) -> tuple[Any, str]:
    """Masks alone."""
    from thinned import contract

    case = draw(rng, steps=False)
    case.place.pop("noise_shape", None)
    place = {name: case.place[name] for name in ("global_shape", "start") if name in case.place}
    expected = np.empty(case.shape, bool)
    if expected.size:
        expected = contract.keep(case.key, case.positions(), contract.threshold(case.p))
    if torch and rng.random() < 0.4:
        import thinned.torch.functional as F

        got = F.keep_mask(case.shape, case.p, key=case.key, **place).numpy()
    else:
        got = thinned.keep_mask(case.shape, case.p, key=case.key, **place)
    return case, "" if np.array_equal(got, expected) else "masks differ"


Face = Callable[[np.random.Generator, bool], tuple[Any, str]]
FACES: dict[str, Face] = {"numpy": numpy_case, "torch": torch_case, "mask": mask_case}


def run(seed: int, number: int, faces: list[str], paths: list[str]) -> tuple[Any, str]:
    """Case `number` of a seed, on a code path and a number of threads that follow from it."""
    rng = np.random.default_rng([seed, number])
    path = str(rng.choice(paths))
    face = str(rng.choice(faces, p=_weights(faces)))
    _kernel.select(path)
    _kernel._threads = int(rng.integers(1, 4))
    what, wrong = FACES[face](rng, "torch" in faces)
    return (face, path, _kernel._threads, what), wrong


def _weights(faces: list[str]) -> np.ndarray:
    weights = np.array([1.0 if face == "mask" else 4.0 for face in faces])
    return weights / weights.sum()
