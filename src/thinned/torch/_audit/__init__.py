"""The audit of a model: it is run a few times, and what can only be seen running is reported."""

from thinned._audit import Audit, Finding
from thinned.torch._audit._audit import audit

__all__ = ["Audit", "Finding", "audit"]
