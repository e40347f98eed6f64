"""These pictures show layers in a model: thin sites, attention, recurrence, keys and schedules."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import torch
from matplotlib.figure import Figure
from sheet import EMPTY, KEPT, cells, legend, mask, say, shades, sheet

from thinned import Key
from thinned.demo.drawing import BLUE, GREY, INK, RED, canvas
from thinned.torch import functional as F
from thinned.torch import keyed, nn, set_step
from thinned.torch.schedules import Early, Late, Linear, Schedule

KEY: Final = Key(2014)


def _ones(*shape: int) -> torch.Tensor:
    """What shows a mask best."""
    return torch.ones(shape)


def thin() -> Figure:
    """Which of two layers' weights one batch needs."""
    figure, axes = sheet(62, 21, 0.12)
    drawn = F.dropout(_ones(3, 16), 0.5, training=True, key=KEY)
    whole, first, second = _ones(16, 16), drawn[0] != 0, drawn[1] != 0
    for place, (title, (into, out)) in enumerate(
        {
            "a mask for each sample": (_ones(16) != 0, _ones(16) != 0),
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
    branch, residual = _ones(8, 12), torch.linspace(0, 0.5, 96).reshape(8, 12)
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
                mask(axes, 7 + 10.4 * step, top + 1.6 * line, model[name](_ones(1, 9)))
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
        share = [(set_step(layer, n)(_ones(4000)) == 0).double().mean().item() for n in steps]
        axes.plot(
            range(101), [schedule(n) for n in range(101)], color=colour, linewidth=1.2, drawstyle="steps-post"
        )
        axes.plot(steps, share, marker, color=colour, markersize=3.5, label=title)
    axes.set_xlabel("step")
    axes.set_ylabel("p, and share dropped of 4000")
    axes.set_ylim(-0.02, 0.45)
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper center", labelcolor=INK)
    return figure


def zoneout() -> Figure:
    """Units over time: where zoneout keeps the value of before, and the states that come of it."""
    figure, axes = sheet(59, 15.5, 0.12)
    times, units = 26, 8
    steps = torch.rand(times, units, generator=torch.Generator().manual_seed(5))
    old, states, fate = torch.zeros(units), [], []
    for time, new in enumerate(steps):
        key = KEY.fold(time)
        fate.append(F.zoneout(_ones(units), torch.zeros(units), 0.5, training=True, key=key))
        old = F.zoneout(new, old, 0.5, training=True, key=key)
        states.append(old)
    mask(axes, 3, 3, torch.stack(fate).T, "zoneout(new, old, 0.5)")
    shades(axes, 32, 3, torch.stack(states).T, "the states: what is kept stays as it was")
    for left in (3, 32):
        say(axes, left, 12, "time →", fontsize=8, color=GREY)
    say(axes, 1.6, 7, "units", rotation=90, ha="center", fontsize=8, color=GREY)
    legend(axes, 3, 14.2, {"new value": BLUE, "old value": EMPTY}, 9)
    return figure


def embedding() -> Figure:
    """A text whose dropped words are dropped wherever they occur."""
    figure, axes = sheet(56, 12.5, 0.125)
    first = ["a", "mask", "is", "a", "function", "of", "a", "key"]
    text = [*first, "and", "a", "word", "is", "a", "part", "of", "it"]
    words = sorted(set(text))
    numbers = torch.tensor([words.index(word) for word in text])
    table = _ones(len(words), 3)
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
