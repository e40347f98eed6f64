"""Breaks of the definition."""

from breaks import of

BREAKS = of(
    "src/thinned",
    """
which units a fixed number keeps, in NumPy | _fixed.py |
    torch/thin/test_fixed.py::test_what_is_kept_is_the_definitions
-order[:, :count]
+order[:, -count:]

halfword order of the definition | contract.py | contract/test_known_answers.py
-(16 * (i & 1))
+(16 * (1 - (i & 1)))

kept where u is above D only | contract.py | contract/test_contract.py
-kept: Bools = u >= drop
+kept: Bools = u > drop

the low halfword of the definition | contract.py | contract/test_known_answers.py
-<< np.uint64(16) | halfword(key, positions, low)
+<< np.uint64(16) | np.uint64(0xFFFF)

the threshold rounded down | contract.py | contract/test_known_answers.py contract/test_contract.py
-return round(check_probability(p) * 2.0**32)
+return int(check_probability(p) * 2.0**32)

the scale by p instead of D | contract.py | contract/test_known_answers.py contract/test_contract.py
-return 2.0**32 / kept if kept else 0.0
+return 2.0**32 / (kept + 1) if kept else 0.0

bfloat16 rounded with ties away from even | contract.py | contract/test_contract.py
-np.uint64(0x7FFF) + odd
+np.uint64(0x8000)

the purpose of the definition's fold | contract.py | contract/test_known_answers.py
-PURPOSE_FOLD = 15
+PURPOSE_FOLD = 14
""",
)
