"""Masks that should differ and do not, or that share along the wrong dimensions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import combinations, pairwise

import torch

from thinned.torch._audit._evidence import Evidence
from thinned.torch._audit._masks import drops, known, mask, multiplies, same_masks, shared_dims
from thinned.torch._audit._report import Finding
from thinned.torch._audit._watch import CHANNELS, LOCKED, PATHS, Call

_FEATURES_LAST = (
    torch.nn.Linear,
    torch.nn.LayerNorm,
    torch.nn.Embedding,
    torch.nn.LSTM,
    torch.nn.GRU,
    torch.nn.RNN,
)


def between_sites(evidence: Evidence) -> Iterator[Finding]:
    """THN405: two sites draw one mask."""
    sites = [calls for (_, number), calls in evidence.calls().items() if not number]
    for one, other in combinations(sites, 2):
        pairs = list(zip(one, other, strict=False))
        if len(pairs) > 1 and all(same_masks(a, b) for a, b in pairs):
            yield Finding(
                "THN405",
                other[0].name,
                f"It drops the same elements as {one[0].name or 'another site'}, in every pass.",
                "Give each site a key or a seed of its own.",
            )


def between_calls(evidence: Evidence) -> Iterator[Finding]:
    """THN406: a site that is called twice in a pass draws one mask."""
    sites = evidence.calls()
    for (name, number), calls in sites.items():
        before = sites.get((name, number - 1), [])
        pairs = list(zip(before, calls, strict=False))
        if number == 1 and len(pairs) > 1 and all(same_masks(a, b) for a, b in pairs):
            yield Finding(
                "THN406",
                name,
                "It is called twice in a pass, and drops the same elements.",
                "Say which call it is (call=1 for a keyed layer of thinned), or use two layers.",
            )


def between_steps(evidence: Evidence) -> Iterator[Finding]:
    """THN407: every pass draws the mask of the one before."""
    for (name, number), calls in evidence.calls().items():
        pairs = list(pairwise(calls))
        if not number and pairs and all(same_masks(a, b) for a, b in pairs):
            yield Finding(
                "THN407",
                name,
                "Every training pass drops the same elements: one fixed part of the network is trained.",
                "Tell a keyed model its step by thinned.torch.set_step; set no seed inside forward.",
            )


def backward(evidence: Evidence) -> Iterator[Finding]:
    """THN414: the backward pass has another mask than the forward pass."""
    named: set[str] = set()
    for call in _differing(evidence):
        if call.name not in named:
            named.add(call.name)
            yield Finding(
                "THN414",
                call.name,
                "Its gradient has another mask than its output.",
                "Leave preserve_rng_state on, or use keys; a gradient by hand takes the forward mask.",
            )


def _differing(evidence: Evidence) -> Iterator[Call]:
    run = evidence.trainings[0]
    first = {(call.name, call.number): call for call in run.calls if not call.again}
    for call in run.calls:
        if not multiplies(call):
            continue
        seen = known(call)
        if call.gradient is not None and bool(((call.gradient != 0) != mask(call))[seen].any()):
            yield call
        before = first.get((call.name, call.number))
        if call.again and before is not None and before.input.shape == call.input.shape:
            equal = torch.equal(before.input, call.input)
            if equal and bool((mask(before) != mask(call))[seen].any()):
                yield call


def axes(evidence: Evidence) -> Iterator[Finding]:
    """THN408: a mask shares along other dimensions than its layer is for."""
    for (name, number), calls in evidence.calls().items():
        seen = [call for call in calls if drops(call)]
        if number or not seen:
            continue
        shared, shape = shared_dims(seen), tuple(seen[0].input.shape)
        rest = [dim for dim in range(1, len(shape)) if shape[dim] > 1]
        what = ""
        if seen[0].kind == PATHS and not all(shared[dim] for dim in rest):
            what = "A path is dropped for a whole sample, and this mask differs inside a sample"
        elif seen[0].kind == PATHS and shape[0] >= 8 and shared[0] and not _by_batch(evidence, name):
            what = "A path is dropped for each sample, and this one is dropped for the whole batch"
        elif seen[0].kind == LOCKED and not any(shared[dim] for dim in range(len(shape)) if shape[dim] > 1):
            what = "By its name its mask is shared along a dimension, and it is shared along none"
        elif seen[0].kind == CHANNELS and _features_last(evidence, seen[0]):
            what = "It drops dimension 1, and its input has its features in the last one"
        if what:
            yield Finding(
                "THN408",
                name,
                f"{what} (shape {shape}).",
                "See which dimension is the batch, and which the features.",
                {"shape": shape, "shared": shared},
            )


def _by_batch(evidence: Evidence, name: str) -> bool:
    """Whether a layer says that it drops whole batches, as torchvision's does."""
    return getattr(evidence.model.get_submodule(name), "mode", None) == "batch"


def _features_last(evidence: Evidence, call: Call) -> bool:
    for run in evidence.trainings:
        for step in run.steps:
            if any(one is call.given for one in step.outputs):
                return isinstance(step.module, _FEATURES_LAST) and call.input.dim() > 2
    return False


def between_ranks(evidence: Evidence) -> Iterator[Finding]:
    """THN416: all ranks of a data-parallel run draw the masks of rank 0, for other samples."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    calls = [(c.name, c) for run in evidence.trainings[:1] for c in run.calls if drops(c) and not c.again]
    mine = [(name, _digest(call.input), _digest(mask(call))) for name, call in calls]
    all_ranks: list[list[tuple[str, str, str]]] = [[] for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(all_ranks, mine)
    for index, (name, data, bits) in enumerate(mine):
        others = [rank[index] for rank in all_ranks if len(rank) == len(mine)]
        if len(others) > 1 and all(other[2] == bits for other in others) and {o[1] for o in others} != {data}:
            yield Finding(
                "THN416",
                name,
                "All ranks drop the same elements of different samples.",
                "Tell each rank its rows by thinned.torch.set_rows, or seed the ranks apart.",
            )


def _digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()


def no_backward(evidence: Evidence) -> Iterator[Finding]:
    """THN417: the backward pass fails, often since dropout wrote over what a gradient needs."""
    if evidence.trainings[0].failed:
        yield Finding(
            "THN417",
            "",
            f"Its backward pass fails: {evidence.trainings[0].failed}.",
            "Dropout in place writes over what some gradients need: pass inplace=False.",
        )


RULES = (between_sites, between_calls, between_steps, axes, backward, no_backward, between_ranks)
