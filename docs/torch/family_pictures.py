"""These pictures show families whose rate is learned, or whose masks have a structure."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from sheet import EMPTY, KEPT, legend, mask, say, shades, sheet

from thinned import Key
from thinned.demo.drawing import BLUE
from thinned.torch import functional as F


def learned() -> Figure:
    """A relaxed mask as it becomes a mask."""
    figure, axes = sheet(50, 16, 0.125)
    p, key = torch.tensor(0.4), Key(2014)
    for place, temperature in enumerate((1.0, 0.3, 0.1)):
        y = F.concrete_dropout(torch.ones(10, 14), p, True, temperature=temperature, key=key) * 0.6
        shades(axes, 1.5 + 16 * place, 2.2, y.clamp(0, 1), f"temperature {temperature}")
    legend(axes, 1.5, 14.2, {"kept whole": BLUE, "kept to no part": EMPTY}, 12)
    return figure


def structured() -> Figure:
    """Masks of which names say what is shared, and spans."""
    figure, axes = sheet(50, 16, 0.125)
    ones, key = torch.ones(10, 14), Key(2014)
    masks = {
        '"NF", "F": columns': F.spatial_dropout(ones, 0.4, "NF", "F", True, key=key),
        '"NF", "N": nodes or tokens': F.spatial_dropout(ones, 0.4, "NF", "N", True, key=key),
        "mask_spans: a span each": F.mask_spans(ones, 6, 1, -1, True, key=key),
    }
    for place, (title, y) in enumerate(masks.items()):
        mask(axes, 1.5 + 16 * place, 2.2, y, title)
    legend(axes, 1.5, 14.2, KEPT, 6)
    return figure


def graphs() -> Figure:
    """One adjacency matrix, and a mini-batch of its edges."""
    figure, axes = sheet(34, 17, 0.125)
    rows, columns = torch.meshgrid(torch.arange(12), torch.arange(12), indexing="ij")
    edges = torch.stack([rows.flatten(), columns.flatten()])
    whole = F.drop_edge(edges, 0.4, True, num_nodes=12, key=Key(2014)).reshape(12, 12)
    part = F.drop_edge(edges.reshape(2, 12, 12)[:, 4:, :6].flatten(1), 0.4, True, num_nodes=12, key=Key(2014))
    mask(axes, 1.5, 2.2, whole, "edges of the whole graph")
    mask(axes, 18, 2.2, part.reshape(8, 6), "a mini-batch: rows 4 to 11")
    say(axes, 18, 12, "its edges keep their decisions", fontsize=8)
    legend(axes, 1.5, 15.4, KEPT, 6)
    return figure
