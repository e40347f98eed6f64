"""These options belong to every command that draws samples of a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS: Final = (
    click.option(
        "--state",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Weights for a factory's model.",
    ),
    click.option("--samples", type=click.IntRange(2), default=100, help="Thinned networks averaged at most."),
    click.option("--seed", type=click.IntRange(0, 2**64 - 1), default=0, help="Of the masks' key."),
    click.option(
        "--outputs",
        type=click.Choice(["logits", "probabilities", "values"]),
        default="logits",
        help="What the model returns.",
    ),
    click.option("--shared", is_flag=True, help="One thinned network for all inputs in each sample."),
    click.option(
        "--also", multiple=True, metavar="NAME", help="A module that drops only in training; repeatable."
    ),
)


def drawing(command: Command) -> Command:
    """Add them, in this order."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
