"""These pictures show masks: what each family drops together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from matplotlib.figure import Figure
from sheet import EMPTY, KEPT, legend, mask, say, shades, sheet

from thinned import Key
from thinned.demo.drawing import BLUE, GREY, INK, RED, row
from thinned.torch import functional as F
from thinned.torch import keyed, nn

KEY: Final = Key(2014)


def _ones(*shape: int) -> torch.Tensor:
    """What shows a mask best."""
    return torch.ones(shape)


def dropout() -> Figure:
    """A mask, and how the masks of one key lie in one another."""
    figure, axes = sheet(56, 34, 0.125)
    y = F.dropout(_ones(16, 48), 0.3, training=True, key=KEY)
    mask(axes, 7, 2, y, f"dropout(x, 0.3): {int((y != 0).sum())} of {y.numel()} elements are kept")
    rates = [n / 10 for n in range(1, 10)]
    nested = torch.stack([F.dropout(_ones(48), p, training=True, key=KEY) for p in rates])
    mask(axes, 7, 22, nested, "one key, nine probabilities: what is dropped stays dropped at every larger p")
    for line, p in enumerate(rates):
        say(axes, 6.4, 22.5 + line, f"p {p}", ha="right", fontsize=7)
    legend(axes, 7, 32.4, KEPT, 6)
    return figure


def noise_shape() -> Figure:
    """Who shares a decision, and a p for each row."""
    figure, axes = sheet(59, 16, 0.12)
    p = torch.linspace(0, 0.9, 10)[:, None]
    kinds: dict[str, dict[str, Any]] = {
        "one for each element": {},
        "noise_shape=(None, 1)": {"noise_shape": (None, 1)},
        "noise_shape=(1, None)": {"noise_shape": (1, None)},
        "p[:, None], 0 to 0.9": {"p": p},
    }
    for place, (title, how) in enumerate(kinds.items()):
        y = F.dropout(_ones(10, 12), **{"p": 0.4, "training": True, "key": KEY, **how})
        mask(axes, 1.5 + 14.5 * place, 2.2, y)
        say(axes, 1.5 + 14.5 * place, 1.2, title, fontsize=8)
    legend(axes, 1.5, 14, KEPT, 6)
    return figure


def channels() -> Figure:
    """Elements beside whole channels, of eight maps."""
    figure, axes = sheet(57, 21, 0.125)
    x = _ones(1, 8, 6, 6)
    verbs: dict[str, Callable[..., torch.Tensor]] = {
        "dropout(x, 0.4): elements of 8 channels of 6 × 6": F.dropout,
        "dropout2d(x, 0.4): whole channels": F.dropout2d,
    }
    for line, (title, verb) in enumerate(verbs.items()):
        y = verb(x, 0.4, training=True, key=KEY.fold(4))[0]
        for channel in range(8):
            mask(axes, 1 + 7 * channel, 2 + 9 * line, y[channel], title if not channel else "")
    legend(axes, 1, 19.6, KEPT, 6)
    return figure


def alpha() -> Figure:
    """A standard normal input after dropout and after alpha dropout."""
    figure, panels = row(3, 7.2, 2.6)
    x = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    results = {
        "input": x,
        "dropout, p 0.2": F.dropout(x, 0.2, training=True, key=KEY),
        "alpha_dropout, p 0.2": F.alpha_dropout(x, 0.2, training=True, key=KEY),
    }
    for axes, (title, y) in zip(panels, results.items(), strict=True):
        axes.hist(y.numpy(), bins=60, range=(-4, 4), density=True, color=BLUE)
        mean, variance = round(y.mean().item(), 2) + 0.0, y.var().item()
        axes.set_title(f"{title}\nmean {mean:.2f}, variance {variance:.2f}", fontsize=9, color=INK)
        axes.set_yscale("log")
        axes.set_ylim(1e-3, 4)
        axes.tick_params(labelsize=7)
    panels[0].set_ylabel("density, logarithmic", fontsize=8)
    return figure


def locked() -> Figure:
    """Time runs to the right: columns of a locked mask are equal."""
    figure, axes = sheet(59, 19.5, 0.12)
    x = _ones(2, 17, 12)  # (B, T, F)
    plain = F.dropout(x, 0.4, training=True, key=KEY.fold(1))
    equal = F.locked_dropout(x, 0.4, training=True, batch_first=True, key=KEY.fold(1))
    panels = {"dropout, sample 0": plain[0], "locked_dropout, sample 0": equal[0], "sample 1": equal[1]}
    for place, (title, y) in enumerate(panels.items()):
        mask(axes, 3 + 18.8 * place, 2.2, y.T, title)
        say(axes, 3 + 18.8 * place, 15, "time →", fontsize=8, color=GREY)
    say(axes, 1.6, 8.2, "features", rotation=90, ha="center", fontsize=8, color=GREY)
    legend(axes, 3, 17.8, KEPT, 6)
    return figure


def head() -> Figure:
    """Samples by heads, decided for each and for the batch."""
    figure, axes = sheet(58, 16, 0.12)
    for place, shared in enumerate((False, True)):
        y = F.drop_head(_ones(24, 8), 0.3, training=True, shared=shared, key=KEY)
        mask(axes, 6 + 27 * place, 2.2, y.T, "shared=True" if shared else "drop_head")
        say(axes, 6 + 27 * place, 11, "samples of a batch →", fontsize=8, color=GREY)
    say(axes, 3, 6.2, "heads", rotation=90, ha="center", fontsize=8, color=GREY)
    legend(axes, 6, 13.8, {"head kept": BLUE, "head dropped": EMPTY}, 9)
    return figure


def layer() -> Figure:
    """Steps by layers of a stack."""
    figure, axes = sheet(58, 20, 0.12)
    for place, p in enumerate((0.2, 0.5)):
        masks = [F.dropout(_ones(12), p, training=True, key=KEY.fold(step)) for step in range(24)]
        mask(axes, 6 + 27 * place, 2.2, torch.stack(masks, 1), f"layer_drop, p {p}")
        say(axes, 6 + 27 * place, 15, "steps →", fontsize=8, color=GREY)
    say(axes, 3, 8.2, "← deeper", rotation=90, ha="center", fontsize=8, color=GREY)
    legend(axes, 6, 17.8, {"layer runs": BLUE, "layer not run, x passes": EMPTY}, 11)
    return figure


def path() -> Figure:
    """Samples by blocks of a network, p rising with the depth."""
    figure, axes = sheet(58, 20, 0.12)
    rates = [n / 22 for n in range(12)]
    verbs: dict[str, Callable[..., torch.Tensor]] = {
        'drop_path, or stochastic_depth(mode="row")': lambda p, key: F.drop_path(
            _ones(24, 1), p, training=True, key=key
        ),
        'stochastic_depth(mode="batch")': lambda p, key: F.stochastic_depth(
            _ones(24, 1), p, "batch", training=True, key=key
        ),
    }
    for place, (title, verb) in enumerate(verbs.items()):
        y = torch.cat([verb(p, KEY.fold(depth)) for depth, p in enumerate(rates)], 1)
        mask(axes, 6 + 27 * place, 2.2, y.T, title)
        say(axes, 6 + 27 * place, 15, "samples of a batch →", fontsize=8, color=GREY)
    say(axes, 5.4, 2.7, "p 0", ha="right", fontsize=7)
    say(axes, 5.4, 13.7, f"p {rates[-1]}", ha="right", fontsize=7)
    say(axes, 3, 8.2, "← deeper", rotation=90, ha="center", fontsize=8, color=GREY)
    legend(axes, 6, 17.8, {"branch kept": BLUE, "branch dropped, x passes": EMPTY}, 11)
    return figure


def block() -> Figure:
    """The same share dropped by elements and by blocks, and where blocks drop more often."""
    figure, axes = sheet(95, 36, 0.075)
    x = _ones(1, 1, 28, 28)
    by_element = F.dropout(x, 0.25, training=True, key=KEY)[0, 0]
    blocks = F.drop_block2d(x, 0.25, 5, training=True, key=KEY.fold(2))[0, 0]
    many = F.drop_block2d(_ones(4000, 1, 28, 28), 0.25, 5, training=True, key=KEY)
    often = (many == 0).double().mean((0, 1))
    panels = {
        "dropout(x, 0.25)": by_element,
        "drop_block2d(x, 0.25, block_size=5)": blocks,
    }
    for place, (title, y) in enumerate(panels.items()):
        mask(axes, 2 + 31.5 * place, 3.5, y)
        say(axes, 2 + 31.5 * place, 1.9, title, fontsize=8)
    low, high = often.min().item(), often.max().item()
    shades(axes, 65, 3.5, often / high, colour=RED)
    say(axes, 65, 1.9, f"how often, of 4000: {low:.2f} to {high:.2f}", fontsize=8)
    legend(axes, 2, 33.8, KEPT, 8)
    return figure


def gaussian() -> Figure:
    """The noise as a map, and its distribution beside the two values of dropout."""
    figure, (plane, axes) = row(2, 7.2, 2.9)
    y = F.gaussian_dropout(_ones(16, 20), 0.2, training=True, key=KEY)
    plane.set_axis_off()
    plane.set_aspect("equal")
    plane.set_xlim(0, 20)
    plane.set_ylim(17.5, -2)
    shades(plane, 0, 0, y / 2, "gaussian_dropout(x, 0.2) of ones")
    legend(plane, 0, 17, {"0 or less": EMPTY, "2 or more": BLUE}, 8)
    many = F.gaussian_dropout(_ones(200_000), 0.2, training=True, key=KEY)
    plain = F.dropout(_ones(200_000), 0.2, training=True, key=KEY)
    for values, colour, name in ((many, BLUE, "gaussian_dropout"), (plain, RED, "dropout")):
        words = f"{name}: mean {values.mean():.2f}, variance {values.var():.2f}"
        share = torch.full((len(values),), 1 / len(values)).numpy()
        axes.hist(
            values.numpy(),
            bins=62,
            range=(-1.1, 3.1),
            weights=share,
            color=colour,
            label=words,
            histtype="stepfilled",
        )
    axes.set_ylim(0, 1)
    axes.set_ylabel("share of elements", fontsize=8)
    axes.legend(frameon=False, fontsize=8, loc="upper right", labelcolor=INK)
    return figure


def connect() -> Figure:
    """A weight matrix that a batch shares, and one for each sample."""
    figure, axes = sheet(63, 15.5, 0.113)
    weight = _ones(8, 12)
    module = keyed(nn.drop_connect(torch.nn.Linear(12, 8), p=0.4), seed=3)
    mask(axes, 2.5, 3, module.weight.detach())
    x = torch.eye(12).expand(3, 12, 12)  # shows each sample's weights
    each = F.drop_connect_linear(x, weight, None, 0.4, training=True, key=KEY)
    for sample in range(3):
        mask(axes, 20.5 + 14 * sample, 3, each[sample].T)
        say(axes, 20.5 + 14 * sample, 12, f"sample {sample}", fontsize=8, color=GREY)
    say(axes, 2.5, 1.5, "drop_connect(layer, p=0.4)")
    say(axes, 20.5, 1.5, "drop_connect_linear(x, weight, None, 0.4)")
    say(axes, 2.5, 12, "all samples", fontsize=8, color=GREY)
    say(axes, 1.4, 7, "outputs", rotation=90, ha="center", fontsize=8, color=GREY)
    legend(axes, 2.5, 14.2, {"weight kept": BLUE, "dropped": EMPTY}, 9)
    return figure
