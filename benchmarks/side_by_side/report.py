"""The results as a document."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version

from thinned.bench._machine import describe

PACKAGES = ("baal", "torch_uncertainty", "torch", "numpy")

LEGEND = """\
Each library is used in its documented way: baal's `MCDropoutModule` and `ModelWrapper.predict_on_dataset`,
torch-uncertainty's `mc_dropout(model, num_estimators)` and `eval()`, `thinned.mc.predict`, and a loop over a
model in evaluation whose `nn.Dropout` modules train. The models are those of `tests/mc/zoo.py`: small, each
with one trap. All are handed over in evaluation."""

REACHED = """\
Of how many sites, how many act. Each site is tried in a model in which its rate alone is not 0: it acts if
the outputs' spread is that of a loop in which everything trains but batch normalisation (within 25 %, from
400 samples). A number in brackets counts sites that spread, but otherwise. **silent** means that the whole
model gave no spread and nobody was told; *warns* and *refuses*, that somebody was."""

WEIGHTS = """\
Where weights are dropped by a module ("parametrized"), baal and torch-uncertainty reach it and there is no
spread all the same: they put all samples into one batch, and a weight that is drawn once in a forward pass is
then the same for all of them."""

SPREAD = """\
The mean standard deviation of the outputs over 400 samples, divided by that of the loop in which every site
acts. Below 1, sites are missing: the model looks surer than it is."""

TIMES = """\
Seconds for 100 samples, divided by those of a loop of 100 forward passes in which every site acts: by turns
in one run, the median of {repeats} ratios. Brackets: not all sites were reached, so less was done. The models
of the zoo are so small that calls are all of the time, and thinned traces a model in each call; the larger
ones at the end are for the time."""


def machine() -> dict:
    """The machine, and the versions that matter here."""
    found = asdict(describe())
    found["versions"] |= {name: version(name) for name in PACKAGES}
    return found


def as_markdown(result: dict) -> str:
    about, models = result["machine"], result["models"]
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    parts = [
        "# Monte Carlo dropout side by side",
        f"- machine: {about['processor']} ({about['architecture']}), {about['threads']} threads for each, "
        f"code path {about['path']}\n- begun: {about['date']}, load average {about['load']:.2f}"
        f"\n- versions: {versions}",
        *_busy(about["load"]),
        LEGEND,
        "## Sites reached",
        REACHED,
        _table(models, _reached) + "\n" + _totals(models),
        WEIGHTS,
        *_said(models),
        *_changed(models),
        "## Spread",
        SPREAD,
        _table(models, _spread),
        "## Time",
        TIMES.format(repeats=result["repeats"]),
        _table(models, _time, named=False),
        *_larger(result["larger"]),
        *_traps(result["traps"]),
    ]
    return "\n\n".join(parts) + "\n"


def _busy(load: float) -> Iterator[str]:
    if load > 1:
        yield f"**Other work ran as well (load average {load:.2f}): trust no more than the times' order.**"


def _table(models: dict, cell, named: bool = True) -> str:
    names = list(next(iter(models.values()))["libraries"])[:4]
    lines = [f"| model | sites | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    for model, found in models.items():
        cells = [cell(found, name) for name in names]
        if named and "thinned, named" in found["libraries"]:
            cells[-1] += f"; named: {cell(found, 'thinned, named')}"
        lines.append(f"| {model} | {len(found['rates'])} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _totals(models: dict) -> str:
    """Over all models that have a site."""
    with_sites = [found for found in models.values() if found["rates"]]
    names = list(next(iter(models.values()))["libraries"])[:4]
    sites, whole, quiet = [], [], []
    for name in names:
        of = [(found["libraries"][name], len(found["rates"])) for found in with_sites]
        sites.append(sum(one["reached"] for one, _ in of))
        whole.append(sum(one["reached"] == count for one, count in of))
        quiet.append(sum(one["reached"] < count and not one["says"] for one, count in of))
    rows = {
        "**all sites**": (sum(len(found["rates"]) for found in with_sites), sites),
        "**models whose sites all act**": (len(with_sites), whole),
        "**models short of sites, and no word of it**": (len(with_sites), quiet),
    }
    return "\n".join(f"| {row} | {of} | {' | '.join(map(str, each))} |" for row, (of, each) in rows.items())


def _reached(found: dict, name: str) -> str:
    one = found["libraries"][name]
    count = f"{one['reached']}" + (f" (+{one['weak']})" if one["weak"] else "")
    if one["spread"]:
        return count
    if "Error" in one["says"].split(":")[0]:
        return f"{count}, *refuses*"
    return f"{count}, *warns*" if one["says"] else f"{count}, **silent**"


def _spread(found: dict, name: str) -> str:
    one = found["libraries"][name]
    return f"{one['spread'] / one['due']:.2f}" if one["due"] else f"{one['spread']:.2f} (none due)"


def _time(found: dict, name: str) -> str:
    ratio = found["ratios"].get(name)
    if ratio is None:
        return "–"
    libraries = found["libraries"]
    reached = libraries.get(f"{name}, named", libraries[name])["reached"]
    return f"{ratio:.2f}" if reached == len(found["rates"]) else f"({ratio:.2f})"


def _said(models: dict) -> Iterator[str]:
    yield "What was said, where something was:"
    told: dict[str, list[str]] = {}
    for model, found in models.items():
        for name, one in found["libraries"].items():
            if one["says"]:
                told.setdefault(f"{name}: `{one['says']}`", []).append(model)
    yield "\n".join(f"- {line}: {', '.join(which)}" for line, which in told.items()) or "- nothing"


def _changed(models: dict) -> Iterator[str]:
    yield "## What is changed"
    moved: dict[str, list[str]] = {}
    left: dict[str, list[str]] = {}
    for model, found in models.items():
        for name, one in found["libraries"].items():
            if one["moved"]:
                moved.setdefault(name, []).append(model)
            if one["left"]:
                left.setdefault(name, []).append(model)
    for what, found in (("Buffers or parameters moved", moved), ("Modules left otherwise than before", left)):
        lines = "; ".join(f"{name}: {', '.join(which)}" for name, which in found.items())
        yield f"{what}: {lines or 'by nobody'}."


def _larger(larger: dict) -> Iterator[str]:
    if not larger:
        return
    names = [name for name in next(iter(larger.values()))["ratios"] if name != "every site"]
    lines = [f"| model | loop, ms | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    for model, found in larger.items():
        cells = " | ".join(f"{found['ratios'][name]:.2f}" for name in names)
        lines.append(f"| {model} | {1e3 * found['seconds']['every site']:.0f} | {cells} |")
    yield "\n".join(lines)


def _traps(answers: list) -> Iterator[str]:
    if not answers:
        return
    yield "## Other traps"
    lines = ["| question | who | answer | as it should be |", "|---|---|---|---|"]
    before = None
    for question, who, answer, right in answers:
        lines.append(
            f"| {'' if question == before else question} | {who} | {answer} | {'✓' if right else '✗'} |"
        )
        before = question
    yield "\n".join(lines)
