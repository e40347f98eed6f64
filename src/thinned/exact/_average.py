"""A function is averaged here over all masks of one site, of several, or of a linear layer's input."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from thinned.exact import _moments
from thinned.exact._masks import Doubles, Mode, Units, check_chunk, check_few, check_units, every, undecided
from thinned.exact._moments import Average, Geometric, moments

_NUMBERS = 1 << 20  # in one chunk: 8 MiB
_MOST = 4096


def average(
    function: Callable[[Any], Any],
    x: Any,
    p: Any,
    *,
    mode: Mode = "inverted",
    geometric: Geometric | None = None,
    chunk: int | None = None,
) -> Average:
    """Average function(dropout(x)) over all masks of x's last axis, each at its probability.

    All rows of an x of several dimensions share a mask. An output that depends on one row has the average
    and the variance that it has with a mask a row; one that mixes rows has not.

    Args:
        function: takes thinned inputs, shape (b, …, n), and returns outputs, shape (b, …): a NumPy function,
            or a torch module or function if x is a tensor. A module must be in evaluation mode.
        x: real numbers, shape (…, n); computed in double, or in the dtype of a tensor.
        p: drop probability in [0, 1], one number or one a unit; at most 20 of them neither 0 nor 1.
        mode: "inverted" multiplies what is kept by 1/(1−p); "classic" leaves it.
        geometric: "categorical" if outputs are probabilities that sum to 1 along their last axis (softmax),
            "bernoulli" if each is the probability of an event of its own (sigmoid); None for no such mean.
        chunk: most masks at a time; if None, so many that thinned inputs take 8 MiB, at most 4096.

    Returns:
        Arithmetic mean, variance, weight scaling and geometric mean. Tensors carry gradients: under
        `torch.no_grad()` nothing is kept for them.

    Raises:
        TypeError: `p must be a real number, got …`; `x must be a floating-point tensor, got …`.
        ValueError: `24 units have 2^24 masks, and at most 20 units are enumerated: …`; `x must have at least
            one dimension …`; `function must return one output for each of the … masks, got shape …`.

    Source:
        Srivastava et al., "Dropout", JMLR 2014, sections 1 and 4; Baldi and Sadowski, "Understanding
        Dropout", NIPS 2013 (geometric means).

    Example:
        >>> result = average(lambda x: np.maximum(x.sum(axis=1), 0), [1.0, -1.0], 0.5)
        >>> float(result.mean), float(result.weight_scaling)
        (0.5, 0.0)
    """
    x = _moments.as_input(x, "x")
    if x.ndim == 0:
        raise ValueError("x must have at least one dimension, the units, got shape ()")
    units = check_units(x.shape[-1], p, mode)
    rows = (1,) * (x.ndim - 1)

    def thinned(factors: Doubles) -> Any:
        wide = factors.reshape(len(factors), *rows, -1)
        zero = _moments.like(np.zeros(()), x)
        # A dropped unit is 0 whatever it was: NaN times 0 is not.
        kept = _moments.namespace(x).where(_moments.like(wide != 0, x), x, zero)
        return function(kept * _moments.like(wide, x))

    most = _inputs_at_a_time(int(np.prod(x.shape)), chunk)
    return _over_factors(thinned, units, geometric, most)


def average_sites(
    function: Callable[..., Any],
    sizes: Sequence[int],
    p: Any,
    *,
    mode: Mode = "inverted",
    geometric: Geometric | None = None,
    like: Any = None,
    chunk: int | None = None,
) -> Average:
    """Average a function of several dropout sites over all their masks together.

    Args:
        function: takes one array of factors a site, shape (b, size), to multiply the site's units by: 0 where
            dropped, else 1/(1−p), or 1 if classic. Returns outputs, shape (b, …).
        sizes: units of each site, at most 20 in all.
        p: drop probability in [0, 1], one number, or one entry a site: a number, or one a unit.
        mode: "inverted" or "classic".
        geometric: as in `average`.
        like: a floating-point tensor: factors are tensors of its dtype on its device. None for NumPy.
        chunk: most masks at a time; 4096 if None.

    Returns:
        As `average`; in weight scaling every factor is its expectation, 1, or 1−p if classic.

    Raises:
        TypeError: `p must be a real number, got …`; `like must be a floating-point tensor, got …`.
        ValueError: as `average`; `p must be one number or one entry for each of … sites, got …`.

    Source:
        Srivastava et al., "Dropout", JMLR 2014, section 4.

    Example:
        >>> w1, w2 = np.array([[1.0, -2.0]]), np.array([1.0, 1.0])
        >>> def network(m1, m2):
        ...     return (np.maximum(m1 @ w1 + 1, 0) * m2) @ w2
        >>> result = average_sites(network, (1, 2), 0.5)
        >>> float(result.mean), float(result.weight_scaling)
        (2.5, 2.0)
    """
    if not (like is None or _moments.is_tensor(like)):
        raise TypeError(f"like must be a torch tensor or None, got {type(like).__name__}")
    reference = np.zeros(()) if like is None else _moments.as_input(like, "like")
    entries = list(p) if isinstance(p, (list, tuple, np.ndarray)) else [p] * len(sizes)
    if len(entries) != len(sizes):
        raise ValueError(f"p must be one number or one entry for each of {len(sizes)} sites, got {p!r}")
    sites = [check_units(size, entry, mode) for size, entry in zip(sizes, entries, strict=True)]
    units = check_units(sum(sizes), np.concatenate([np.zeros(0), *(site.p for site in sites)]), mode)
    ends = np.cumsum([site.p.size for site in sites])[:-1]

    def split(factors: Doubles) -> Any:
        return function(*(_moments.like(part, reference) for part in np.split(factors, ends, axis=1)))

    return _over_factors(split, units, geometric, check_chunk(_MOST if chunk is None else chunk))


def average_linear(
    function: Callable[[Any], Any],
    x: Any,
    weight: Any,
    p: Any,
    *,
    bias: Any = 0.0,
    mode: Mode = "inverted",
    geometric: Geometric | None = None,
    chunk: int | None = None,
) -> Average:
    """Average function(dropout(x) @ weight + bias) over all masks, without a product for each.

    A mask differs from an earlier one in a single unit, so that its pre-activation is that one's plus a row
    of the weight: 20 units and 10 outputs with a ReLU take 0.1 s for all 2^20 masks, `average` 2 s.

    Args:
        function: takes pre-activations, shape (b, …, outputs), and returns outputs, shape (b, …).
        x: real numbers, shape (…, n).
        weight: shape (n, outputs): `layer.weight.T` of a torch linear layer. A tensor if x is one.
        p: as in `average`.
        bias: shape (outputs,), or a number.
        mode: "inverted" or "classic".
        geometric: as in `average`.
        chunk: most masks at a time, rounded down to a power of two.

    Returns:
        As `average`, to rounding.

    Raises:
        TypeError: as `average`.
        ValueError: as `average`; `weight must have shape (…, outputs) for x of shape …, got …`.

    Source:
        Srivastava et al., "Dropout", JMLR 2014, section 4; Gray, US patent 2,632,058, 1953 (one at a time).

    Example:
        >>> result = average_linear(np.tanh, [1.0, 2.0], [[1.0], [-1.0]], 0.5)
        >>> result.mean.round(4), result.weight_scaling.round(4)
        (array([-0.2498]), array([-0.7616]))
    """
    x, weight = _moments.as_input(x, "x"), _moments.as_input(weight, "weight")
    if x.ndim == 0 or weight.ndim != 2 or weight.shape[0] != x.shape[-1]:
        wanted = f"({x.shape[-1] if x.ndim else 'n'}, outputs)"
        raise ValueError(
            f"weight must have shape {wanted} for x of shape {tuple(x.shape)}, got {tuple(weight.shape)}"
        )
    units = check_units(x.shape[-1], p, mode)
    check_few(units.p)
    bias = bias if _moments.is_tensor(bias) else _moments.like(np.asarray(bias, dtype=np.float64), x)
    most = _inputs_at_a_time(int(np.prod(x.shape[:-1])) * weight.shape[1], chunk)
    at_mean = _product(x, weight, np.flatnonzero(units.expected), units.expected) + bias
    return moments(function, at_mean[None], _pre_activations(x, weight, bias, units, most), geometric)


def _pre_activations(
    x: Any, weight: Any, bias: Any, units: Units, most: int
) -> Iterator[tuple[Any, Doubles]]:
    """Computes pre-activations by doubling: a unit's row is added to those of the masks without it."""
    free = np.flatnonzero(undecided(units.p))
    count = min(most.bit_length() - 1, free.size)
    low, high = free[:count], free[count:]
    sums = (_product(x, weight, np.flatnonzero(units.p == 0), units.factor) + bias)[None]
    probability = np.ones(1)
    concatenate = _moments.namespace(x).concatenate
    for unit in low:
        row = _product(x, weight, np.array([unit]), units.factor)
        sums = concatenate([sums, sums + row])
        p = units.p[unit]
        probability = np.concatenate([probability * p, probability * (1 - p)])
    for keep, share in every(units.p[high], 1):
        yield sums + _product(x, weight, high[keep[0]], units.factor), probability * share


def _product(x: Any, weight: Any, units: npt.NDArray[np.intp], factor: Doubles) -> Any:
    """The part of the pre-activations that comes from these units, each times its factor."""
    chosen = units.tolist()
    return (x[..., chosen] * _moments.like(factor[units], x)) @ weight[chosen]


def _over_factors(
    function: Callable[[Doubles], Any], units: Units, geometric: Geometric | None, chunk: int
) -> Average:
    chunks = ((keep * units.factor, probability) for keep, probability in every(units.p, chunk))
    return moments(function, units.expected[np.newaxis], chunks, geometric)


def _inputs_at_a_time(numbers: int, chunk: int | None) -> int:
    return max(1, min(_MOST, _NUMBERS // max(numbers, 1))) if chunk is None else check_chunk(chunk)
