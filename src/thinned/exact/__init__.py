"""The average over all thinned networks is computed exactly: every mask is visited, and none drawn."""

from thinned.exact._average import average, average_linear, average_sites
from thinned.exact._masks import MAX_UNITS, masks
from thinned.exact._moments import Average
from thinned.exact._regression import expected_squared_error, linear_variance, ridge_penalty, ridge_solution

__all__ = [
    "MAX_UNITS",
    "Average",
    "average",
    "average_linear",
    "average_sites",
    "expected_squared_error",
    "linear_variance",
    "masks",
    "ridge_penalty",
    "ridge_solution",
]


def __dir__() -> list[str]:
    return sorted(__all__)
