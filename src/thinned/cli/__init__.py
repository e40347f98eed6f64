"""The command line `thinned` has one file for each command.

Public files are the commands. `_console` prints and reports errors, `_model` finds a model by its name,
`_drawing` has the options that commands of prediction share.
"""

from thinned._installed import install

try:
    import click
    import rich  # noqa: F401
except ModuleNotFoundError as missing:
    raise SystemExit(
        f"thinned: the command line needs {missing.name}, which is not installed: {install('cli')}"
    ) from None

from thinned import __version__
from thinned.cli._console import Commands
from thinned.cli.audit import audit
from thinned.cli.averages import averages
from thinned.cli.bench import bench
from thinned.cli.compare_dropouts import compare_dropouts
from thinned.cli.conformance import conformance
from thinned.cli.demo import demo
from thinned.cli.info import info
from thinned.cli.mask import mask
from thinned.cli.mc import mc

__all__ = ["main"]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="thinned", message="%(prog)s %(version)s")
def main() -> None:
    """Dropout, exact and the same everywhere: a mask is a function of (seed, stream, position, p)."""


for command in (info, mask, averages, audit, mc, conformance, demo, compare_dropouts, bench):
    main.add_command(command)


def __dir__() -> list[str]:
    return sorted(__all__)
