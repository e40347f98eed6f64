"""The audit of a model: it is run a few times, and what can only be seen running is reported."""

from thinned.torch._audit._audit import audit
from thinned.torch._audit._report import Audit, Finding

__all__ = ["Audit", "Finding", "audit"]
