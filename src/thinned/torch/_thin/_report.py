"""What `thin` did to a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from thinned.torch._conversion._report import Model, Report


@dataclass(frozen=True, eq=False, kw_only=True)
class Thinning(Report[Model]):
    """`thinned`: what each site now spares, by its name.

    Attributes:
        share: the expected share of multiplications left, of all by the weights of Linear and Conv modules;
            what stands between a convolution's positions and a linear map's rows is not weighed.
    """

    thinned: dict[str, str]
    share: float = 1.0

    def _lines(self) -> Iterator[str]:
        yield from super()._lines()
        yield f"multiplications left, expected: {self.share:.0%}"
