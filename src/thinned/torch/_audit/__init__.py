"""The audit runs a model a few times, and reports what can only be seen while it runs."""

from thinned._audit import Audit, Finding
from thinned.torch._audit._audit import audit

__all__ = ["Audit", "Finding", "audit"]
