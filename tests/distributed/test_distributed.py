"""The cases beside this file, on two and on four processes that torchrun starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parent

pytestmark = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="this PyTorch has no torch.distributed with gloo",
)


def torchrun(ranks, program, *arguments):
    """All that it said; a failure has it in its message."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(program), *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
    )
    if done.returncode:
        said = done.stdout.partition("torch/distributed/elastic/multiprocessing/api.py")[0]
        pytest.fail(f"{program.name} on {ranks} ranks:\n{said}", pytrace=False)
    return done.stdout


@pytest.mark.parametrize("ranks", [2, 4])
def test_every_case(ranks):
    """All in one start: a process takes seconds to import what it needs, and the cases less than one each."""
    said = torchrun(ranks, FOLDER / "ranks.py", "on_mesh", "compiled", "training", "by_example")
    assert said.count(f"passed on {ranks} ranks") >= 33, said
