"""Files are found, read and checked here by the rules that are on."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import libcst as cst

from thinned.audit._excerpt import excerpt
from thinned.audit._finding import Finding, Position
from thinned.audit._notebook import Notebook
from thinned.audit._rule import Rule
from thinned.audit._rules import RULES
from thinned.audit._source import Source
from thinned.audit._text import comments, decoded, too_deep, with_room

UNREADABLE = "THN000"
_UNUSED = "THN109"  # of a result that a notebook may show
# Folders that hold no code of one's own, as ruff passes them over.
EXCLUDED = frozenset(
    {
        *(".git", ".hg", ".svn", ".tox", ".nox", ".venv", "venv", ".eggs", ".mypy_cache", ".ruff_cache"),
        *("__pycache__", "__pypackages__", "node_modules", "site-packages", "build", "dist", "_build"),
    }
)
_FEW = 32  # files that one process reads sooner than a second one starts
_CODES = r"noqa(?P<codes>:\s*[A-Z]+\d+(?:[\s,]+[A-Z]+\d+)*)?"
_NOQA = re.compile(rf"#\s*(?:(?:ruff|flake8)\s*:\s*)?{_CODES}", re.IGNORECASE)
_FILE_NOQA = re.compile(rf"#\s*(?:ruff|flake8)\s*:\s*{_CODES}", re.IGNORECASE)


def files(paths: Iterable[Path], exclude: Collection[str] = ()) -> Iterator[Path]:
    """Python files and notebooks: those named, and those below the folders named, in order, each once.

    Args:
        paths: files and folders.
        exclude: glob patterns of files and folders below a folder, besides what is always passed over.

    Raises:
        FileNotFoundError: for a path that there is not.
    """
    seen: set[str] = set()
    for path in paths:
        if not path.is_file() and not path.is_dir():
            raise FileNotFoundError(f"{path}: no such file or folder")
        for file in [path] if path.is_file() else _below(path, exclude):
            place = os.path.realpath(file)
            if place not in seen:
                seen.add(place)
                yield file


def _below(root: Path, exclude: Collection[str]) -> Iterator[Path]:
    for folder, names, entries in os.walk(root):
        here = Path(folder)
        names[:] = sorted(
            name for name in names if name not in EXCLUDED and not _matches(here / name, root, exclude)
        )
        for entry in sorted(entries):
            file = here / entry
            wanted = file.suffix in {".py", ".pyi", ".ipynb"} and not _matches(file, root, exclude)
            if wanted and file.is_file():  # no pipe, and no link to nothing, as editors make for a lock
                yield file


def _matches(path: Path, root: Path, patterns: Collection[str]) -> bool:
    inner = path.relative_to(root)
    return any(inner.match(pattern) or path.match(pattern) for pattern in patterns)


def check_text(text: str, filename: str = "<text>", codes: Collection[str] | None = None) -> list[Finding]:
    """Return what the rules find in a text.

    Args:
        text: Python source.
        filename: for the findings.
        codes: of the rules; those that are on by default if None.

    Returns:
        Findings, in the order of the text; those that a `# noqa` comment silences are left out.

    Example:
        >>> [finding] = check_text("from torch.nn.functional import dropout; y = dropout(x, 0.5)")
        >>> finding.code, finding.start.column, finding.remedy
        ('THN101', 45, 'Pass training=self.training.')
    """
    wanted = [RULES[code] for code in (DEFAULT if codes is None else codes) if code in RULES]
    rules = [rule for rule in wanted if rule.may_find(text)]
    if not rules:
        return []
    nested = "The file cannot be parsed: its expressions are nested too deeply."
    if too_deep(text):
        return [_unreadable(filename, nested)]
    try:
        return with_room(lambda: _found(text, filename, rules))
    except cst.ParserSyntaxError as error:
        what = f"The file cannot be parsed: {error.message}."
        return [_unreadable(filename, what, error.raw_line, error.raw_column)]
    except RecursionError:
        return [_unreadable(filename, nested)]


def _found(text: str, filename: str, rules: Sequence[Rule]) -> list[Finding]:
    source = Source(excerpt(text, rules), text)
    findings = [
        Finding(
            rule.code,
            filename,
            *source.range(found.node),
            _one_line(found.what),
            _one_line(found.remedy),
            found.fix,
        )
        for rule in rules
        for found in rule.find(source)
    ]
    said = comments(text) if findings and _NOQA.search(text) else {}
    everywhere = [one for one in map(_FILE_NOQA.match, said.values()) if one is not None]
    kept = {finding: None for finding in findings if not _silenced(finding, said, everywhere)}
    return sorted(kept, key=lambda finding: (finding.start, finding.code))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def check_file(file: Path, codes: Collection[str] | None = None) -> list[Finding]:
    """Return what the rules find in a file.

    Args:
        file: Python source, or a notebook.
        codes: of the rules; those that are on by default if None.

    Returns:
        Findings, in the order of the file; a file that cannot be read is one, `THN000`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "a.py").write_text("dropout = 1; model.eval")
        ...     [finding.code for finding in check_file(Path(folder) / "a.py")]
        ['THN115']
    """
    try:
        raw = file.read_bytes()
        # Most files say nothing of dropout, and are not even decoded.
        if not _WORTH_A_LOOK.search(raw):
            return []
        text, _ = decoded(raw)
    except (OSError, UnicodeDecodeError, SyntaxError) as error:
        why = "it is no UTF-8, and names no other encoding"
        if not isinstance(error, UnicodeDecodeError):
            why = str(error.strerror if isinstance(error, OSError) else error)
        return [_unreadable(str(file), f"The file cannot be read: {why}.")]
    if file.suffix != ".ipynb":
        return check_text(text.replace("\r\n", "\n"), str(file), codes)
    try:
        notebook = Notebook(text)
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        why = f"it is none of format 4 ({type(error).__name__})"
        return [_unreadable(str(file), f"The notebook cannot be read: {why}.")]
    found = check_text(notebook.source, str(file), codes)
    located = [notebook.located(one) for one in found if one.code != _UNUSED or not notebook.shows(one)]
    broken = [
        replace(
            _unreadable(str(file), f"The cell cannot be parsed: {error.msg}.", error.lineno or 1),
            cell=number,
        )
        for number, error in notebook.broken.items()
        if _WORTH_A_LOOK.search(notebook.cell(number).encode())
    ]
    return sorted([*broken, *located], key=lambda one: (one.cell or 0, one.start))


def check(
    paths: Iterable[str | Path],
    codes: Collection[str] | None = None,
    *,
    exclude: Collection[str] = (),
    workers: int | None = None,
) -> list[Finding]:
    """Check files and whole folders, on all processors.

    Args:
        paths: files, and folders of which every Python file and notebook is read; none is imported.
        codes: of the rules; those that are on by default if None.
        exclude: glob patterns of what to pass over.
        workers: processes; as many as there are processors if None.

    Returns:
        Findings by file and place.

    Raises:
        FileNotFoundError: for a path that there is not.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "a.py").write_text("dropout = 1; model.eval")
        ...     [finding.remedy for finding in check([folder])]
        ['Write model.eval().']
    """
    found = list(files(map(Path, paths), exclude))
    count = min(workers or os.cpu_count() or 1, max(len(found) // _FEW, 1))
    if count == 1:
        return [finding for file in found for finding in check_file(file, codes)]
    with ProcessPoolExecutor(count, get_context("spawn")) as pool:
        results = pool.map(
            check_file, found, [codes] * len(found), chunksize=max(len(found) // (count * 16), 1)
        )
        return [finding for findings in results for finding in findings]


def _silenced(finding: Finding, said: dict[int, str], everywhere: Sequence[re.Match[str]]) -> bool:
    """Tells whether a comment on its first or its last line, or one for the file, names its code, or none."""
    here = [_NOQA.search(said.get(number, "")) for number in (finding.start.line, finding.end.line)]
    for comment in (*everywhere, *here):
        if comment is not None:
            codes = re.findall(r"[A-Z]+\d+", (comment["codes"] or "").upper())
            if not codes or finding.code in codes:
                return True
    return False


def _unreadable(filename: str, what: str, line: int = 1, column: int = 0) -> Finding:
    at = Position(max(line, 1), max(column, 0))
    return Finding(UNREADABLE, filename, at, at, what, "Mend it, or leave it out by exclude.")


DEFAULT = tuple(code for code, rule in RULES.items() if rule.default)
_WORTH_A_LOOK = re.compile(b"dropout", re.IGNORECASE)  # no rule finds anything in a file without the word
