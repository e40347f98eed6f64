"""The normal quantile of CONTRACT.md, section 6, is computed here by Wichura's algorithm AS 241.

Only +, −, ·, / and the square root, which IEEE 754 rounds one way, in a fixed order: the kernel does the same
steps and has the same bits on every machine. A library's logarithm would not give that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

# M. J. Wichura, "Algorithm AS 241: the percentage points of the normal distribution", Applied Statistics 37
# (1988), 477-484, routine PPND16: constant term first.
CENTRAL_TOP: Final = (
    *(3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4),
    *(4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3),
)
CENTRAL_BOTTOM: Final = (
    *(1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3),
    *(2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3),
)
# The algorithm's last piece begins at a tail of exp(−25), below the smallest here, 2^-33.
TAIL_TOP: Final = (
    *(1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0),
    *(1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2),
    7.74545014278341407640e-4,
)
TAIL_BOTTOM: Final = (
    *(1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1),
    *(1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4),
    1.05075007164441684324e-9,
)
# log((1 + s)/(1 − s)) = 2s (1 + s²/3 + s⁴/5 + …): at |s| < 0.172 ten terms leave a tenth of a unit of the
# last place.
SERIES: Final = tuple(1.0 / k for k in range(1, 20, 2))
LOG_TWO: Final = 0.6931471805599453
SQRT_HALF: Final = np.uint64(0x3FE6A09E667F3BCD)
ONE: Final = np.uint64(1023 << 52)


def normal_quantile(q: Doubles) -> Doubles:
    """Φ⁻¹(1/2 + q) in double, for |q| ≤ 1/2 − 2^-33."""
    inner = 0.180625 - q * q
    central = _polynomial(CENTRAL_TOP, inner) * q / _polynomial(CENTRAL_BOTTOM, inner)
    distance = np.abs(q)
    is_tail = distance > 0.425
    outer = np.sqrt(-_log(0.5 - distance[is_tail])) - 1.6
    tail = _polynomial(TAIL_TOP, outer) / _polynomial(TAIL_BOTTOM, outer)
    central[is_tail] = np.copysign(tail, q[is_tail])
    return central


def _polynomial(coefficients: Sequence[float], x: Doubles) -> Doubles:
    total = np.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = total * x + c
    return total


def _log(t: Doubles) -> Doubles:
    """The natural logarithm of normal numbers: t = m · 2^e, with m within a factor of √2 of 1."""
    bits = t.view(np.uint64)
    biased = (bits - SQRT_HALF + ONE) >> np.uint64(52)
    m = (bits - (biased << np.uint64(52)) + ONE).view(np.float64)
    e = biased.astype(np.float64) - 1023.0
    s = (m - 1.0) / (m + 1.0)
    return np.asarray(e * LOG_TWO + 2.0 * s * _polynomial(SERIES, s * s))
