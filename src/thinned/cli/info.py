"""`thinned info` shows which kernel computes here, and which frameworks are installed."""

from __future__ import annotations

import platform
import shlex
from typing import Any, Final

import click
from rich.table import Table

from thinned import __version__, _kernel, get_num_threads
from thinned._installed import origin, versions
from thinned.cli._console import show, show_json
from thinned.contract import CONTRACT_VERSION

FRAMEWORKS: Final = ("numpy", "torch", "jax", "tensorflow", "keras", "flax", "equinox")

REMEDY: Final = (
    "The native module is not built, so the NumPy reference does the work: the same bits, but slower. To "
    "mend it, install a C++17 compiler, then install again from the source: "
    "pip install --force-reinstall --no-deps --no-cache-dir {source}"
)


@click.command(short_help="Show the code path and the frameworks found.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def info(as_json: bool) -> None:
    """Show the code path in use, threads, and the frameworks found."""
    facts = gather()
    if as_json:
        show_json(facts)
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row("thinned", f"{facts['version']}, mask contract {facts['contract']}")
    table.add_row("Python", f"{facts['python']} on {facts['machine']}")
    table.add_row("code path", f"{facts['path']} (of {', '.join(facts['paths'])})")
    table.add_row("threads", str(facts["threads"]))
    for name, found in facts["frameworks"].items():
        table.add_row(name, found or "[dim]not installed[/dim]")
    show(table)
    if facts["remedy"]:
        show("", facts["remedy"])


def gather() -> dict[str, Any]:
    """The facts, ready for JSON. No framework is imported for them."""
    native = len(_kernel.paths()) > 1
    return {
        "version": __version__,
        "contract": CONTRACT_VERSION,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "native": native,
        "path": _kernel.path(),
        "paths": _kernel.paths(),
        "threads": get_num_threads(),
        "frameworks": versions(FRAMEWORKS),
        "remedy": None if native else REMEDY.format(source=_source()),
    }


def _source() -> str:
    """Return where this package was installed from, as pip takes it."""
    came, path = origin()
    folder = came.get("dir_info")
    if folder is None or path is None:
        return "PATH_OF_THE_SOURCE"
    return f"--editable {shlex.quote(str(path))}" if folder.get("editable") else shlex.quote(str(path))
