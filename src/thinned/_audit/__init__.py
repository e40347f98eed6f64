"""This file has what audits of running models share: calls at sites, masks, rules on them, and the report.

The front ends' audits run a model and hand over `_calls`; the rules are in `_rates`, `_sharing` and
`_evaluation`. `_report` and `_summary` make the result. Nothing here imports a framework.
"""

from thinned._audit import _evaluation, _rates, _sharing
from thinned._audit._calls import (
    CHANNELS,
    ELEMENTS,
    LOCKED,
    OTHER,
    PATHS,
    Call,
    Evidence,
    Run,
    kind_of,
    rate_of,
)
from thinned._audit._report import Audit, Finding, report

__all__ = [
    "CHANNELS",
    "ELEMENTS",
    "LOCKED",
    "OTHER",
    "PATHS",
    "SHARED",
    "Audit",
    "Call",
    "Evidence",
    "Finding",
    "Run",
    "kind_of",
    "rate_of",
    "report",
]

# The rules that need no more than calls at sites.
SHARED = (*_evaluation.RULES, *_rates.RULES, *_sharing.RULES)
