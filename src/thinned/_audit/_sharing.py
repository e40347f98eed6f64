"""These rules find masks that are equal but should differ, or that share along a wrong dimension."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise

from thinned._audit._calls import LOCKED, PATHS, Evidence
from thinned._audit._masks import drops, same_masks, shared_dims
from thinned._audit._report import Finding


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


def axes(evidence: Evidence) -> Iterator[Finding]:
    """THN408: a mask shares along other dimensions than its layer is for."""
    for (name, number), calls in evidence.calls().items():
        seen = [call for call in calls if drops(call)]
        if number or not seen:
            continue
        shared, shape = shared_dims(seen), seen[0].shape or tuple(seen[0].input.shape)
        rest = [dim for dim in range(1, len(shape)) if shape[dim] > 1]
        what = ""
        if seen[0].kind == PATHS and not all(shared[dim] for dim in rest):
            what = "A path is dropped for a whole sample, and this mask differs inside a sample"
        elif seen[0].kind == PATHS and shape[0] >= 8 and shared[0] and not evidence.by_batch(name):
            what = "A path is dropped for each sample, and this one is dropped for the whole batch"
        elif seen[0].kind == LOCKED and not any(shared[dim] for dim in range(len(shape)) if shape[dim] > 1):
            what = "By its name its mask is shared along a dimension, and it is shared along none"
        if what:
            yield Finding(
                "THN408",
                name,
                f"{what} (shape {shape}).",
                "See which dimension is the batch, and which the features.",
                {"shape": shape, "shared": shared},
            )


def twice(evidence: Evidence) -> Iterator[Finding]:
    """THN410: the output of one site is the input of another."""
    run = evidence.trainings[0]
    made = {id(call.made): call for call in run.calls if drops(call) and call.made is not call.given}
    for call in run.calls:
        before = made.get(id(call.given))
        if before is not None and before is not call and drops(call):
            yield Finding(
                "THN410",
                call.name,
                f"Its input is what {before.name or 'another site'} has dropped: one larger rate.",
                "Keep one of them.",
            )


RULES = (between_sites, between_calls, between_steps, axes, twice)
