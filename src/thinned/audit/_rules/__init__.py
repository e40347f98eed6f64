"""The rules, by what they are about: one file each for functions, rates, orders, modes, and frameworks."""

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
