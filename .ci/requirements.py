"""Prints what extras of pyproject.toml ask for, without thinned itself: `requirements.py test,torch`."""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]


def of(extras: str) -> Iterator[str]:
    """Requirements of extras, those of our own extras that they name among them."""
    for extra in extras.split(","):
        for asked in PROJECT["optional-dependencies"][extra]:
            ours = re.fullmatch(r"thinned\[(.+)\]", asked)
            yield from of(ours[1]) if ours else [asked]


if __name__ == "__main__":
    print("\n".join(dict.fromkeys([*PROJECT["dependencies"], *of(sys.argv[1])])))
