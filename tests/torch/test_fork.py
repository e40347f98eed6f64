"""Forked processes: the child has the memory of its parent's OpenMP team, and none of the threads."""

import os
import subprocess
import sys

import pytest

# The first dropout in a child whose parent's torch has used its threads; after the parent's own first; by torch,
# by NumPy; in workers of a DataLoader; and in a child's child.
CODE = """
import os, signal, sys, time, warnings
warnings.simplefilter("ignore")
import numpy as np, torch
import thinned, thinned.torch.functional as F
from thinned import Key

torch.set_num_threads(2)
thinned.set_num_threads(2)
X = torch.ones(400_000)
ONES = np.ones(400_000, np.float32)
torch.exp(X)  # starts the team

def by_torch():
    return F.dropout(X, 0.5, True, key=Key(1)).numpy().tobytes()

def by_numpy():
    return thinned.dropout(ONES, 0.5, key=Key(1), training=True).tobytes()

def both_ways():
    assert by_torch() == by_numpy()

def in_child(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return "right" if status == 0 else f"status {status}"
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hangs"

def backward():
    x = torch.from_numpy(ONES.copy()).requires_grad_()  # torch's own copy would hang
    y = F.dropout(x, 0.5, True, key=Key(1))
    F.dropout(y.detach(), 0.5, True, key=Key(1), inplace=True)

def generations():
    both_ways()
    assert in_child(both_ways) == "right"

print("first, torch:", in_child(both_ways))
print("first, NumPy:", in_child(by_numpy))
expected = by_torch()
assert expected == by_numpy()
print("after use, torch:", in_child(by_torch))
print("after use, NumPy:", in_child(by_numpy))
print("autograd and in place:", in_child(backward))
print("a child's child:", in_child(generations))

class Thinned(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, k):
        return F.dropout(X, 0.5, True, key=Key(k))

loader = torch.utils.data.DataLoader(Thinned(), 1, num_workers=2, multiprocessing_context="fork", timeout=60)
same = [torch.equal(x[0], F.dropout(X, 0.5, True, key=Key(k))) for k, x in enumerate(loader)]
print("workers:", "right" if same == [True] * 4 else same)
assert by_torch() == expected  # and the parent goes on
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_dropout_in_a_forked_child():
    child = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=False, timeout=500
    )
    said = [line.split(": ") for line in child.stdout.splitlines()]
    assert len(said) == 7, child.stderr
    assert {name: what for name, what in said if what != "right"} == {}
    assert child.returncode == 0, child.stderr
