"""Break the code on purpose, one place after another: each break has to turn a test of the quick tier red.

    python tests/sabotage/run.py [--only WORDS] [--python | --native] [--new] [--control] [--whole] [--write]

A break is made in a copy of the sources, never in these, and the copy is imported in place of the installed
package. Of a native break only the objects that it touches are compiled. The tests that a break names run
until one is red; where none is, `--whole` runs the whole quick tier. `--control` runs the named tests without
a break first, which have to be green. `--write` writes into docs/testing.md which test saw each break.
"""

from __future__ import annotations

import argparse
import re
import sys
import time

from breaks import Break
from copied import Copy
from every import EVERY
from table import rows, write

GREEN, RED = 0, 1  # pytest's own codes; others are no verdict
IN_TWO = ("--numprocesses", "2", "--dist", "loadfile", "--no-loadscope-reorder")


def first_red(printed: str) -> str:
    """The test that pytest's summary names first; a nested case rather than the test around it."""
    found = re.findall(r"^(?:SUBFAILED\[(.*?)\] |FAILED |ERROR )(\S.*?)(?: - .*)?$", printed, re.MULTILINE)
    return next((case or test for case, test in found), "?")


def check(copy: Copy, one: Break, whole: bool) -> tuple[bool, str]:
    """Whether a break is seen, and by which test or what happened instead."""
    with copy.broken(one):
        code, printed = copy.tested(one.tests)
        if code == GREEN and whole:
            code, printed = copy.tested((), *IN_TWO)
    if code == RED:
        return True, first_red(printed)
    if code == GREEN:
        return False, "no test is red"
    return False, f"no verdict, pytest ended with {code}:\n{printed[-2000:]}"


def control(copy: Copy, breaks: list[Break]) -> None:
    """All tests without a break, once each."""
    tests = tuple(dict.fromkeys(test for one in breaks for test in one.tests))
    code, printed = copy.tested(tests)
    if code != GREEN:
        raise SystemExit(f"without a break the tests are not green:\n{printed[-4000:]}")
    print(f"without a break all of {len(tests)} are green", flush=True)


def chosen(arguments: argparse.Namespace) -> list[Break]:
    """The breaks that the command line asks for."""
    breaks = [one for one in EVERY if not (arguments.python if one.native else arguments.native)]
    if arguments.new:
        known = rows()
        breaks = [one for one in breaks if one.name not in known]
    return [one for one in breaks if arguments.only in one.name or arguments.only in one.file]


def main() -> int:
    """A line for each break; 1 where one was not seen."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="breaks whose name or file has these words")
    parser.add_argument("--python", action="store_true", help="breaks of Python sources alone")
    parser.add_argument("--native", action="store_true", help="breaks of the kernel alone")
    parser.add_argument("--new", action="store_true", help="breaks that the table has no row of")
    parser.add_argument("--control", action="store_true", help="run the tests without a break first")
    parser.add_argument("--whole", action="store_true", help="the quick tier where no named test is red")
    parser.add_argument("--write", action="store_true", help="write the table of docs/testing.md")
    arguments = parser.parse_args()
    breaks, seen_by = chosen(arguments), {}
    with Copy.held() as copy:
        if arguments.control:
            control(copy, breaks)
        for one in breaks:
            begin = time.monotonic()
            seen, by = check(copy, one, arguments.whole)
            if seen:
                seen_by[one.name] = by
            verdict = "red " if seen else "MISSED"
            print(f"{verdict} {time.monotonic() - begin:6.1f} s  {one.name}: {by}", flush=True)
            if arguments.write:
                write(seen_by)
    missed = len(breaks) - len(seen_by)
    print(f"{len(breaks)} breaks, {missed} missed")
    return 1 if missed or not breaks else 0


if __name__ == "__main__":
    sys.exit(main())
