"""This experiment measures what masks shared over a batch cost in accuracy and save in time."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from importlib.resources import files
from typing import Any, Final

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from thinned import Key
from thinned.demo.compared import SETS, Split, split
from thinned.demo.digits import one_thread
from thinned.demo.drawing import BLUE, GREEN, GREY, INK, RED, canvas, to_svg
from thinned.demo.section import Section, Table, Tick, paragraphs
from thinned.demo.statistics import difference, spread, stands_out
from thinned.torch import keyed, set_step, thin
from thinned.torch.nn import Dropout

NONE: Final = "no dropout"
DROPOUT: Final = "dropout"
WAYS: Final[dict[str, dict[str, Any] | None]] = {
    NONE: None,
    DROPOUT: None,
    "thin, 16 groups": {"groups": 16},
    "thin, 4 groups": {"groups": 4},
    "thin": {},
    "thin, fixed=True": {"fixed": True},
}
TRAIN: Final = {"digits": 896, "breast cancer": 384}
_BATCH, _EVERY = 128, 50
_COLOURS: Final = dict(zip(WAYS, (GREY, INK, "#7a4fa3", GREEN, RED, BLUE), strict=True))
_MEASURED: Final = "thinning.json"


def network(inputs: int, classes: int, width: int, drops: bool) -> nn.Sequential:
    """The dropout paper's: three hidden layers, p 0.2 of the inputs and 0.5 behind."""

    def site(p: float) -> nn.Module:
        return Dropout(p) if drops else nn.Identity()

    layers: list[nn.Module] = [site(0.2)]
    for size in (inputs, width, width):
        layers += [nn.Linear(size, width), nn.ReLU(), site(0.5)]
    return nn.Sequential(*layers, nn.Linear(width, classes))


def measure(seeds: int, steps: int, width: int, tick: Callable[[int], None]) -> dict[str, Any]:
    """Train each way on each data set: test error, test loss and CPU seconds, every 50 steps, by seed."""
    found: dict[str, Any] = {name: {way: [] for way in WAYS} for name in SETS}
    with one_thread():
        for name in SETS:
            for seed in range(seeds):
                data = split(name, TRAIN[name], seed)
                for way in WAYS:
                    found[name][way].append(_curve(way, data, steps, width, seed))
                    tick(1)
    packages = {one: version(one) for one in ("thinned", "torch", "scikit-learn")}
    about = {"date": date.today().isoformat(), "python": platform.python_version(), **packages}
    return {"about": about, "seeds": seeds, "steps": steps, "width": width, "sets": found}


def _curve(way: str, data: Split, steps: int, width: int, seed: int) -> dict[str, list[float]]:
    """Trains once; first weights and the order of samples depend on the seed alone."""
    order = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classes = int(data.train_y.max()) + 1
        model = network(data.train_x.shape[1], classes, width, way != NONE)
    options = WAYS[way]
    if options is not None:
        thin(model, **options)
    if way != NONE:
        keyed(model, Key(seed).fold(way))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    curve: dict[str, list[float]] = {"error": [], "loss": [], "seconds": []}
    spent = 0.0
    for step in range(steps):
        batch = torch.randperm(len(data.train_x), generator=order)[:_BATCH]
        begin = time.process_time()
        if way != NONE:
            set_step(model, step)
        optimizer.zero_grad()
        cross_entropy(model(data.train_x[batch]), data.train_y[batch]).backward()
        optimizer.step()
        spent += time.process_time() - begin
        if (step + 1) % _EVERY == 0:
            with torch.no_grad():
                scores = model.eval()(data.test_x)
            model.train()
            curve["error"].append(float((scores.argmax(1) != data.test_y).double().mean()))
            curve["loss"].append(float(cross_entropy(scores, data.test_y)))
            curve["seconds"].append(spent)
    return curve


def measured() -> dict[str, Any]:
    """Returns the figures that `benchmarks/side_by_side/thinning.py` measured once."""
    data: dict[str, Any] = json.loads(files("thinned.demo").joinpath(_MEASURED).read_text(encoding="utf-8"))
    return data


def section(tick: Tick | None = None) -> Section:
    """Tell what was measured; nothing is trained here."""
    del tick
    data = measured()
    digits = data["sets"]["digits"]
    last = {way: spread([curve["error"][-1] for curve in curves]) for way, curves in digits.items()}
    times = _times(digits)
    gaps = {name: _gap(data["sets"][name], "thin") for name in data["sets"]}
    about = data["about"]
    return Section(
        name="thinning",
        title="One mask for a batch",
        finding=(
            f"Digits, {data['steps']} steps: {last[DROPOUT].percent()} wrong with dropout in "
            f"{times[DROPOUT]:.2f} of the time without, {last['thin'].percent()} with one thinned network "
            f"a step in {times['thin']:.2f}, {last['thin, fixed=True'].percent()} with a fixed number."
        ),
        text=paragraphs(f"""
            Where all images of a step share one mask, units that are dropped need not be computed
            (thinned.torch.thin). That is another regulariser than a mask for each image, so it has to be
            asked what it costs. The dropout paper's network, three hidden layers of {data["width"]} units, p
            0.2 of the inputs and 0.5 behind, Adam, batches of {_BATCH}, {data["seeds"]} seeds.

            Loss on the test set with one mask a batch, minus that with dropout, seed by seed:
            {"; ".join(f"{name} {text}" for name, text in gaps.items())}. Groups are parts of a batch with a
            mask each: more of them are nearer to dropout, and save less.

            Measured on {about["date"]} with thinned {about["thinned"]} and torch {about["torch"]}, by CPU
            time of one thread; this report shows what was measured then.
        """),
        figure=_figure(digits),
        caption="Digits: loss on the test set against CPU time spent in training, mean over the seeds.",
        table=_table(data["sets"]),
        data=data,
    )


def _times(curves: dict[str, Any]) -> dict[str, float]:
    """CPU time of a training over that without dropout."""
    spent = {way: float(np.median([one["seconds"][-1] for one in each])) for way, each in curves.items()}
    return {way: seconds / spent[NONE] for way, seconds in spent.items()}


def _gap(curves: dict[str, Any], way: str) -> str:
    one, other = ([curve["loss"][-1] for curve in curves[each]] for each in (way, DROPOUT))
    gap = difference(one, other)
    clear = "" if stands_out(gap) else ", which may be chance"
    return f"{gap.mean:+.4f} ± {gap.error:.4f}{clear}".replace("-", "−")


def _figure(curves: dict[str, Any]) -> str:
    figure, axes = canvas(6.2, 3.6)
    for way, each in curves.items():
        seconds, loss = (np.mean([one[key] for one in each], axis=0) for key in ("seconds", "loss"))
        axes.plot(seconds, loss, "o-", color=_COLOURS[way], markersize=3, linewidth=1.4, label=way)
    axes.set(xlabel="CPU seconds", ylabel="test loss, nats", yscale="log")
    axes.legend(frameon=False, fontsize=8)
    return to_svg(figure, "thinning")


def _table(sets: dict[str, Any]) -> Table:
    header = ["", *(f"{name}: {what}" for name in sets for what in ("wrong", "loss", "time"))]
    rows = []
    for way in WAYS:
        cells = [way]
        for curves in sets.values():
            wrong, loss = (spread([one[key][-1] for one in curves[way]]) for key in ("error", "loss"))
            cells += [wrong.percent(), f"{loss.mean:.3f} ± {loss.error:.3f}", f"{_times(curves)[way]:.2f}"]
        rows.append(tuple(cells))
    return Table(tuple(header), tuple(rows))
