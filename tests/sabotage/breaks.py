"""What is exchanged for what in which file, and the tests of the quick tier that have to see it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Break(NamedTuple):
    """One text of a file exchanged for another; `tests` are arguments of pytest, below tests/."""

    name: str
    file: str
    text: str
    instead: str
    tests: tuple[str, ...]

    @property
    def native(self) -> bool:
        """Whether the kernel has to be compiled again."""
        return self.file.startswith("native/")

    def applied(self, text: str) -> str:
        """The file's text with the break in it.

        Raises:
            LookupError: where the file does not have the text just once.
        """
        if text.count(self.text) != 1:
            raise LookupError(
                f"break {self.name!r}: {self.file} has {self.text!r} {text.count(self.text)} times, not "
                "once: say it anew in tests/sabotage"
            )
        return text.replace(self.text, self.instead)


def of(folder: str, listed: list[tuple[str, str, str, str, str]]) -> list[Break]:
    """Breaks of a folder: name, file, text, text instead, and the tests in one string."""
    return [Break(n, f"{folder}/{f}", old, new, tuple(tests.split())) for n, f, old, new, tests in listed]


CONTRACT = "contract/test_known_answers.py"
DIGESTS = "kernel/test_paths.py::test_known_digests"
