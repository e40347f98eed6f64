"""Breaks of the definition."""

from __future__ import annotations

from breaks import CONTRACT, of

BREAKS = of(
    "src/thinned",
    [
        (
            "which units a fixed number keeps, in NumPy",
            "_fixed.py",
            "order[:, :count]",
            "order[:, -count:]",
            "torch/thin/test_fixed.py::test_what_is_kept_is_the_definitions",
        ),
        (
            "halfword order of the definition",
            "contract.py",
            "(16 * (i & 1))",
            "(16 * (1 - (i & 1)))",
            CONTRACT,
        ),
        (
            "kept where u is above D only",
            "contract.py",
            "kept: Bools = u >= drop",
            "kept: Bools = u > drop",
            "contract/test_contract.py",
        ),
        (
            "the low halfword of the definition",
            "contract.py",
            "<< np.uint64(16) | halfword(key, positions, low)",
            "<< np.uint64(16) | np.uint64(0xFFFF)",
            CONTRACT,
        ),
        (
            "the threshold rounded down",
            "contract.py",
            "return round(check_probability(p) * 2.0**32)",
            "return int(check_probability(p) * 2.0**32)",
            f"{CONTRACT} contract/test_contract.py",
        ),
        (
            "the scale by p instead of D",
            "contract.py",
            "return 2.0**32 / kept if kept else 0.0",
            "return 2.0**32 / (kept + 1) if kept else 0.0",
            f"{CONTRACT} contract/test_contract.py",
        ),
        (
            "bfloat16 rounded with ties away from even",
            "contract.py",
            "np.uint64(0x7FFF) + odd",
            "np.uint64(0x8000)",
            "contract/test_contract.py",
        ),
        (
            "the purpose of the definition's fold",
            "contract.py",
            "PURPOSE_FOLD = 15",
            "PURPOSE_FOLD = 14",
            CONTRACT,
        ),
    ],
)
