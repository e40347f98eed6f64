"""DropBlock as its paper says it, without a kernel."""

import itertools

import numpy as np
import torch

import thinned
from thinned.torch import functional
from thinned.torch._block import seed_rate

VERBS = {1: functional.drop_block1d, 2: functional.drop_block2d, 3: functional.drop_block3d}


def covering(sizes, block):
    """For each element of a map, the first elements of the blocks that cover it, one by one."""
    firsts = list(itertools.product(*(range(s - b + 1) for s, b in zip(sizes, block, strict=True))))
    for place in itertools.product(*(range(s) for s in sizes)):
        yield (
            place,
            [
                first
                for first in firsts
                if all(f <= i < f + b for f, i, b in zip(first, place, block, strict=True))
            ],
        )


def plain_dropped(shape, p, block, key):
    """True where dropped: a loop over samples, channels, places and their blocks."""
    sizes = shape[2:]
    firsts = [s - b + 1 for s, b in zip(sizes, block, strict=True)]
    rate = seed_rate(thinned.threshold(p) / 2**32, sizes, block)
    kept = thinned.keep_mask((*shape[:2], *firsts), rate, key=key)
    dropped = np.zeros(shape, dtype=bool)
    for place, over in covering(sizes, block):
        for first in over:
            dropped[(..., *place)] |= ~kept[(..., *first)]
    return torch.from_numpy(dropped)


def plain(x, p, block, key):
    dropped = plain_dropped(tuple(x.shape), p, block, key)
    out = torch.zeros_like(x)
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    for i in range(x.shape[0]):
        kept = int((~dropped[i]).sum())
        if kept:
            scale = torch.tensor(dropped[i].numel() / kept, dtype=torch.float64).to(wide)
            out[i] = torch.where(dropped[i], 0.0, (x[i].to(wide) * scale)).to(x.dtype)
    return out
