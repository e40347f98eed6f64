"""The order of files in a run: those that take longest come first, so that all workers end at one time.

A worker takes a whole file (`--dist loadfile`), so what a file shares is made once. Others keep their order.
"""

from __future__ import annotations

import pytest

# By the seconds of processor time that the quick tier spends in them; docs/testing.md has the figures.
SLOWEST = (
    "keras/test_backends.py",
    "triton/test_kernels.py",
    "distributed/test_distributed.py",
    "conformance/test_masks.py",
    "mc/test_predict.py",
    "mc/test_ray.py",
    "mc/test_jax.py",
    "torch/test_one_mask.py",
)


def slowest_first(items: list[pytest.Item]) -> None:
    """Sort the items by what is known of their files."""
    known = {name: number for number, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: known.get("/".join(item.path.parts[-2:]), len(known)))
