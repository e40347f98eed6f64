"""DDP and FSDP2 by NCCL, a GPU to a rank: the cases of tests/distributed, which gloo runs on any machine."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "distributed"))

from test_distributed import FOLDER, torchrun

GPUS = torch.cuda.device_count()


@pytest.mark.skipif(GPUS < 2, reason=f"two GPUs are needed, and there are {GPUS}")
@pytest.mark.parametrize("ranks", [2, 4])
def test_data_parallel_training(monkeypatch, ranks):
    if ranks > GPUS:
        pytest.skip(f"{ranks} GPUs are needed, and there are {GPUS}")
    monkeypatch.setenv("RANKS_DEVICE", "cuda")
    said = torchrun(ranks, FOLDER / "ranks.py", "training")
    assert said.count(f"passed on {ranks} ranks") >= 7, said
