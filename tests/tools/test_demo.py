"""The demonstration: a report that needs nothing but itself, and says what its data say."""

import json
import re

import pytest
import torch
from click.testing import CliRunner

from thinned.cli import main
from thinned.demo import committee, conventions, digits, spread
from thinned.demo.drawing import canvas, to_svg

SECTIONS = ["ones", "averages", "conventions", "committee", "step"]


def demo(path, *arguments):
    result = CliRunner().invoke(main, ["demo", "--quick", "--out", str(path), *arguments])
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split()), path.read_text(encoding="utf-8")


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return demo(tmp_path_factory.mktemp("demo") / "report.html", "--seed", "5")


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
        assert f"{spread.spread(data['conventions']['errors'][name]).percent()} {name}" in shown
    last = [errors[-1] for errors in data["committee"]["committee"]]
    assert spread.spread(last).percent() in shown
    for name, ratio in list(data["step"]["ratio"].items())[1:]:
        assert f"{data['step']['quartiles'][name][1] * 1e3:.2f} ms" in shown
        assert f"({ratio:.2f} ×)" in shown


def test_report_repeats_the_summary_and_the_command(made):
    shown, page = made
    text = page.replace("\u00a0", " ")
    for finding in re.findall(r"<dd>(.*?)</dd>", text, re.S):
        assert finding in shown
    assert "thinned demo --seed 5 --quick" in page


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


def test_words_follow_the_interval():
    clear = spread.difference([0.10, 0.11, 0.12, 0.11], [0.05, 0.06, 0.07, 0.06])
    assert spread.in_words(clear) == "+5.00 ± 0.00 points, more than chance explains"
    unclear = spread.difference([0.10, 0.02], [0.05, 0.06])
    assert spread.in_words(unclear) == "+0.50 ± 4.50 points, within the error bars"


def test_ids_of_a_figure_begin_with_its_name():
    figure, axes = canvas()
    axes.plot([0, 1])
    svg = to_svg(figure, "here")
    assert svg.startswith("<svg")
    ids = set(re.findall(r' id="([^"]*)"', svg))
    assert ids
    assert all(name.startswith("here-") for name in ids)
    assert {name[1:] for name in re.findall(r'href="(#[^"]*)"', svg)} <= ids
