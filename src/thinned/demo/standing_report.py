"""A report is shown again where nothing that made it has changed."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from dataclasses import asdict
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from thinned.demo.settings import Settings

PACKAGES: Final = ("numpy", "torch", "scikit-learn", "matplotlib")
_ELEMENT: Final = re.compile(r'<script type="application/json" id="run">(.*?)</script>', re.DOTALL)
_SOURCES: Final = (".py", ".j2", ".json")


def fingerprint(settings: Settings, seed: int) -> str:
    """Return a digest of all that decides a report's figures: arguments, sources, versions, and the machine.

    Args:
        settings: sizes.
        seed: of every split, network and mask.

    Raises:
        ModuleNotFoundError: a package that the demonstration needs is not installed.
    """
    code = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for file in sorted(file for file in code.rglob("*") if file.suffix in _SOURCES):
        digest.update(file.relative_to(code).as_posix().encode())
        digest.update(file.read_bytes())
    native = find_spec("thinned._native")  # which an installation in place has elsewhere
    if native is not None and native.origin is not None:
        digest.update(Path(native.origin).read_bytes())
    machine = [platform.node(), platform.machine(), os.cpu_count(), platform.python_version()]
    chosen = {name: os.environ.get(name) for name in ("THINNED_ISA", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    about = [asdict(settings), seed, [version(name) for name in PACKAGES], machine, chosen]
    digest.update(json.dumps(about, sort_keys=True).encode())
    return digest.hexdigest()


def standing(path: Path, made_by: str) -> dict[str, Any] | None:
    """Return the record of a report that this fingerprint made, None where there is none.

    Args:
        path: of the report.
        made_by: as `fingerprint` gives it.

    Returns:
        The fingerprint, `date`, and `findings`: pairs of a title and a finding.
    """
    try:
        found = _ELEMENT.search(path.read_text(encoding="utf-8"))
        record: dict[str, Any] = json.loads(found[1]) if found else {}
    except (OSError, ValueError):
        return None
    return record if record.get("fingerprint") == made_by else None
