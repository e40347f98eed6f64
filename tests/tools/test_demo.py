"""The demonstration: a report that needs nothing but itself, and says what its data say."""

import html
import json
import re
from dataclasses import asdict

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import thinned
import thinned.demo.run
from thinned.cli import main
from thinned.demo import (
    committee,
    conventions,
    digits,
    out_of_distribution,
    standing_report,
    statistics,
    worth,
)
from thinned.demo.drawing import canvas, to_svg
from thinned.mc._measures import measures
from thinned.mc.torch import predict

SECTIONS = ["ones", "averages", "conventions", "committee", "worth", "unfamiliar", "thinning", "step"]


def demo(path, *arguments):
    result = CliRunner().invoke(main, ["demo", "--quick", "--out", str(path), *arguments])
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split()), path.read_text(encoding="utf-8")


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("demo") / "report.html"


@pytest.fixture(scope="module")
def made(path):
    return demo(path, "--seed", "5")


def test_report_loads_nothing(made):
    _, page = made
    loads = re.findall(r'(?:src|href)\s*=\s*"([^"]*)"', page) + re.findall(r"url\(([^)]*)\)", page)
    assert loads
    assert all(load.startswith(("#", "data:")) for load in loads)
    assert "@import" not in page
    assert "<script src" not in page


def test_every_section_has_its_figure_and_table(made):
    _, page = made
    for name in SECTIONS:
        section = re.search(rf'<section id="{name}">(.*?)</section>', page, re.S)[1]
        assert section.count("<svg") == 1
        assert section.count("<table") == 1
        assert section.count("<p>") >= 2


def test_ids_are_unique_over_all_figures_but_for_repeated_marks(made):
    _, page = made
    for name in SECTIONS:
        section = re.search(rf'<section id="{name}">(.*?)</section>', page, re.S)[1]
        assert all(found.startswith(f"{name}-") for found in re.findall(r'<g id="([^"]*)"', section))


def test_summary_prints_the_report_s_numbers(made):
    shown, page = made
    data = data_of(page)
    assert list(data) == SECTIONS
    assert f"{data['ones']['kept']} were kept" in shown
    assert f"{data['ones']['mean']:.4f} ± {data['ones']['error']:.4f}" in shown
    assert f"{data['averages']['rates'][-1]['scaled']['mean']:.1f}" in shown
    for name in conventions.NAMES:
        assert f"{statistics.spread(data['conventions']['errors'][name]).percent()} {name}" in shown
    last = [errors[-1] for errors in data["committee"]["committee"]]
    assert statistics.spread(last).percent() in shown
    for way in (worth.SCALING, worth.CARLO):
        assert statistics.spread(data["worth"]["measures"][way]["calibration"]).percent() in shown
    assert data["worth"]["compare"]["reason"] in shown
    for kind in out_of_distribution.KINDS:
        area = statistics.spread(data["unfamiliar"]["roc"][kind][out_of_distribution.DISAGREEMENT]["auc"])
        assert f"{kind} {area.mean:.3f} ± {area.error:.3f}" in shown
    for name, ratio in list(data["step"]["ratio"].items())[1:]:
        assert f"{data['step']['quartiles'][name][1] * 1e3:.2f} ms" in shown
        assert f"({ratio:.2f} ×)" in shown


def test_report_repeats_the_summary_and_the_command(made):
    shown, page = made
    text = html.unescape(page).replace("\u00a0", " ")
    for finding in re.findall(r"<dd>(.*?)</dd>", text, re.S):
        assert finding in shown
    assert "thinned demo --seed 5 --quick" in page


def trained(*arguments, **options):
    raise RuntimeError("trained")


def test_a_second_run_shows_the_standing_report_and_its_date(path, made, monkeypatch):
    """Nothing is trained, and nothing written."""
    shown, page = made
    monkeypatch.setattr(thinned.demo.run, "run", trained)
    before = path.stat().st_mtime_ns
    again, still = demo(path, "--seed", "5")
    date = re.search(r"<td>date</td><td>(.*?)</td>", page)[1]
    assert again.endswith(f"is the report of this very run, of {date}: --again trains anew")
    findings = shown.partition("Report written")[0]
    assert again.startswith(findings)
    assert (still, path.stat().st_mtime_ns) == (page, before)


@pytest.mark.parametrize(
    ("arguments", "change"),
    [
        (["--seed", "6"], lambda patch, page: page),
        (["--seed", "5", "--again"], lambda patch, page: page),
        (["--seed", "5"], lambda patch, page: patch.setenv("OMP_NUM_THREADS", "77") or page),
        (
            ["--seed", "5"],
            lambda patch, page: patch.setattr(standing_report, "version", str) or page,
        ),
        (["--seed", "5"], lambda patch, page: patch.setattr(standing_report, "_SOURCES", (".py",)) or page),
        (
            ["--seed", "5"],
            lambda patch, page: patch.setattr(standing_report, "find_spec", {}.get) or page,
        ),
        (["--seed", "5"], lambda patch, page: page.partition('{"fingerprint"')[0]),
        (["--seed", "5"], lambda patch, page: ""),
        (["--seed", "5"], lambda patch, page: page.replace('{"fingerprint"', "fingerprint")),
    ],
    ids=["seed", "--again", "threads", "versions", "sources", "kernel", "cut off", "empty", "broken"],
)
def test_another_run_is_not_taken_for_the_one_that_stands(made, arguments, change, monkeypatch, tmp_path):
    page = change(monkeypatch, made[1])
    monkeypatch.setattr(thinned.demo.run, "run", trained)
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    result = CliRunner().invoke(main, ["demo", "--quick", "--out", f"{tmp_path}/report.html", *arguments])
    assert str(result.exception) == "trained"


@pytest.mark.full  # makes the report again
def test_same_seed_same_numbers(made, tmp_path):
    before = torch.random.get_rng_state()
    _, page = demo(tmp_path / "again.html", "--seed", "5")
    assert torch.equal(before, torch.random.get_rng_state())
    first, second = data_of(made[1]), data_of(page)
    for name in SECTIONS[:-1]:
        assert first[name] == second[name]


def test_scaled_weights_evaluate_as_classic_mode_does():
    data = digits.split(0)
    net = digits.train(
        16, "classic", lambda: conventions.Dropout(0.3, mode="classic"), data, 2, 0, lambda done: None
    )
    scaled = conventions.scale_weights(net)
    assert not any(isinstance(layer, torch.nn.Dropout) for layer in scaled)
    assert torch.allclose(net(data.test_x), scaled(data.test_x), rtol=0, atol=1e-5)
    assert not torch.equal(net[3].weight, scaled[3].weight)


def test_crossover_is_where_the_mean_stays_near():
    errors = committee.np.array([[0.30, 0.10, 0.20, 0.101, 0.1]] * 2)
    assert committee.crossover(errors, [0.1, 0.1]) == 4
    assert committee.crossover(errors, [0.05, 0.05]) is None
    assert committee.crossover(errors, [0.3, 0.3]) == 1


def test_strangers_are_the_digits_turned_and_noise():
    images = torch.arange(2 * 64, dtype=torch.float32).reshape(2, 64)
    quarter, half, noise = out_of_distribution.strangers(images, 3).values()
    square = images[1].reshape(8, 8).numpy()
    assert (quarter[1].reshape(8, 8).numpy() == np.rot90(square)).all()
    assert (half[1].reshape(8, 8).numpy() == square[::-1, ::-1]).all()
    assert 0 <= noise.min() < noise.max() <= 1
    assert torch.equal(noise, out_of_distribution.strangers(images, 3)["noise"])
    assert not torch.equal(noise, out_of_distribution.strangers(images, 4)["noise"])


@pytest.mark.parametrize(
    ("by_samples", "by_scaling", "says"),
    [
        ([0.90, 0.91, 0.92], [0.80, 0.82, 0.81], "beats weight scaling's entropy (+0.100"),
        ([0.80, 0.82, 0.81], [0.90, 0.91, 0.92], "is worse than weight scaling's entropy, one pass (−0.100"),
        ([0.80, 0.92, 0.81], [0.81, 0.80, 0.92], "cannot be told from weight scaling's entropy"),
        ([0.50, 0.60, 0.45], [0.40, 0.45, 0.35], "not clearly beat guessing either: 94 % of these images"),
    ],
)
def test_whoever_detects_better_is_named(by_samples, by_scaling, says):
    areas = {out_of_distribution.DISAGREEMENT: by_samples, out_of_distribution.SCALING: by_scaling}
    words = out_of_distribution._verdict("noise", areas, 0.94)
    assert says in words
    assert ("guessing" in words) == (by_samples[0] == 0.5)


def test_either_way_s_measures_are_its_own():
    """Weight scaling is the network in evaluation; Monte Carlo is predict."""
    data = digits.split(0)
    net = digits.train(16, "inverted", lambda: conventions.Dropout(0.5), data, 2, 0, lambda done: None)
    one = conventions.Trained(data, {"inverted": net})
    key = thinned.Key(0).fold("worth").fold(0)
    found = worth.measure([one], 4, 99, 0, lambda done: None)
    with torch.no_grad():
        scaling = measures(net(data.test_x).softmax(dim=1), data.test_y)
    carlo = predict(net, data.test_x, samples=4, key=key, outputs="logits")
    for way, expected in ((worth.SCALING, scaling), (worth.CARLO, measures(carlo.mean, data.test_y))):
        for name, value in asdict(expected).items():
            assert found["measures"][way][name] == [pytest.approx(value, rel=1e-5)]
    assert found["compare"]["weight_scaling"]["nll"]["value"] == pytest.approx(scaling.nll, rel=1e-5)
    alike = out_of_distribution.scores(net, data.test_x[:40], 4, key)
    assert np.array_equal(np.concatenate(alike["mutual information"]), predict_first(net, data, key))
    with torch.no_grad():
        entropy = torch.distributions.Categorical(logits=net(data.test_x[:40])).entropy()
    np.testing.assert_allclose(np.concatenate(alike[out_of_distribution.SCALING]), entropy, rtol=1e-5)


def predict_first(net, data, key):
    return predict(net, data.test_x[:40], samples=4, key=key, outputs="logits").mutual_information


def test_areas_are_chances_that_a_stranger_scores_above_a_digit():
    found = {"auc": [], "curve": []}
    out_of_distribution._add_roc(found, np.array([0.1, 0.2, 0.3]), np.array([0.25, 0.4]))
    assert found["auc"] == [pytest.approx(5 / 6)]
    assert len(found["curve"][0]) == 101
    assert found["curve"][0][-1] == 1.0


def test_words_follow_the_interval():
    clear = statistics.difference([0.10, 0.11, 0.12, 0.11], [0.05, 0.06, 0.07, 0.06])
    assert statistics.in_words(clear) == "+5.00 ± 0.00 points, more than chance explains"
    unclear = statistics.difference([0.10, 0.02], [0.05, 0.06])
    assert statistics.in_words(unclear) == "+0.50 ± 4.50 points, within the error bars"


def test_ids_of_a_figure_begin_with_its_name():
    figure, axes = canvas()
    axes.plot([0, 1])
    svg = to_svg(figure, "here")
    assert svg.startswith("<svg")
    ids = set(re.findall(r' id="([^"]*)"', svg))
    assert ids
    assert all(name.startswith("here-") for name in ids)
    assert {name[1:] for name in re.findall(r'href="(#[^"]*)"', svg)} <= ids


def test_every_text_of_a_figure_follows_the_page_into_the_dark():
    """Those of a legend too, which is made after the canvas."""
    figure, axes = canvas()
    axes.plot([0, 1], label="what is shown")
    axes.legend()
    texts = re.findall(r"<!-- (.*?) -->\s*<g ([^>]*)>", to_svg(figure, "here"))
    assert "what is shown" in dict(texts)
    assert [text for text, style in texts if "fill: var(--figure-ink" not in style] == []
