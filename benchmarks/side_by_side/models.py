"""Larger models whose sites all libraries reach, where the time of 100 samples is more than that of calls."""

import torch
from torch import nn

from thinned.bench._models import gpt_blocks, paper_network


class _Kind:
    """torch's own layers, for the models of the bench."""

    dropout = staticmethod(nn.Dropout)


def _built(make, *size):
    def build():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return make().eval(), torch.randn(*size)

    return build


def _late(model):
    """With dropout in its last site only."""
    sites = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    for site in sites[:-1]:
        site.p = 0.0
    return model


MODELS = {
    "paper's network, 64 inputs": _built(lambda: paper_network(_Kind), 64, 784),
    "paper's network, dropout last only": _built(lambda: _late(paper_network(_Kind)), 64, 784),
    "two GPT blocks, 2 × 64 tokens": _built(lambda: gpt_blocks(_Kind), 2, 64, 256),
    "two GPT blocks, dropout last only": _built(lambda: _late(gpt_blocks(_Kind)), 2, 64, 256),
}
