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


def of(folder: str, patches: str) -> list[Break]:
    """Breaks of a folder, a blank line between two: name, file and tests; text that goes; text that comes."""
    return [_break(folder, patch.splitlines()) for patch in patches.strip("\n").split("\n\n")]


def _break(folder: str, lines: list[str]) -> Break:
    said = " ".join(line.strip() for line in lines if line[0] not in "-+")
    gone, come = ("\n".join(line[1:] for line in lines if line[0] == sign) for sign in "-+")
    name, file, tests = said.split(" | ")
    return Break(name, f"{folder}/{file}", gone, come, tuple(tests.split()))
