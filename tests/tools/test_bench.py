"""The benchmark suite: its verdicts on made-up numbers, and that every row runs. No timing decides a test."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import thinned
from thinned import _kernel, bench
from thinned.bench._autograd import saved_bytes
from thinned.bench._kinds import KINDS, OURS, TORCH, build
from thinned.bench._models import LanguageModel, VisionTransformer, gpt_blocks, paper_network
from thinned.bench._report import duration
from thinned.bench._verdict import count
from thinned.cli.bench import bench as command

NAMES = [row.name for row in bench.ROWS]


@pytest.fixture(scope="module")
def quick() -> bench.Measured:
    with warnings.catch_warnings():
        # torch's own, where a compiled module goes on after a break of the graph: it leaves one at an LSTM.
        warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf", UserWarning)
        return bench.run(settings=bench.QUICK)


def made_up(**results: bench.Result) -> bench.Measured:
    machine = bench.Machine(
        processor="Difference Engine",
        architecture="brass",
        cores=1,
        caches=("L1 1 × 1 KiB",),
        memory=2**30,
        system="Steam 1",
        path="portable",
        paths=("portable", "reference"),
        threads=1,
        load=0.0,
        date="1843-10-18T12:00+00:00",
        versions={"python": "3.11"},
    )
    return bench.Measured(machine, bench.Settings(), results)


# Verdicts.


@pytest.mark.parametrize(
    ("bound", "value", "met"),
    [
        (bench.at_most(0.95), 0.94, True),
        (bench.at_most(0.95), 0.95, True),
        (bench.at_most(0.95), 0.951, False),
        (bench.at_least(24), 24.0, True),
        (bench.at_least(24), 23.9, False),
        (bench.at_most(1), float("nan"), False),
        (bench.at_least(1), float("nan"), False),
        (None, 5.0, None),
    ],
)
def test_a_bound_is_met_up_to_its_limit(bound: bench.Bound | None, value: float, met: bool | None) -> None:
    assert bench.spread([value], "a / b", bound).met is met


def test_the_verdict_is_on_the_median() -> None:
    figure = bench.spread([0.9, 100.0, 0.8, 0.9, 0.9], "a / b", bench.at_most(0.95))
    assert (figure.median, figure.low, figure.high, figure.met) == (0.9, 0.9, 0.9, True)


def test_a_ratio_is_taken_within_its_round() -> None:
    # The machine is four times slower in the second round; the ratio of medians would hide what pairs show.
    race = bench.Race({"a": (1.0, 4.0, 1.0), "b": (2.0, 8.0, 1.0)})
    assert race.figure("a", "b").median == 0.5
    assert race.figure("b", "a").what == "b / a"
    assert race.medians() == {"a": 1.0, "b": 2.0}


def test_competitors_take_turns_and_change_order() -> None:
    order: list[str] = []
    timers = {name: (lambda name=name: order.append(name) or float(len(order))) for name in "abc"}
    race = bench.alternate(timers, 3)
    assert "".join(order) == "abccbaabc"
    assert race.seconds == {"a": (1.0, 6.0, 7.0), "b": (2.0, 5.0, 8.0), "c": (3.0, 4.0, 9.0)}


def test_each_competitor_runs_in_each_round() -> None:
    calls: list[str] = []
    competitors = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    race = bench.race(competitors, bench.Settings(repeats=5, batch=0.0))
    assert {name: len(seconds) for name, seconds in race.seconds.items()} == {"a": 5, "b": 5}
    assert calls.count("a") == calls.count("b") >= 5


# What is written.


def test_markdown_describes_the_machine_and_then_the_verdicts() -> None:
    run = made_up(
        good=bench.Result((bench.spread([2.0, 3.0, 4.0], "a / b", bench.at_least(3)),), {"a": 3e-6}),
        bad=bench.Result((bench.spread([2.0], "c / d", bench.at_most(1)), bench.spread([7.0], "e / f"))),
        saved=bench.Result((count(4096, "kept", "bytes", bench.at_most(0)),)),
        none=bench.Result(skipped="no such path"),
    )
    text = bench.as_markdown(run)
    assert text.index("Difference Engine") < text.index("| row | target |")
    assert "| good | a / b ≥ 3 | 3.00 × (2.50–3.50) | met |" in text
    assert "| bad | c / d ≤ 1 | 2.00 × | missed |\n|  | e / f | 7.00 × |  |" in text
    assert "| saved | kept ≤ 0 | 4,096 bytes | missed |" in text
    assert "| none | | not measured: no such path | |" in text
    assert "| good | a 3 µs |" in text
    assert "1 of 3 targets met; 1 row not measured." in text
    assert bench.warnings(run) == []


def test_a_busy_machine_and_a_quick_run_are_warned_of() -> None:
    run = made_up()
    busy = replace(run, machine=replace(run.machine, load=3.1), settings=bench.QUICK)
    quick_run, load = bench.warnings(busy)
    assert "no figure in it counts" in quick_run
    assert "load average 3.10" in load
    assert f"**{load}**" in bench.as_markdown(busy)


@pytest.mark.parametrize(
    ("seconds", "text"), [(2.5, "2.5 s"), (0.0123, "12.3 ms"), (4e-6, "4 µs"), (25e-9, "25 ns")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.full
def test_written_results_hold_target_measurement_and_machine(quick: bench.Measured, tmp_path: Path) -> None:
    bench.write(quick, tmp_path / "results.json")
    bench.write(quick, tmp_path / "results.md")
    found = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in found["rows"]] == NAMES
    assert found["quick"] is True
    assert found["machine"]["versions"].keys() == {
        "python",
        "numpy",
        "torch",
        "triton",
        "jax",
        "flax",
        "tensorflow",
        "keras",
        "thinned",
    }
    for row in found["rows"]:
        assert row["machine"] == quick.machine.name
        if row["skipped"]:
            continue
        assert all(isinstance(figure["measured"], float | int) for figure in row["figures"])
        judged = any(figure["target"] and figure["met"] in (True, False) for figure in row["figures"])
        assert judged or row["name"].startswith("GPU")  # some of these are for orientation
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "no figure in it counts" in text
    assert all(f"| {name} |" in text for name in NAMES)


def test_a_suffix_that_names_no_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"written as \.json or \.md, got .*results\.csv"):
        bench.write(made_up(), tmp_path / "results.csv")


# The rows.


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES)
def test_every_row_runs(quick: bench.Measured, name: str) -> None:
    result = quick.results[name]
    if result.skipped:
        pytest.skip(result.skipped)
    assert any(figure.bound for figure in result.figures)
    assert all(figure.low <= figure.median <= figure.high for figure in result.figures)
    assert all(seconds > 0 for seconds in result.seconds.values())


def test_names_are_told_apart() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert [row.name for row in bench.select("avx2")] == [name for name in NAMES if "AVX2" in name]
    with pytest.raises(ValueError, match="no row is named like 'nothing'"):
        bench.select("nothing")


@pytest.mark.full
def test_nothing_is_saved_for_backward_and_nothing_copied(quick: bench.Measured) -> None:
    figures = {f.what: f for result in quick.results.values() for f in result.figures if f.unit != "×"}
    assert figures["thinned, saved for backward"].met is True
    assert figures["thinned, results that are copies"].met is True


def test_saved_bytes_would_see_a_saved_tensor() -> None:
    x = torch.ones(10, requires_grad=True)
    assert saved_bytes(lambda x: x.exp(), x) == 40
    assert saved_bytes(lambda x: x + 1, x) == 0


def test_a_path_that_is_not_there_is_said_to_be_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kernel, "paths", lambda: ["portable", "reference"])
    found = bench.run("AVX2", bench.QUICK)
    assert {result.skipped for result in found.results.values()} == {
        "the code paths here are portable, reference"
    }


@pytest.mark.parametrize(
    "match",
    [
        pytest.param("AVX2 path, 64 Ki"),
        *(pytest.param(m, marks=pytest.mark.full) for m in ("two threads", "1 Ki")),
    ],
)
def test_a_run_leaves_path_threads_and_generator_as_they_were(match: str) -> None:
    def state() -> tuple[object, ...]:
        threads = (thinned.get_num_threads(), torch.get_num_threads())
        return _kernel.path(), *threads, torch.random.get_rng_state().tolist()

    before = state()
    bench.run(match, bench.QUICK)
    assert state() == before


def test_the_paper_s_network() -> None:
    model = paper_network(KINDS[TORCH])
    sizes = [layer.out_features for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
    rates = [layer.p for layer in model.modules() if isinstance(layer, torch.nn.Dropout)]
    assert (sizes, rates) == ([1024, 1024, 1024, 10], [0.2, 0.5, 0.5, 0.5])


def test_gpt_blocks_drop_probabilities_and_both_residual_branches() -> None:
    seen: list[tuple[int, ...]] = []

    class Spy(torch.nn.Dropout):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(tuple(x.shape))
            return super().forward(x)

    out = gpt_blocks(replace(KINDS[TORCH], dropout=Spy))(torch.randn(2, 5, 256))
    assert out.shape == (2, 5, 256)
    assert seen == 2 * [(2, 8, 5, 5), (2, 5, 256), (2, 5, 256)]


def test_attention_sees_no_later_token() -> None:
    model = gpt_blocks(KINDS[TORCH]).eval()
    x = torch.randn(1, 6, 256)
    changed = x.clone()
    changed[:, 4:] += 1.0
    torch.testing.assert_close(model(x)[:, :4], model(changed)[:, :4])


def test_the_networks_of_all_kinds_are_one_network_in_evaluation() -> None:
    images, text = torch.randn(2, 3, 32, 32), torch.randint(50, (7, 3))
    for make, x in (
        (lambda kind: VisionTransformer(kind, 32, 64), images),
        (lambda kind: LanguageModel(kind, 50, 16), text),
    ):
        models = build(make)
        results = [model.eval()(x) for model in models.values()]
        assert all(torch.equal(results[0], other) for other in results)
        trained = [model.train()(x) for model in models.values()]
        assert not torch.equal(trained[0], trained[1])
        assert not torch.equal(trained[0], trained[2])


def test_stochastic_depth_rises_with_the_depth() -> None:
    paths = [m for m in VisionTransformer(KINDS[OURS], 32, 64).modules() if hasattr(m, "scale_by_keep")]
    assert [path.p for path in paths] == pytest.approx([0.05, 0.05, 0.1, 0.1, 0.15, 0.15, 0.2, 0.2])


# The command.


def test_list_names_the_rows_and_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "run", lambda *_: pytest.fail("measured"))
    done = CliRunner().invoke(command, ["--list", "step"])
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [name for name in NAMES if "step" in name]


def test_json_and_files(tmp_path: Path) -> None:
    outs = [tmp_path / "results.json", tmp_path / "results.md"]
    arguments = ["evaluation", "--quick", "--repeats", "3", "--json"]
    done = CliRunner().invoke(command, [*arguments, *(word for out in outs for word in ("--out", str(out)))])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["settings"]["repeats"] == 3
    assert [row["name"] for row in found["rows"]] == ["evaluation, and p = 0"]
    assert json.loads(outs[0].read_text(encoding="utf-8")) == found
    assert outs[1].read_text(encoding="utf-8").startswith("# What `thinned bench` measured")


def test_the_table_is_for_people() -> None:
    done = CliRunner().invoke(command, ["evaluation", "--quick"])
    assert done.exit_code == 0, done.output
    for words in ("processor", "evaluation", "verdict", "targets met", "A quick run"):
        assert words in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "no row is named like 'nothing'"),
        (["--out", "results.csv"], "a result is written as .json or .md"),
        (["--repeats", "0"], "0 is not in the range x>=1"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_measured(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "run", lambda *_: pytest.fail("measured"))
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 2
    assert message in done.stderr
