"""The command line, run within this process, and what it says of wrong input."""

from click.testing import CliRunner

from thinned.cli import main

FACTORY = """
import torch
def make():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 3))
"""


def run(*arguments, **options):
    return CliRunner(**options).invoke(main, [str(argument) for argument in arguments])


def assert_refused(result, *says):
    """An error of the command line; what `invoke` hands back besides would have been a traceback."""
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == 2, result.output
    assert not result.stdout
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert "Traceback" not in result.stderr
    for text in says:
        assert text in " ".join(result.stderr.split())
