"""The rules stand here by subject: functions, rates, orders, modes, layers and frameworks.

A rule takes a file's `Source` and yields findings; its code, such as THN101, never changes its meaning.
A new rule goes into the file of its subject and is listed in the page of rules.
"""

from typing import Final

from thinned.audit._rule import Rule
from thinned.audit._rules import functions, jax, keras, layers, modes, orders, rates

__all__ = ["RULES"]

RULES: Final[dict[str, Rule]] = {
    rule.code: rule
    for rule in (
        *functions.RULES,
        *layers.RULES,
        *rates.RULES,
        *orders.RULES,
        *modes.RULES,
        *keras.RULES,
        *jax.RULES,
    )
}
