"""Small models whose dropout is easily missed, one a trap; each takes its drop probabilities in order."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

WIDTH = 8


def linear():
    return nn.Linear(WIDTH, WIDTH)


class Encoder(nn.Module):
    """In evaluation under no_grad its layers take a fused path, in which there is no dropout."""

    def __init__(self, *p):
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 2 * WIDTH, dropout=0.5, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, len(p) // 4)
        for k, each in enumerate(self.encoder.layers):
            attention, each.dropout1.p, each.dropout.p, each.dropout2.p = p[4 * k : 4 * k + 4]
            each.self_attn.dropout = attention

    def forward(self, x):
        return self.encoder(x)


class Decoder(nn.Module):
    def __init__(self, *p):
        super().__init__()
        self.layer = each = nn.TransformerDecoderLayer(WIDTH, 2, 2 * WIDTH, batch_first=True)
        each.self_attn.dropout, each.dropout1.p = p[:2]
        each.multihead_attn.dropout, each.dropout2.p = p[2:4]
        each.dropout.p, each.dropout3.p = p[4:]

    def forward(self, x):
        return self.layer(x, x.flip(1))


class Attention(nn.Module):
    """A number inside a module of torch's; what comes back with the weights is another path."""

    def __init__(self, p, weights):
        super().__init__()
        self.weights = weights
        self.attention = nn.MultiheadAttention(WIDTH, 2, dropout=p, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=self.weights)[0]


class Recurrent(nn.Module):
    """A number inside a module of torch's, for each gap between two layers; the input is words."""

    def __init__(self, p, kind, layers, bidirectional=False):
        super().__init__()
        self.embedding = nn.Embedding(20, WIDTH)
        self.layers = kind(WIDTH, WIDTH, layers, dropout=p, bidirectional=bidirectional, batch_first=True)

    def forward(self, words):
        return self.layers(self.embedding(words))[0][:, -1]


class Functional(nn.Module):
    def __init__(self, p, how=F.dropout, inplace=False):
        super().__init__()
        self.first, self.second = linear(), linear()
        self.p, self.how, self.inplace = p, how, inplace

    def forward(self, x):
        x = self.how(self.first(x).tanh(), self.p, self.training, self.inplace)
        return self.second(x)


class Guarded(nn.Module):
    """Nothing is called in evaluation."""

    def __init__(self, p):
        super().__init__()
        self.first, self.second = linear(), linear()
        self.p = p

    def forward(self, x):
        x = self.first(x).tanh()
        if self.training:
            x = F.dropout(x, self.p)
        return self.second(x)


class Always(Guarded):
    """As a function drops by default: in evaluation too."""

    def forward(self, x):
        return self.second(F.dropout(self.first(x).tanh(), self.p))


class ScaledDotProduct(nn.Module):
    """The probability becomes 0 before torch sees it."""

    def __init__(self, p, residual):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.p, self.drop = p, nn.Dropout(residual)

    def forward(self, x):
        q, k, v = (part.unflatten(-1, (2, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        p = self.p if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=p)
        return x + self.drop(y.transpose(1, 2).flatten(2))


class Normalised(nn.Module):
    """What trains to drop trains BatchNorm too."""

    def __init__(self, p, channels):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, WIDTH, 3), nn.Conv2d(WIDTH, WIDTH, 3)
        self.norm1, self.norm2 = nn.BatchNorm2d(WIDTH), nn.BatchNorm2d(WIDTH, momentum=None)
        self.drop, self.drop2d = nn.Dropout(p), nn.Dropout2d(channels)
        self.norm3 = nn.BatchNorm1d(WIDTH, affine=False)

    def forward(self, x):
        x = self.drop(self.norm1(self.first(x)).relu())
        x = self.drop2d(self.norm2(self.second(x)).relu())
        return self.norm3(x.mean((-1, -2)))


class Dense(nn.Module):
    """As DenseNet's layers: a number, on new features before they join the old ones."""

    def __init__(self, *rates):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3 + 2 * k, 2, 3, padding=1) for k in range(len(rates)))
        self.drop_rates = rates

    def forward(self, x):
        for layer, drop_rate in zip(self.layers, self.drop_rates, strict=True):
            new = layer(x).relu()
            if drop_rate > 0:
                new = F.dropout(new, p=drop_rate, training=self.training)
            x = torch.cat([x, new], 1)
        return x.mean((-1, -2))


class WeightDrop(nn.Module):
    """Weights are dropped: one mask for the batch, none of whose axes is the batch's."""

    def __init__(self, p):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(WIDTH, WIDTH))
        self.p = p

    def forward(self, x):
        return F.linear(x, F.dropout(self.weight, self.p, self.training))


def parametrized(p):
    """The same as a parametrization, beside a weight that is read as it is."""
    layer = nn.Linear(WIDTH, WIDTH)
    parametrize.register_parametrization(layer, "weight", nn.Dropout(p))
    return nn.Sequential(linear(), nn.Tanh(), layer)


class Residual(nn.Module):
    """The branch is added in place: what came before may not be used twice."""

    def __init__(self, p):
        super().__init__()
        self.stem, self.branch, self.drop = linear(), linear(), nn.Dropout(p)

    def forward(self, x):
        x = self.stem(x)
        x += self.drop(self.branch(x))
        return x.relu_()


class Shared(nn.Module):
    """One layer called twice is two sites."""

    def __init__(self, p):
        super().__init__()
        self.first, self.second, self.third = linear(), linear(), linear()
        self.drop = nn.Dropout(p)

    def forward(self, x):
        x = self.drop(self.first(x).tanh())
        return self.third(self.drop(self.second(x).tanh()))


class OutOfOrder(nn.Module):
    """The last site registered is the first executed."""

    def __init__(self, first, last):
        super().__init__()
        self.drop_last = nn.Dropout(last)
        self.first, self.second, self.third = linear(), linear(), linear()
        self.drop_first = nn.Dropout(first)

    def forward(self, x):
        x = self.drop_first(self.first(x).tanh())
        return self.third(self.drop_last(self.second(x).tanh()))
