"""This section shows a 5 × 5 tensor of ones before and after dropout, and why the rest became 2."""

from __future__ import annotations

from typing import Any, Final

import torch
from matplotlib.axes import Axes

from thinned import Key
from thinned.demo.drawing import PAPER, row, to_svg
from thinned.demo.section import Section, Table, paragraphs
from thinned.torch.functional import dropout

# The squares are light on every page, and so are no variables of the page.
_DARK: Final = "#14202b"
_FAINT: Final = "#5b7f9a"
_P = 0.5
_MASKS = 10_000


def section(seed: int) -> Section:
    """Drop half of 25 ones; then do so many times, for the average."""
    key = Key(seed).fold("ones")
    before = torch.ones(5, 5)
    after = dropout(before, _P, training=True, key=key)
    many = dropout(torch.ones(_MASKS, 5, 5), _P, training=True, key=key.fold("many"))
    kept = int((after != 0).sum())
    value, mean, error = float(after.max()), float(many.mean()), float(many.std()) / many.numel() ** 0.5
    data: dict[str, Any] = {
        "after": after.tolist(),
        "kept": kept,
        "value": value,
        "masks": _MASKS,
        "mean": mean,
        "error": error,
    }
    return Section(
        name="ones",
        title="Ones, before and after",
        finding=(
            f"Of 25 ones, {kept} were kept and became {value:g}; the other {25 - kept} became 0. "
            f"Over {_MASKS:,} masks the average element is {mean:.4f} ± {error:.4f}."
        ),
        text=paragraphs(f"""
            Dropout with p = {_P} throws a coin for every element. Here it dropped {25 - kept} of 25.

            Why did the rest become {value:g}? An element is kept with probability 1 − p = {1 - _P:g}. Left as
            it is, it would be worth {1 - _P:g} on average, and whatever adds up these elements would get half
            of what it gets later, when nothing is dropped. Dividing what is kept by 1 − p mends that:
            {_P:g} · 0 + {1 - _P:g} · {value:g} = 1. One mask need not average 1 (this one averages
            {float(after.mean()):.2f}); {_MASKS:,} masks do, up to chance: {mean:.4f} ± {error:.4f}.
        """),
        figure=_figure(before, after),
        caption="The tensor before (left) and after dropout with p = 0.5 (right). Pale squares were dropped.",
        table=Table(
            ("", "elements", "value", "sum"),
            (
                ("before", "25", "1", "25"),
                ("kept", str(kept), f"{value:g}", f"{float(after.sum()):g}"),
                ("dropped", str(25 - kept), "0", "0"),
            ),
        ),
        data=data,
    )


def _figure(before: torch.Tensor, after: torch.Tensor) -> str:
    figure, (left, right) = row(2, 6.0, 3.1)
    _squares(left, before, "before")
    _squares(right, after, f"after, p = {_P}")
    return to_svg(figure, "ones")


def _squares(axes: Axes, x: torch.Tensor, title: str) -> None:
    axes.set(xlim=(-0.5, 4.5), ylim=(4.5, -0.5), aspect="equal", xticks=[], yticks=[])
    axes.set_title(title, fontsize=10)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.pcolormesh(
        range(5), range(5), x.numpy(), cmap="Blues", vmin=-0.3, vmax=3.4, edgecolors=PAPER, linewidth=4
    )
    for i in range(5):
        for j in range(5):
            value = float(x[i, j])
            colour = _DARK if value else _FAINT
            axes.text(j, i, f"{value:g}", ha="center", va="center", color=colour)
