"""Models whose sites are thinned's own."""

from mc.zoo_models import WIDTH, Recurrent, linear
from torch import nn

import thinned.torch.nn as ours


def modules(*p):
    kinds = (ours.Dropout, ours.GaussianDropout, ours.AlphaDropout, ours.DropPath)
    drops = [nn.Sequential(linear(), nn.Tanh(), kind(each)) for kind, each in zip(kinds, p[:4], strict=True)]
    return nn.Sequential(*drops, ours.DropConnectLinear(WIDTH, WIDTH, p=p[4]))


def channels(*p):
    drops = (ours.Dropout2d(p[0]), ours.DropBlock2d(p[1], 3))
    return nn.Sequential(*(nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(), d) for d in drops), nn.Flatten())


def recurrent(weights, first, between, last):
    """In the order of execution: the recurrent weights of both layers first."""
    model = Recurrent(0.0, nn.LSTM, 2)
    rates = {"weight_p": weights, "input_p": first, "dropout": between, "output_p": last}
    model.layers = ours.LSTM(WIDTH, WIDTH, 2, batch_first=True, **rates)
    return model


def weights(p):
    return nn.Sequential(linear(), nn.Tanh(), ours.drop_connect(linear(), p=p))


class Sequence(nn.Module):
    """Words, features of a sequence, attention, a residual branch; the words dropped are the batch's."""

    def __init__(self, words, features, attention, residual):
        super().__init__()
        self.embedding = ours.EmbeddingDropout(nn.Embedding(20, WIDTH), words)
        self.locked = ours.LockedDropout(features, batch_first=True)
        self.attention = ours.ScaledDotProductAttention(attention)
        self.add = ours.DropoutAdd(residual)
        self.branch = linear()

    def forward(self, words):
        x = self.locked(self.embedding(words))
        return self.add(self.branch(self.attention(x, x, x)).tanh(), x)
