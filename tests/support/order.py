"""The order of files in a run: those that take longest come first, so that all workers end at one time.

A worker takes a whole file (`--dist loadfile`), so what a file shares is made once. Others keep their order.
"""

from __future__ import annotations

import pytest

# By the seconds of processor time that the quick tier spends in them, from 100 to 6.
SLOWEST = (
    "keras/test_backends.py",
    "triton/test_kernels.py",
    "distributed/test_distributed.py",
    "structure/test_public.py",
    "conformance/test_masks.py",
    "seams/test_torch_seams.py",
    "seams/test_torch_compiled.py",
    "mc/test_predict.py",
    "mc/test_ray.py",
    "tensorflow/test_dropout.py",
    "kernel/test_paths.py",
    "tensorflow/test_operator.py",
    "tensorflow/test_rnn.py",
    "tensorflow/test_compat.py",
    "tensorflow/test_connect.py",
    "jax/test_attention.py",
    "mc/test_jax.py",
    "seams/test_torch_recompute.py",
    "kernel/test_add.py",
    "mc/test_active.py",
    "torch/test_one_mask.py",
    "torch/test_compile.py",
)


def slowest_first(items: list[pytest.Item]) -> None:
    """Sort the items by what is known of their files."""
    known = {name: number for number, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: known.get("/".join(item.path.parts[-2:]), len(known)))
