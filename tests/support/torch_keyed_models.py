"""Models that draw by torch's own functions, and their gradients under `thinned.torch.keys`."""

import torch
from torch import nn
from torch.nn import functional as F

X = torch.ones(4, 8)


class Attends(nn.Module):
    """As nanoGPT's: the probability is a number, and 0 in evaluation."""

    def __init__(self, p=0.3):
        super().__init__()
        self.qkv, self.out, self.p, self.drop = nn.Linear(8, 24), nn.Linear(8, 8), p, nn.Dropout(p)

    def forward(self, x):
        q, k, v = (part.unflatten(-1, (2, 4)).transpose(-2, -3) for part in self.qkv(x).chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=self.p if self.training else 0)
        return self.drop(self.out(y.transpose(-2, -3).flatten(-2)))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn, self.lin = Attends(), nn.Linear(8, 8)

    def forward(self, x):
        x = x + self.attn(x)
        return x + F.dropout(self.lin(x), 0.2, self.training)


def make(kind, *args, **options):
    torch.manual_seed(0)
    return kind(*args, **options).train()
