"""The report is one HTML page that loads nothing else."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from importlib.resources import files

import cpuinfo  # type: ignore[import-untyped]
import torch
from jinja2 import Environment, StrictUndefined

from thinned import __version__, _kernel, get_num_threads
from thinned.demo.section import Section
from thinned.demo.standing_report import PACKAGES


def render(sections: Sequence[Section], command: str, made_by: str = "") -> str:
    """The page.

    Args:
        sections: what `run` returned.
        command: the command that made it, to be shown.
        made_by: its `fingerprint`, by which the next run knows that the report stands.

    Returns:
        HTML. Every figure is inline; nothing is loaded from elsewhere. The data lie in it as JSON, in the
        element of id "data", one entry a section.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["typeset"] = _typeset
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    template = environment.from_string(
        files("thinned.demo").joinpath("report.html.j2").read_text(encoding="utf-8")
    )
    data = {section.name: section.data for section in sections}
    record = {
        "fingerprint": made_by,
        "date": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        "findings": [[section.title, section.finding] for section in sections],
    }
    machine = {"date": record["date"], **describe_machine()}
    return template.render(sections=sections, data=data, run=record, machine=machine, command=command)


def _typeset(text: str) -> str:
    """Keep a number, its error and its unit on one line."""
    for mark in (" ±", "± ", " %", " ×", " ms"):
        text = text.replace(mark, mark.replace(" ", "\u00a0"))
    return text


def describe_machine() -> dict[str, str]:
    """Processor, threads, code path and versions."""
    processor = cpuinfo.get_cpu_info().get("brand_raw") or platform.machine()
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return {
        "processor": str(processor),
        "threads": f"{get_num_threads()} (thinned), {torch.get_num_threads()} (torch)",
        "code path": f"{_kernel.path()} (of {', '.join(_kernel.paths())})",
        "versions": f"thinned {__version__}, Python {platform.python_version()}, {packages}",
    }
