"""Every command with every kind of wrong input: one line, status 2, no traceback, nothing left behind.

The commands are found, not listed: a new one falls into these tests, and has to say in `RUNS` how it is run.
"""

import sys

import click
import pytest
from cli_runs import assert_refused, run

from thinned.cli import main
from thinned.cli._console import OutPath

pytestmark = pytest.mark.usefixtures("here")

# How each command is run: what it takes, without its options. A path is one of the files of `folder`.
RUNS = {
    "audit": ("--isolated", "factory.py"),
    "info": (),
    "mask": ("3,4", "-p", "0.5"),
    "averages": ("--size", "9", "--masks", "2"),
    "compare-dropouts": ("--quick",),
    "conformance": ("--backend", "numpy"),
    "demo": ("--quick",),
    "bench": ("dense", "--quick"),
    "mc compare": ("factory.py:make", "data.npz", "--samples", "4", "--resamples", "99"),
    "mc predict": ("factory.py:make", "data.npy", "--samples", "4", "--out", "predictions"),
}
# These are only given what is refused before any work.
SLOW = {"compare-dropouts", "demo", "bench", "mc predict", "conformance"}


def commands(group=main, path=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(commands())


def test_every_command_says_how_it_is_run():
    assert set(COMMANDS) == set(RUNS)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("charset", ["ascii", "cp1252"])
def test_help_on_any_terminal(command, charset):
    result = run(*command.split(), "--help", charset=charset)
    assert result.exit_code == 0, repr(result.exception)
    assert "Usage:" in result.stdout


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - SLOW))
@pytest.mark.parametrize("charset", ["ascii", "cp1252"])
def test_results_on_any_terminal(command, charset):
    """Outputs have ×, …, − and Σ."""
    result = run(*command.split(), *RUNS[command], charset=charset)
    assert result.exit_code == 0, repr(result.exception)
    assert result.stdout


def options(kind):
    """The options of each command that have a type, and how they are spelt."""
    return [
        pytest.param(name, option.opts[-1], id=f"{name} {option.opts[-1]}")
        for name, command in COMMANDS.items()
        for option in command.params
        if isinstance(option, click.Option) and isinstance(option.type, kind)
    ]


def test_all_that_is_written_is_an_out_path():
    """Which is looked at before any work, and written as a whole."""
    for name, command in COMMANDS.items():
        for option in command.params:
            written = isinstance(option, click.Option) and isinstance(option.type, click.Path)
            if written and not option.type.exists:
                assert isinstance(option.type, OutPath), f"{name} {option.opts[-1]}"


@pytest.mark.parametrize(("command", "option"), options(OutPath))
def test_what_cannot_be_written_is_refused_before_any_work(command, option, folder):
    arguments = [a for a in RUNS[command] if option != "--out" or a not in ("--out", "predictions")]
    result = run(*command.split(), *arguments, option, folder / "nowhere" / "out.json")
    assert_refused(result, f"'{option}'", "there is no directory")
    wrong = folder / "data.npy" if COMMANDS[command].name == "predict" else folder
    assert_refused(run(*command.split(), *arguments, option, wrong), f"'{option}'")


@pytest.mark.parametrize(("command", "option"), options((click.IntRange, click.FloatRange)))
@pytest.mark.parametrize("value", ["-1", "many", "1e", "٣x", ""], ids=str)
def test_a_number_out_of_range_names_its_option(command, option, value):
    result = run(*command.split(), *RUNS[command], f"{option}={value}")
    assert_refused(result, f"'{option}'")


@pytest.mark.parametrize(
    "shape", ["1000000000000", "9" * 19, "9" * 30, "9" * 5000, "-3", "3,,4", "", "3.0", "²"]
)
def test_mask_of_a_wrong_shape(shape):
    assert_refused(run("mask", "-p", "0.5", "--", shape))


def test_no_memory_is_one_line(monkeypatch):
    def keep_mask(*_, **__):
        raise MemoryError("931. GiB")

    monkeypatch.setattr(sys.modules["thinned.cli.mask"], "keep_mask", keep_mask)
    assert_refused(run("mask", "9", "-p", "0.5"), "not enough memory: 931. GiB")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("missing.py",), "missing.py"),
        (("--select", "NONE", "factory.py"), "NONE"),
        (("--explain", "THN0"), "there is no rule 'THN0'"),
        (("--output-format", "poem", "factory.py"), "'--output-format'"),
    ],
)
def test_audit_of_what_there_is_not(arguments, says):
    assert_refused(run("audit", "--isolated", *arguments), says)
