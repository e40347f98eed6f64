"""The cases beside this file, on two and on four processes that torchrun starts."""

import os
import re
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


# Two ranks have every placement but those of a plane; four processes on two cores take three times as long.
@pytest.mark.parametrize("ranks", [2, pytest.param(4, marks=pytest.mark.full)])
def test_every_case(ranks, subtests):
    """All in one start: a process takes seconds to import what it needs, and the cases less than one each."""
    said = torchrun(ranks, FOLDER / "ranks.py", "on_mesh", "compiled:compiled", "training", "by_example")
    passed = re.findall(rf"^passed on {ranks} ranks in .* s: (.*)$", said, re.MULTILINE)
    for case in passed:
        with subtests.test(case):
            pass
    assert len(passed) >= 31, said


# Generated code, and layers: the verb's graph is above, and torch/test_rows.py has one for each part.
@pytest.mark.full
@pytest.mark.parametrize("case", ["ranks_that_share_a_cache", "compiled_layers"])
def test_compiled_code_on_two_ranks(case):
    assert case in torchrun(2, FOLDER / "ranks.py", f"compiled:{case}")


# What a process computes is held by torch/thin: here, that gradients are ordinary ones.
@pytest.mark.full
def test_thin_sites_on_two_ranks():
    assert torchrun(2, FOLDER / "ranks.py", "thinning").count("passed on 2 ranks") == 5
