"""A keyed network whose masks are noted, and what they should be."""

import torch
from torch import nn

import thinned

BATCH = 8


class Noting(nn.Module):
    """A network that returns a loss, and notes the mask of every pass that trains."""

    def __init__(self, keyed=True):
        super().__init__()
        torch.manual_seed(3)
        self.first, self.drop, self.last = nn.Linear(64, 16), thinned.torch.nn.Dropout(0.5), nn.Linear(16, 10)
        self.masks = []
        if keyed:
            thinned.torch.keyed(self, 7)

    def forward(self, x, labels=None):
        if self.training:
            with torch.no_grad():
                self.masks.append(self.drop(torch.ones(len(x), 16)) != 0)
        logits = self.last(self.drop(torch.relu(self.first(x))))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits}


def of_step(step, rows=BATCH, rank=0, world=1):
    """The mask of a step, asked of the contract."""
    whole = thinned.keep_mask((rows * world, 16), 0.5, key=thinned.Key(7).fold("drop").fold(step))
    return torch.from_numpy(whole)[rank * rows : (rank + 1) * rows]


def assert_masks(masks, steps, **options):
    assert len(masks) == len(list(steps))
    for mask, step in zip(masks, steps, strict=True):
        assert torch.equal(mask, of_step(step, **options)), f"step {step}"


def assert_equal_weights(one, other):
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
