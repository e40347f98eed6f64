"""Draw the pictures of these pages from masks of the library's own verbs.

    python docs/torch/pictures.py [name …]

Each function below whose name is that of an .svg beside this file draws it. Needs the extras torch and cli.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import torch
from later_pictures import graphs, learned, structured
from matplotlib.figure import Figure
from sheet import EMPTY, KEPT, cells, legend, mask, say, shades, sheet, shorten

from thinned import Key
from thinned.demo.drawing import BLUE, GREY, INK, RED, canvas, row, to_svg
from thinned.torch import functional as F
from thinned.torch import keyed, nn, set_step
from thinned.torch.schedules import Early, Late, Linear, Schedule

KEY: Final = Key(2014)


def ones(*shape: int) -> torch.Tensor:
    """What shows a mask best."""
    return torch.ones(shape)


def dropout() -> Figure:
    """A mask, and how the masks of one key lie in one another."""
    figure, axes = sheet(56, 34, 0.125)
    y = F.dropout(ones(16, 48), 0.3, training=True, key=KEY)
    mask(axes, 7, 2, y, f"dropout(x, 0.3): {int((y != 0).sum())} of {y.numel()} elements are kept")
    rates = [n / 10 for n in range(1, 10)]
    nested = torch.stack([F.dropout(ones(48), p, training=True, key=KEY) for p in rates])
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
        y = F.dropout(ones(10, 12), **{"p": 0.4, "training": True, "key": KEY, **how})
        mask(axes, 1.5 + 14.5 * place, 2.2, y)
        say(axes, 1.5 + 14.5 * place, 1.2, title, fontsize=8)
    legend(axes, 1.5, 14, KEPT, 6)
    return figure


def channels() -> Figure:
    """Elements beside whole channels, of eight maps."""
    figure, axes = sheet(57, 21, 0.125)
    x = ones(1, 8, 6, 6)
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
    x = ones(2, 17, 12)  # (B, T, F)
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
        y = F.drop_head(ones(24, 8), 0.3, training=True, shared=shared, key=KEY)
        mask(axes, 6 + 27 * place, 2.2, y.T, "shared=True" if shared else "drop_head")
        say(axes, 6 + 27 * place, 11, "samples of a batch →", fontsize=8, color=GREY)
    say(axes, 3, 6.2, "heads", rotation=90, ha="center", fontsize=8, color=GREY)
    legend(axes, 6, 13.8, {"head kept": BLUE, "head dropped": EMPTY}, 9)
    return figure


def layer() -> Figure:
    """Steps by layers of a stack."""
    figure, axes = sheet(58, 20, 0.12)
    for place, p in enumerate((0.2, 0.5)):
        masks = [F.dropout(ones(12), p, training=True, key=KEY.fold(step)) for step in range(24)]
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
            ones(24, 1), p, training=True, key=key
        ),
        'stochastic_depth(mode="batch")': lambda p, key: F.stochastic_depth(
            ones(24, 1), p, "batch", training=True, key=key
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


def thin() -> Figure:
    """Which of two layers' weights one batch needs."""
    figure, axes = sheet(62, 21, 0.12)
    drawn = F.dropout(ones(3, 16), 0.5, training=True, key=KEY)
    whole, first, second = ones(16, 16), drawn[0] != 0, drawn[1] != 0
    for place, (title, (into, out)) in enumerate(
        {
            "a mask for each sample": (ones(16) != 0, ones(16) != 0),
            "one for the batch": (first, second),
        }.items()
    ):
        left = 2 + 31 * place
        mask(
            axes,
            left,
            3,
            whole * out[:, None] * into,
            f"{title}: W needs {100 * float(out.float().mean() * into.float().mean()):.0f} %",
        )
        mask(axes, left + 22, 3, out[:, None].float(), "rows")
    legend(axes, 2, 20.2, {"computed": BLUE, "neither gathered nor multiplied": EMPTY}, 10)
    return figure


def block() -> Figure:
    """The same share dropped by elements and by blocks, and where blocks drop more often."""
    figure, axes = sheet(95, 36, 0.075)
    x = ones(1, 1, 28, 28)
    by_element = F.dropout(x, 0.25, training=True, key=KEY)[0, 0]
    blocks = F.drop_block2d(x, 0.25, 5, training=True, key=KEY.fold(2))[0, 0]
    many = F.drop_block2d(ones(4000, 1, 28, 28), 0.25, 5, training=True, key=KEY)
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
    y = F.gaussian_dropout(ones(16, 20), 0.2, training=True, key=KEY)
    plane.set_axis_off()
    plane.set_aspect("equal")
    plane.set_xlim(0, 20)
    plane.set_ylim(17.5, -2)
    shades(plane, 0, 0, y / 2, "gaussian_dropout(x, 0.2) of ones")
    legend(plane, 0, 17, {"0 or less": EMPTY, "2 or more": BLUE}, 8)
    many = F.gaussian_dropout(ones(200_000), 0.2, training=True, key=KEY)
    plain = F.dropout(ones(200_000), 0.2, training=True, key=KEY)
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
    weight = ones(8, 12)
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


def embedding() -> Figure:
    """A text whose dropped words are dropped wherever they occur."""
    figure, axes = sheet(56, 12.5, 0.125)
    first = ["a", "mask", "is", "a", "function", "of", "a", "key"]
    text = [*first, "and", "a", "word", "is", "a", "part", "of", "it"]
    words = sorted(set(text))
    numbers = torch.tensor([words.index(word) for word in text])
    table = ones(len(words), 3)
    whole = F.embedding_dropout(numbers, table, 0.35, training=True, key=KEY.fold(4))
    single = F.dropout(table[numbers], 0.35, training=True, key=KEY.fold(3))
    panels = {"embedding_dropout(text, table, 0.35): words": whole, "dropout(x, 0.35): elements": single}
    for line, (title, y) in enumerate(panels.items()):
        say(axes, 1, 0.8 + 5.6 * line, title)
        for place, word in enumerate(text):
            mask(axes, 1 + 3.4 * place, 1.6 + 5.6 * line, y[place][None])
            colour = INK if y[place].any() else GREY
            say(axes, 2.5 + 3.4 * place, 3.4 + 5.6 * line, word, ha="center", fontsize=7, color=colour)
    legend(axes, 1, 11.6, KEPT, 6)
    return figure


def zoneout() -> Figure:
    """Units over time: where zoneout keeps the value of before, and the states that come of it."""
    figure, axes = sheet(59, 15.5, 0.12)
    times, units = 26, 8
    steps = torch.rand(times, units, generator=torch.Generator().manual_seed(5))
    old, states, fate = torch.zeros(units), [], []
    for time, new in enumerate(steps):
        key = KEY.fold(time)
        fate.append(F.zoneout(ones(units), torch.zeros(units), 0.5, training=True, key=key))
        old = F.zoneout(new, old, 0.5, training=True, key=key)
        states.append(old)
    mask(axes, 3, 3, torch.stack(fate).T, "zoneout(new, old, 0.5)")
    shades(axes, 32, 3, torch.stack(states).T, "the states: what is kept stays as it was")
    for left in (3, 32):
        say(axes, left, 12, "time →", fontsize=8, color=GREY)
    say(axes, 1.6, 7, "units", rotation=90, ha="center", fontsize=8, color=GREY)
    legend(axes, 3, 14.2, {"new value": BLUE, "old value": EMPTY}, 9)
    return figure


def attention() -> Figure:
    """Causal probabilities, and what is left of them; the values are the identity, which shows them."""
    figure, axes = sheet(51, 20, 0.13)
    size, made = 14, torch.Generator().manual_seed(3)
    q, k = (torch.randn(size, 8, generator=made) for _ in range(2))
    attend = F.scaled_dot_product_attention
    whole = attend(q, k, torch.eye(size), is_causal=True, training=False)
    left = attend(q, k, torch.eye(size), None, 0.3, True, training=True, dropout_key=KEY)
    fate = (left != 0) | (torch.ones(size, size).triu(1) != 0)
    for place, (title, y) in enumerate({"probabilities": whole, "dropped at 0.3, rest × 1.43": left}.items()):
        shades(axes, 3 + 16.5 * place, 2.4, y.sqrt(), title)  # the root: small ones would not be seen
    shades(axes, 36, 2.4, torch.zeros(size, size), "what was dropped")
    cells(axes, 36, 2.4, (~fate).numpy(), RED)
    say(axes, 1.6, 9.4, "queries", rotation=90, ha="center", fontsize=8, color=GREY)
    say(axes, 3, 17.3, "keys →", fontsize=8, color=GREY)
    legend(axes, 3, 18.9, {"0": EMPTY, "1 (by the root)": BLUE, "dropped": RED}, 10)
    return figure


def rnn() -> Figure:
    """The masks of an LSTM, by the zeros of gradients and of the output."""
    figure, axes = sheet(67, 15.5, 0.105)
    layer = nn.LSTM(8, 8, weight_p=0.4, input_p=0.3, output_p=0.4)
    keyed(torch.nn.ModuleDict({"rnn": layer}), seed=5)
    x = torch.ones(12, 1, 8, requires_grad=True)
    y, _ = layer(x)
    y.sum().backward()
    of_input, of_weight = x.grad, layer.weight_hh_l0.grad
    assert of_input is not None
    mask(axes, 3, 3, of_input[:, 0].T, "input")
    mask(axes, 18.5, 3, of_weight.T, "recurrent weights, all times")
    mask(axes, 54, 3, y[:, 0].T.detach(), "output")
    for left in (3, 54):
        say(axes, left, 12, "time →", fontsize=8, color=GREY)
    say(axes, 18.5, 12, "four gates of 8 units →", fontsize=8, color=GREY)
    say(axes, 1.6, 7, "features", rotation=90, ha="center", fontsize=8, color=GREY)
    legend(axes, 3, 14.2, KEPT, 8)
    return figure


def residual() -> Figure:
    """A branch that is dropped, the residual beside it, and their sum in one pass."""
    figure, axes = sheet(66, 14, 0.11)
    branch, residual = ones(8, 12), torch.linspace(0, 0.5, 96).reshape(8, 12)
    total = F.dropout_add(branch, residual, 0.4, training=True, key=KEY)
    mask(axes, 2, 3, F.dropout(branch, 0.4, training=True, key=KEY), "dropout(input, 0.4)")
    shades(axes, 23, 3, residual, "residual")
    shades(axes, 44, 3, total / total.max(), "dropout_add(input, residual, 0.4)")
    for left, sign in ((18, "+"), (39, "=")):
        say(axes, left, 7, sign, ha="center", fontsize=14)
    legend(axes, 2, 12.8, KEPT, 6)
    return figure


def keys() -> Figure:
    """Masks by name and step; a run resumed at step 2 has those of the whole run."""
    figure, axes = sheet(58, 24, 0.125)
    names = ["embed", "encoder", "head"]

    def draw(top: float, steps: Iterable[int], title: str) -> None:
        model = keyed(torch.nn.ModuleDict({name: nn.Dropout(0.4) for name in names}), seed=7)
        say(axes, 1, top - 2.4, title)
        for step in steps:
            set_step(model, step)
            say(axes, 7 + 10.4 * step, top - 0.9, f"step {step}", fontsize=8, color=GREY)
            for line, name in enumerate(names):
                mask(axes, 7 + 10.4 * step, top + 1.6 * line, model[name](ones(1, 9)))
        for line, name in enumerate(names):
            say(axes, 1, top + 0.5 + 1.6 * line, name, fontsize=8)

    draw(4, range(5), "keyed(model, seed=7): one key for each name and step")
    draw(14, range(2, 5), "a fresh process, resumed at step 2")
    legend(axes, 1, 22, KEPT, 6)
    return figure


def schedules() -> Figure:
    """The p of each step, and the share that layers dropped in it."""
    figure, axes = canvas(7.0, 2.9)
    kinds: dict[str, tuple[Schedule, str, str]] = {
        "Linear(0.4, 0.1, steps=60)": (Linear(0.4, 0.1, 60), BLUE, "o"),
        "Early(0.25, steps=30)": (Early(0.25, 30), RED, "s"),
        "Late(0.3, after=70)": (Late(0.3, 70), INK, "^"),
    }
    for title, (schedule, colour, marker) in kinds.items():
        layer = keyed(torch.nn.Sequential(nn.Dropout(schedule)), seed=7)
        steps = range(0, 101, 4)
        share = [(set_step(layer, n)(ones(4000)) == 0).double().mean().item() for n in steps]
        axes.plot(
            range(101), [schedule(n) for n in range(101)], color=colour, linewidth=1.2, drawstyle="steps-post"
        )
        axes.plot(steps, share, marker, color=colour, markersize=3.5, label=title)
    axes.set_xlabel("step")
    axes.set_ylabel("p, and share dropped of 4000")
    axes.set_ylim(-0.02, 0.45)
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper center", labelcolor=INK)
    return figure


PICTURES: Final[dict[str, Callable[[], Figure]]] = {
    draw.__name__: draw
    for draw in (
        *(
            alpha,
            attention,
            block,
            channels,
            connect,
            dropout,
            embedding,
            gaussian,
            graphs,
            head,
            keys,
            layer,
        ),
        *(learned, locked, noise_shape, path, residual, rnn, schedules, structured, thin, zoneout),
    )
}


def svg(name: str) -> str:
    """The picture of this name."""
    return shorten(to_svg(PICTURES[name](), name))


def main(names: list[str]) -> None:
    """Write the pictures of these names, or all."""
    for name in names or PICTURES:
        (Path(__file__).parent / f"{name}.svg").write_text(svg(name))


if __name__ == "__main__":
    main(sys.argv[1:])
