"""Larger models whose sites all libraries reach, where the time of 100 samples is more than that of calls."""

import torch

from thinned.bench._kinds import KINDS, TORCH
from thinned.bench._models import gpt_blocks, paper_network
from thinned.bench._monte_carlo import late


def _built(make, *size):
    def build():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return make().eval(), torch.randn(*size)

    return build


MODELS = {
    "paper's network, 64 inputs": _built(lambda: paper_network(KINDS[TORCH]), 64, 784),
    "paper's network, dropout last only": _built(lambda: late(paper_network(KINDS[TORCH])), 64, 784),
    "two GPT blocks, 2 × 64 tokens": _built(lambda: gpt_blocks(KINDS[TORCH]), 2, 64, 256),
    "two GPT blocks, dropout last only": _built(lambda: late(gpt_blocks(KINDS[TORCH])), 2, 64, 256),
}
