"""`thinned audit` finds mistakes with dropout in a code base without running it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from thinned.cli._console import extra, writing

_CODES = "Codes or beginnings of codes, with commas, such as THN1,THN203; ALL for all."


def _codes(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    return tuple(one.strip() for one in value.split(",") if one.strip())


@click.command(short_help="Find mistakes with dropout in Python files.")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--select", callback=_codes, metavar="CODES", help=f"The rules to check. {_CODES}")
@click.option("--ignore", callback=_codes, metavar="CODES", help="Rules not to check.")
@click.option(
    "--extend-select", "extend", callback=_codes, metavar="CODES", help="Rules to check besides the others."
)
@click.option("--exclude", multiple=True, metavar="GLOB", help="Files or folders to pass over; repeatable.")
@click.option("--fix", is_flag=True, help="Apply the safe fixes.")
@click.option(
    "--unsafe-fixes", is_flag=True, help="Take fixes too that may change what the code was meant to do."
)
@click.option("--diff", is_flag=True, help="Show what the fixes would change, and write nothing.")
@click.option(
    "--output-format",
    type=click.Choice(["text", "json", "github", "sarif"]),
    default="text",
    help="How findings are printed.",
)
@click.option("--isolated", is_flag=True, help="Read no pyproject.toml.")
@click.option("--explain", metavar="CODE", help="Say what a rule is about, and stop.")
def audit(
    paths: tuple[Path, ...],
    select: tuple[str, ...] | None,
    ignore: tuple[str, ...] | None,
    extend: tuple[str, ...] | None,
    exclude: tuple[str, ...],
    fix: bool,
    unsafe_fixes: bool,
    diff: bool,
    output_format: str,
    isolated: bool,
    explain: str | None,
) -> None:
    """Find mistakes with dropout in Python files and notebooks: those of PATHS, or of this folder.

    Nothing is imported or run. The exit status is 0 where nothing is found, 1 where something is, and 2 for
    an error.
    """
    with extra("audit"):
        from thinned.audit import check
        from thinned.audit._formats import FORMATS
        from thinned.audit._settings import Settings, of_project
    if explain is not None:
        click.echo(_explained(explain))
        return
    where = paths or (Path(),)
    try:
        settings = Settings() if isolated else of_project(where)
        settings = replace(
            settings,
            select=settings.select if select is None else select,
            ignore=settings.ignore + (ignore or ()),
            extend=settings.extend + (extend or ()),
            exclude=settings.exclude + exclude,
        )
        findings: Sequence[Any] = check(where, settings.codes(), exclude=settings.exclude)
    except (ValueError, OSError) as error:
        raise click.UsageError(str(error)) from None
    if fix or diff:
        findings, changes = _mended(findings, unsafe_fixes, write=not diff)
        if diff:
            click.echo(changes, nl=False)
            raise SystemExit(1 if changes else 0)
    click.echo(FORMATS[output_format](findings))
    if findings:
        raise SystemExit(1)


def _mended(findings: Sequence[Any], unsafe: bool, write: bool) -> tuple[list[Any], str]:
    """The findings that are left, and what has changed, as a diff."""
    from thinned.audit._fix import diff, fixable, fixed_file

    left = list(findings)
    changes = ""
    by_file: dict[str, list[Any]] = {}
    for finding in fixable(findings, unsafe):
        by_file.setdefault(finding.filename, []).append(finding)
    for name, own in by_file.items():
        file = Path(name)
        fixed = fixed_file(file, own)
        changes += diff(file, fixed.before, fixed.after)
        if write:
            with writing(file, "--fix") as beside:
                beside.write_bytes(fixed.after.encode(fixed.encoding))
        done = {id(finding) for finding in fixed.mended}
        left = [finding for finding in left if id(finding) not in done]
    return left, changes


def _explained(code: str) -> str:
    from thinned.audit import RULES
    from thinned.audit._finding import page

    rule = RULES.get(code.upper())
    if rule is None:
        raise click.BadParameter(f"there is no rule {code!r}", param_hint="'--explain'")
    state = "on by default" if rule.default else "off by default"
    about = " ".join((rule.find.__doc__ or "").split())
    return f"{rule.code} {rule.name} ({state})\n\n{about}\n\n{page(rule.code)}"
