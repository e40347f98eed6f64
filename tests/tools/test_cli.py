"""The command line: what it prints, what it refuses, and what it says when something is missing."""

import json
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

import thinned
from thinned import _kernel
from thinned._installed import install
from thinned.cli import main

DIGEST = "0a115cad0721bf632c29a01cb034ba99fd13916e7913baf343fd90fd33edf0db"


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def printed_json(*arguments):
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def every_command(group=main, words=()):
    yield words
    for name, command in getattr(group, "commands", {}).items():
        yield from every_command(command, (*words, name))


@pytest.mark.parametrize("command", list(every_command()), ids=" ".join)
def test_every_command_has_help_whose_lines_are_whole(command):
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout
    listed = result.stdout.partition("\nCommands:")[2]
    assert "..." not in listed, "pass short_help="


def test_version():
    assert run("--version").stdout == f"thinned {thinned.__version__}\n"


def test_info_names_path_threads_and_frameworks():
    facts = printed_json("info")
    assert facts["path"] == _kernel.path()
    assert facts["paths"] == _kernel.paths()
    assert facts["threads"] == thinned.get_num_threads()
    assert facts["frameworks"]["numpy"] == np.__version__
    assert all(facts["frameworks"].values()), "all of them are installed where the tests run"
    assert _kernel.path() in run("info").stdout


def test_info_says_what_to_do_without_the_native_module(monkeypatch):
    monkeypatch.setattr(_kernel, "paths", lambda: ["reference"])
    monkeypatch.setattr(_kernel, "path", lambda: "reference")
    shown = " ".join(run("info").stdout.split())
    assert "the NumPy reference does the work: the same bits, but slower" in shown
    assert "then install again from the source: pip install --force-reinstall" in shown
    assert not printed_json("info")["native"]


def test_mask_gives_the_contract_s_digest():
    facts = printed_json("mask", "1000", "-p", 0.1, "--seed", 42, "--stream", 7)
    assert (facts["kept"], facts["dropped"], facts["sha256"]) == (918, 82, DIGEST)
    shown = run("mask", "1000", "-p", 0.1, "--seed", 42, "--stream", 7).stdout
    assert DIGEST in shown
    assert "918" in shown


def test_mask_folds_numbers_and_names():
    key = thinned.Key(1, 2).fold("encoder.0.dropout").fold(17)
    facts = printed_json(
        "mask", "10", "-p", 0.5, "--seed", 1, "--stream", 2, "--fold", "encoder.0.dropout", "--fold", "17"
    )
    assert facts["stream"] == key.stream


def test_mask_writes_the_array(tmp_path):
    path = tmp_path / "mask.npy"
    facts = printed_json("mask", "4,6", "-p", 0.3, "--seed", 5, "--out", path)
    kept = np.load(path)
    assert np.array_equal(kept, thinned.keep_mask((4, 6), 0.3, key=thinned.Key(5)))
    assert facts["kept"] == kept.sum()


def test_mask_of_a_part_is_the_part_of_the_mask(tmp_path):
    path = tmp_path / "part.npy"
    assert (
        run("mask", "2,3", "-p", 0.5, "--global-shape", "8,9", "--start", "4,5", "--out", path).exit_code == 0
    )
    whole = thinned.keep_mask((8, 9), 0.5, key=thinned.Key(0))
    assert np.array_equal(np.load(path), whole[4:6, 5:8])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("mask", "10"), "--p"),
        (("mask", "10", "-p", "1.5"), "p must be in [0, 1], got 1.5"),
        (("mask", "10", "-p", "nan"), "p must be in [0, 1], got nan"),
        (("mask", "ten", "-p", "0.5"), "SHAPE"),
        (("mask", "10", "-p", "0.5", "--seed", "-1"), "--seed"),
        (("mask", "10", "-p", "0.5", "--start", "3"), "global_shape"),
        (("mask", "10", "-p", "0.5", "--global-shape", "9"), "global_shape"),
        (("mask", "10", "-p", "0.5", "--fold", str(2**60)), "data must be in"),
        (("mask", "10", "-p", "0.5", "--out", "/nowhere/at/all.npy"), "--out"),
        (("averages", "--size", "0"), "--size"),
        (("averages", "--masks", "1"), "--masks"),
        (("averages", "--keep", "0"), "--keep"),
        (("averages", "--keep", "nan", "--size", "9", "--masks", "2"), "keep must be in"),
        (("averages", "--size", "9", "--masks", "2", "--plot", "plot.nothing"), "--plot"),
        (("demo", "--seed", "-1"), "--seed"),
    ],
)
def test_wrong_arguments_exit_with_2_and_are_named(arguments, named):
    result = run(*arguments)
    assert result.exit_code == 2
    assert named in result.stderr
    assert not result.stdout


def test_averages_prints_a_table_and_json_of_the_same_numbers():
    arguments = ("averages", "--size", 2000, "--masks", 40, "--keep", 0.5, "--keep", 0.25, "--seed", 6)
    facts = printed_json(*arguments)
    assert [rate["keep"] for rate in facts["rates"]] == [0.5, 0.25]
    shown = run(*arguments).stdout
    for rate in facts["rates"]:
        assert f"{rate['unscaled']['mean']:.2f}" in shown
        assert f"{rate['scaled']['mean']:.2f}" in shown


def test_averages_compares_with_plain_numpy():
    facts = printed_json("averages", "--size", 2000, "--masks", 4, "--compare")["compare"]
    assert facts["ratio"] == facts["plain_seconds_per_mask"] / facts["seconds_per_mask"]


@pytest.mark.parametrize(("name", "begins"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml")])
def test_averages_draws_a_plot(tmp_path, name, begins):
    path = tmp_path / name
    assert run("averages", "--size", 200, "--masks", 4, "--plot", path).exit_code == 0
    assert path.read_bytes().startswith(begins)


def without(packages, *commands):
    """Run commands of `thinned` in a new interpreter in which these packages cannot be imported."""
    program = (
        f"import sys\nfor name in {packages!r}: sys.modules[name] = None\nfrom thinned.cli import main\n"
    )
    *first, last = [list(map(str, command)) for command in commands]
    program += "".join(f"main({command!r}, standalone_mode=False)\n" for command in first) + f"main({last!r})"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("package", ["click", "rich"])
def test_a_missing_package_is_named_with_its_extra(package):
    result = without([package], ["info"])
    assert result.returncode == 1
    assert result.stderr.strip() == (
        f"thinned: the command line needs {package}, which is not installed: {install('cli')}"
    )


# Each starts an interpreter; the name of the module is all in which they differ.
@pytest.mark.parametrize(
    "package",
    [
        "jinja2",
        *(pytest.param(p, marks=pytest.mark.full) for p in ("torch", "sklearn", "torchmetrics", "cpuinfo")),
    ],
)
def test_demo_names_the_extra_it_needs(package):
    result = without([package], ["demo", "--quick"])
    assert result.returncode == 1
    assert result.stderr.strip() == (
        f"Error: {package} is not installed, and this needs it: {install('demo')}"
    )


def test_a_plot_names_the_extra_it_needs(tmp_path):
    result = without(["matplotlib"], ["averages", "--size", 9, "--masks", 2, "--plot", tmp_path / "a.png"])
    assert result.returncode == 1
    assert result.stderr.strip() == (
        f"Error: matplotlib is not installed, and this needs it: {install('cli')}"
    )
    assert "\n" not in result.stderr.rstrip("\n")  # no progress bar: nothing was drawn before


def test_light_commands_load_no_heavy_package(tmp_path):
    heavy = ["torch", "sklearn", "scipy", "jinja2", "cpuinfo", "jax", "tensorflow"]
    plot = tmp_path / "a.png"
    result = without(
        heavy, ["info"], ["mask", 9, "-p", 0.5], ["averages", "--size", 9, "--masks", 2, "--plot", plot]
    )
    assert result.returncode == 0, result.stderr
    assert plot.exists()
