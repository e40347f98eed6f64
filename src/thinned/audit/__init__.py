"""The audit finds what is wrong with dropout in a code base: it reads files and never imports them."""

# `_check` reads files, `_source`, `_scopes` and `_names` say what is in them, `_rules` holds the rules.
# `_fix` writes edits, `_formats` prints. The command is `thinned.cli.audit`.

from thinned._installed import needs

needs("thinned.audit", "libcst", "audit")

from thinned.audit._check import DEFAULT, check, check_file, check_text
from thinned.audit._finding import Edit, Finding, Fix, Position
from thinned.audit._rules import RULES

__all__ = ["DEFAULT", "RULES", "Edit", "Finding", "Fix", "Position", "check", "check_file", "check_text"]


def __dir__() -> list[str]:
    return sorted(__all__)
